"""Feedback: scrubbed, on the disk before it is thanked for, never of a crisis, and gone when its person says so."""

from __future__ import annotations

import calendar
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from training_fixtures import load_recipe

import mh_support.feedback as feedback
from mh_support.feedback import REMOVED, FeedbackStore, new_code, person_of, read_feedback

MODEL = {"name": "starter", "fingerprint": "ab12"}
REPLY = "That sounds lonely. Since when?"
OTHER = "You moved here alone. What do you miss most?"


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


ALONE = said("I feel alone since I moved here.")


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback", model=MODEL, consent="1")


def thumb(store, code, messages=ALONE, reply=REPLY, up=True, reason=None):
    return store.add_thumb(code, messages, reply, up, reason, proof=store.sign(messages, reply))


def choice(store, code, messages=ALONE, chosen=REPLY, rejected=OTHER, reason=None):
    proofs = (store.sign(messages, chosen), store.sign(messages, rejected))
    return store.add_choice(code, messages, chosen, rejected, reason, proofs=proofs)


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_thumb_is_written_as_its_readers_expect(store):
    code, before = new_code(), int(time.time())
    identity = thumb(store, code, up=False, reason="It did not listen.")
    records = read_feedback(store.folder)
    assert before <= calendar.timegm(time.strptime(records[0]["time"], "%Y-%m-%dT%H:%M:%SZ")) <= time.time()
    assert records == [
        {
            "id": identity,
            "person": person_of(code),
            "time": records[0]["time"],
            "consent": "1",
            "model": MODEL,
            "messages": ALONE,
            "kind": "thumb",
            "reply": REPLY,
            "up": False,
            "reason": "It did not listen.",
        }
    ]
    assert store.path.read_bytes().count(b"\n") == 1
    assert code.encode() not in store.path.read_bytes()


def test_a_choice_holds_both_replies(store):
    choice(store, new_code())
    (record,) = read_feedback(store.path)
    assert (record["kind"], record["chosen"], record["rejected"], record["reason"]) == ("choice", REPLY, OTHER, None)


def test_what_identifies_a_person_is_not_written(store):
    messages = said("Mail me at jane@example.org, I feel alone.", "I hear you. Ring 212-555-0147.", "212-555-0148")
    thumb(store, new_code(), messages, "Look at www.example.com. I am here.", reason="I am at jane@example.org")
    (record,) = read_feedback(store.path)
    written = json.dumps({name: record[name] for name in ("messages", "reply", "reason")})  # Ids may hold any digits.
    for part in ("jane", "example", "212", "0147", "0148"):
        assert part not in written
    assert "jane" not in store.path.read_text(encoding="utf-8")
    assert record["messages"][-1]["content"] == REMOVED


def test_of_a_long_conversation_the_latest_messages_are_kept(store):
    long = "The garden is full of beans this year, and the cat sleeps in them. " * 60
    messages = said(*(f"{long}{number}" for number in range(9)))
    thumb(store, new_code(), messages)
    kept = read_feedback(store.path)[0]["messages"]
    assert [message["content"][-1] for message in kept] == ["4", "5", "6", "7", "8"]
    assert sum(len(message["content"]) for message in kept) <= feedback.MAX_RECORD_CHARACTERS


# --- a crisis ---------------------------------------------------------------------------------------------------------

CRISIS = "I am going to kill myself tonight."


@pytest.mark.parametrize(
    "messages",
    [
        said(CRISIS),
        said("I feel low.", "What happened?", CRISIS, "Please call somebody.", "ok thanks"),
        # Taken back since: a crisis was still in this conversation.
        said(CRISIS, "Are you safe now?", "Yes, I am safe now, I am with my sister.", "Good.", "We cooked pasta."),
        said("I feel low.", "Are you thinking about suicide?", "yes"),
    ],
)
def test_nothing_is_kept_of_a_conversation_with_a_crisis_in_it(store, messages):
    assert thumb(store, new_code(), messages) is None
    assert choice(store, new_code(), messages) is None
    assert list(store.folder.glob("*.jsonl")) == []


def test_nor_where_the_crisis_stands_in_the_reason(store):
    assert thumb(store, new_code(), reason=CRISIS) is None
    assert list(store.folder.glob("*.jsonl")) == []


# --- forged, too long, too many ---------------------------------------------------------------------------------------

FORGED = "this reply was not given here, or before the server was started anew; not kept"


def test_a_reply_that_was_not_given_is_refused(store, tmp_path):
    code, proof = new_code(), store.sign(ALONE, REPLY)
    with pytest.raises(ValueError, match=FORGED):
        store.add_thumb(code, ALONE, "Forged words.", True, proof=proof)
    with pytest.raises(ValueError, match=FORGED):
        store.add_thumb(code, said("Something else."), REPLY, True, proof=proof)
    with pytest.raises(ValueError, match=FORGED):
        store.add_choice(code, ALONE, REPLY, "Forged words.", proofs=(proof, proof))
    for wrong in ("", "0" * 64, "é", None):
        with pytest.raises(ValueError, match=FORGED):
            store.add_thumb(code, ALONE, REPLY, True, proof=wrong)
    elsewhere = FeedbackStore(tmp_path / "elsewhere", model=MODEL, consent="1")
    with pytest.raises(ValueError, match=FORGED):
        elsewhere.add_thumb(code, ALONE, REPLY, True, proof=proof)
    assert read_feedback(store.folder) == []


def test_processes_with_one_secret_take_each_others_proofs_for_the_same_model(tmp_path):
    secret = b"s" * 32
    first, second = (FeedbackStore(tmp_path, model=MODEL, consent="1", secret=secret) for _ in range(2))
    assert second.add_thumb(new_code(), ALONE, REPLY, True, proof=first.sign(ALONE, REPLY)) is not None
    other = FeedbackStore(tmp_path, model={"name": "other", "fingerprint": None}, consent="1", secret=secret)
    with pytest.raises(ValueError, match=FORGED):
        other.add_thumb(new_code(), ALONE, REPLY, True, proof=first.sign(ALONE, REPLY))


def test_the_page_may_hand_the_conversation_back_in_another_shape(store):
    parts = [{"role": "user", "content": [{"type": "text", "text": ALONE[0]["content"]}]}]
    assert store.add_thumb(new_code(), parts, f" {REPLY}\n", True, proof=store.sign(ALONE, REPLY)) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reply": "a" * 8_001}, "a text has more than 8000 characters"),
        ({"messages": said("a" * 8_001)}, "a text has more than 8000 characters"),
        ({"reason": "a" * 1_001}, "the reason has 1001 characters; at most 1000 are kept"),
        ({"messages": said(*["Hm."] * 201)}, "the conversation has 201 messages; at most 200 can be rated"),
        ({"messages": said("Hi.", "Hello.")}, "does not end with something the person said"),
        ({"up": "yes"}, "up is str; give True for a thumb up"),
        ({"reason": ["x"]}, "a reply or reason is not a text; give them as the page shows them"),
    ],
)
def test_what_is_no_rating_is_refused(store, change, message):
    with pytest.raises(ValueError, match=message):
        thumb(store, new_code(), **change)
    assert read_feedback(store.folder) == []


def test_a_person_and_everybody_together_are_bounded_by_the_hour(store, monkeypatch):
    monkeypatch.setattr(feedback, "RECORDS_PER_PERSON_AND_HOUR", 2)
    monkeypatch.setattr(feedback, "RECORDS_PER_HOUR", 3)
    now = 1_000.0
    monkeypatch.setattr(feedback.time, "monotonic", lambda: now)
    code = new_code()
    assert thumb(store, code) is not None
    now += 60
    assert thumb(store, code) is not None
    with pytest.raises(ValueError, match="2 ratings an hour are the most a person can give"):
        thumb(store, code)
    assert thumb(store, new_code()) is not None
    with pytest.raises(ValueError, match="3 ratings an hour are the most that are kept; try again later"):
        thumb(store, new_code())
    now += 3_541  # An hour after the first.
    assert thumb(store, code) is not None
    assert len(read_feedback(store.folder)) == 4


def test_the_store_says_what_it_needs(tmp_path):
    with pytest.raises(ValueError, match="consent is empty; give the version of the text"):
        FeedbackStore(tmp_path, model=MODEL, consent="")
    with pytest.raises(ValueError, match=r"model has the keys \['name'\]; give name and fingerprint"):
        FeedbackStore(tmp_path, model={"name": "x"}, consent="1")


# --- codes ------------------------------------------------------------------------------------------------------------


def test_a_code_may_be_written_down_carelessly():
    assert person_of("0123-4567-89AB-CDEF") == person_of("oi23 4567 89ab cdef")
    codes = {new_code() for _ in range(100)}
    assert len({person_of(code) for code in codes}) == 100
    assert all(len(code) == 19 and not set("ILOU") & set(code) for code in codes)


@pytest.mark.parametrize("code", ["", "0123", "0123-4567-89AB-CDE!", "../../etc/passwd", "0" * 17, None, "\u0660" * 16])
def test_what_is_no_code_is_refused(store, code):
    with pytest.raises(ValueError, match="not a feedback code; it has 16 letters and digits"):
        store.delete(code)
    with pytest.raises(ValueError, match="not a feedback code"):
        thumb(store, code)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_line_that_is_no_record_is_named_without_its_words(store):
    thumb(store, new_code(), said("A secret worry."))
    good = json.loads(store.path.read_text(encoding="utf-8"))
    for broken, problem in [
        ("{", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ("[]", "not a JSON object"),
        (json.dumps(good | {"kind": "star"}), "its kind is neither thumb nor choice"),
        (json.dumps(good | {"kind": []}), "its kind is neither thumb nor choice"),
        (json.dumps(good | {"more": 1}), "its keys differ from those of a thumb in more"),
        (json.dumps(good | {"up": 1, "reason": 2}), "up, reason cannot be what was written"),
        (json.dumps(good | {"messages": said("a", "b")}), "messages cannot be what was written"),
    ]:
        path = store.folder / "broken.jsonl"
        path.write_text(f"{json.dumps(good)}\n{broken}\n", encoding="utf-8")
        with pytest.raises(ValueError, match=rf"broken\.jsonl, line 2: {problem}; remove the line") as raised:
            read_feedback(store.folder)
        assert "secret" not in str(raised.value)


def test_an_unfinished_last_line_is_passed_over(store):
    thumb(store, new_code())
    whole = read_feedback(store.folder)
    with store.path.open("ab") as file:
        file.write(store.path.read_bytes()[:50])
    assert read_feedback(store.folder) == whole


def test_where_there_is_nothing_to_read_it_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"no feedback at .*missing; give the folder"):
        read_feedback(tmp_path / "missing")


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_only_the_owner_can_read_the_files(store):
    code = new_code()
    thumb(store, code)
    thumb(store, new_code())
    store.delete(code)
    assert (store.folder.stat().st_mode & 0o777, store.path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_each_record_is_on_the_disk_before_its_id_is_given(store, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    thumb(store, new_code())
    assert synced == [str(store.path), str(store.folder)]


def test_a_full_disk_leaves_no_half_line(store, monkeypatch):
    thumb(store, new_code())
    fsync = os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        thumb(store, new_code())
    monkeypatch.setattr(os, "fsync", fsync)
    thumb(store, new_code())
    assert len(read_feedback(store.folder)) == 2


# --- many processes, killed and deleting ------------------------------------------------------------------------------

WRITER = """
import sys
import mh_support.feedback as feedback
feedback.RECORDS_PER_PERSON_AND_HOUR = feedback.RECORDS_PER_HOUR = 10**9
store = feedback.FeedbackStore(sys.argv[1], model={"name": "starter", "fingerprint": None}, consent="1")
messages = [{"role": "user", "content": "I feel alone since I moved here."}]
proof = store.sign(messages, "Since when?")
for line in sys.stdin:
    print(store.add_thumb(line.strip(), messages, "Since when?", True, proof=proof), flush=True)
"""


class Writer:
    """A process that writes a record for each code it is sent and prints its id; `ids` holds those seen so far."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ids: list[str] = []

    def send(self, *codes: str) -> None:
        self.process.stdin.write("".join(f"{code}\n" for code in codes))
        self.process.stdin.flush()

    def read(self, count: int) -> None:
        """Wait until it has written `count` records more."""
        self.ids += [self.process.stdout.readline().strip() for _ in range(count)]

    def kill(self) -> None:
        """Kill it as nothing can guard against, and take what it had still printed."""
        self.process.kill()
        *whole, _ = self.process.stdout.read().split("\n")
        self.ids += whole
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait() == -signal.SIGKILL


def test_what_was_thanked_for_survives_kill_9(tmp_path):
    writers = [Writer(tmp_path) for _ in range(2)]
    for writer, count in zip(writers, (3, 20), strict=True):
        writer.send(*[new_code()] * 2_000)
        writer.read(count)
        writer.kill()
        assert count <= len(writer.ids) < 2_000  # It was killed in the middle of its work.
        assert set(writer.ids) <= {record["id"] for record in read_feedback(tmp_path)}
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_deleting_takes_one_person_out_of_the_files_of_living_processes(store):
    mine, theirs = new_code(), new_code()
    writers = [Writer(store.folder) for _ in range(2)]
    for writer in writers:
        writer.send(mine, theirs, mine)
        writer.read(3)
    thumb(store, mine)
    for writer in writers:
        writer.send(*[theirs] * 40)  # They write on while the person's records are taken out.
    assert store.delete(mine) == 5
    for writer in writers:
        writer.read(40)
        writer.kill()
    records = read_feedback(store.folder)
    assert {record["person"] for record in records} == {person_of(theirs)}
    assert {record["id"] for record in records} == {writer.ids[1] for writer in writers} | {
        identity for writer in writers for identity in writer.ids[3:]
    }
    assert (store.delete(mine), store.delete(theirs), read_feedback(store.folder)) == (0, 82, [])


def test_threads_write_whole_lines_beside_each_other(store):
    with ThreadPoolExecutor(8) as people:
        ids = list(people.map(lambda _: [thumb(store, new_code()), choice(store, new_code())], range(12)))
    assert {record["id"] for record in read_feedback(store.folder)} == {identity for pair in ids for identity in pair}
    assert len(list(store.folder.glob("*.jsonl"))) == 1


DELETER = """
import os, sys
from mh_support.feedback import FeedbackStore
store = FeedbackStore(sys.argv[1], model={"name": "starter", "fingerprint": None}, consent="1")
fsync, calls = os.fsync, []
def killed(descriptor):
    fsync(descriptor)
    os.kill(os.getpid(), 9)
os.fsync = killed
store.delete(sys.argv[2])
"""


def test_a_deletion_that_is_killed_loses_nobody_elses_records_and_is_finished_by_the_next(store):
    mine, theirs = new_code(), new_code()
    kept = [thumb(store, code) for code in (mine, theirs)][1]
    finished = subprocess.run([sys.executable, "-c", DELETER, str(store.folder), mine])
    assert finished.returncode == -signal.SIGKILL
    assert len(read_feedback(store.folder)) == 2  # The file is as it was.
    assert len(list(store.folder.glob(".feedback-*"))) == 1  # What the kill left holds others' words,
    assert store.delete(mine) == 1
    assert list(store.folder.glob(".feedback-*")) == []  # and goes with the next deletion.
    assert [record["id"] for record in read_feedback(store.folder)] == [kept]
    assert thumb(store, theirs) is not None  # The lock was not left behind.


def test_the_records_of_one_conversation_can_be_taken_out_alone(store):
    mine, theirs = new_code(), new_code()
    ids = [thumb(store, mine), thumb(store, mine, up=False), thumb(store, theirs)]
    assert store.delete(mine, ids[1:]) == 1  # Not the other person's, whose id is among them.
    assert [record["id"] for record in read_feedback(store.folder)] == [ids[0], ids[2]]


def test_half_a_line_of_a_killed_process_goes_with_a_deletion(store, tmp_path):
    code = new_code()
    thumb(store, code)
    line = store.path.read_bytes()
    other = store.folder / "feedback-killed.jsonl"
    other.write_bytes(line[: len(line) // 2])
    assert store.delete(code) == 1
    assert other.read_bytes() == b""
    assert store.path.read_bytes() == b""


def test_a_damaged_line_is_deleted_by_its_person_and_kept_for_others(store):
    code = new_code()
    damaged = [b"{not json}\n", b'{"person": "' + person_of(code).encode() + b'", broken\n']
    other = store.folder / "feedback-other.jsonl"
    other.write_bytes(b"".join(damaged))
    assert store.delete(code) == 1
    assert other.read_bytes() == damaged[0]


# --- from the command line --------------------------------------------------------------------------------------------


def test_ratings_are_counted_and_taken_out_from_the_command_line(store, capsys):
    recipe, code, other = load_recipe("feedback"), new_code(), new_code()
    for person, up in ((code, True), (code, False), (other, True)):
        thumb(store, person, up=up)
    choice(store, other)
    recipe.main([str(store.folder)])
    assert capsys.readouterr().out.splitlines()[2].split() == ["starter", "2", "1", "1", "2"]
    recipe.main([str(store.folder), "--delete_code", code.lower()])
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "taken out: 2"
    assert last.split() == ["starter", "1", "0", "1", "1"]
    with pytest.raises(ValueError, match=r"no feedback at .*missing; give the folder that the server writes it to"):
        recipe.main([str(store.folder / "missing"), "--delete_code", code])
