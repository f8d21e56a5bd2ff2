"""What people who agreed to it thought of replies: thumbs, and choices between two replies, to learn from later.

A store writes one JSON-lines file in a folder that any number of processes share. Each record is scrubbed, written
under a lock and on the disk before the person is thanked; what a kill leaves unfinished is passed over by the reader.
Nothing is kept of a conversation that ever held a crisis. A person is known by the hash of a code that only they have,
and takes all of their records back with it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

# A lock of the operating system's ends with the process that holds it, also by kill -9. filelock wraps it alike on
# every system, and comes with huggingface_hub and datasets already.
from filelock import FileLock

from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import scrub
from mh_support.dialogue import Message, check_messages
from mh_support.files import replacing, sweep_drafts
from mh_support.safety import assess

if TYPE_CHECKING:
    from mh_support.feedback_upload import FeedbackUpload

MAX_CHARACTERS = 8_000  # Of one message or reply.
MAX_REASON_CHARACTERS = 1_000
MAX_MESSAGES = 200
MAX_RECORD_CHARACTERS = 24_000  # Of a record's messages together; of a longer conversation the latest are kept.
# More than a person rates by hand. A flood under ever new codes is stopped by the second number: with it, a process
# writes at most some 100 MB an hour.
RECORDS_PER_PERSON_AND_HOUR = 60
RECORDS_PER_HOUR = 1_000
REMOVED = "(personal details)"  # Stands for a message that was nothing else.

_HOUR = 3_600.0
_LOCK_SECONDS = 20.0
# Crockford's base 32: no I, L, O or U, which are read as other signs or make words.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE = re.compile(rf"[{_ALPHABET}]{{16}}")
_MISREAD = str.maketrans("ILO", "110", "- ")
_COMMON = {"id", "person", "time", "consent", "model", "messages", "kind", "reason"}
_KINDS = {"thumb": {"reply", "up"}, "choice": {"chosen", "rejected"}}
_REPLIES = {"reply", "chosen", "rejected"}


def new_code() -> str:
    """Return a code of 80 random bits that is easy to write down; show it to the person once, and keep it nowhere."""
    signs = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return "-".join(signs[start : start + 4] for start in range(0, 16, 4))


def person_of(code: str) -> str:
    """Return the hash that stands for a person in records; case, dashes and O for 0 do not matter.

    Raises:
        ValueError: this is no code.
    """
    signs = code.upper().translate(_MISREAD) if isinstance(code, str) else ""
    if not _CODE.fullmatch(signs):
        raise ValueError("this is not a feedback code; it has 16 letters and digits, as in 0J4W-7KQT-M2XB-9RCD")
    return hashlib.sha256(signs.encode()).hexdigest()


class FeedbackStore:
    """Writes feedback into a file of its own in `folder`. Safe from any thread.

    Example:
        >>> store = FeedbackStore("feedback", model={"name": "starter", "fingerprint": None}, consent="2026-11")
        >>> code, messages = new_code(), [{"role": "user", "content": "I feel alone."}]
        >>> proof = store.sign(messages, "Since when?")  # when the bot replies
        >>> store.add_thumb(code, messages, "Since when?", True, proof=proof)  # when the person rates
        '5f0c7e...'
        >>> store.delete(code)
        1

    Args:
        folder: made if it is missing, readable by its owner alone.
        model: "name" and "fingerprint" (or None) of the model that writes the replies.
        consent: version of the text that people agreed to.
        secret: what replies are signed with; by default one made for this process, so that proofs end with it. Several
            processes behind one address need the same.
        upload: where the records go besides.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        model: Mapping[str, str | None],
        consent: str,
        secret: bytes | None = None,
        upload: FeedbackUpload | None = None,
    ) -> None:
        if not consent:
            raise ValueError("consent is empty; give the version of the text that people agree to")
        if set(model) != {"name", "fingerprint"}:
            raise ValueError(f"model has the keys {sorted(model)}; give name and fingerprint (which may be None)")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = self.folder / f"feedback-{uuid.uuid4().hex}.jsonl"
        self._model, self._consent = dict(model), consent
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._recent: deque[tuple[float, str]] = deque()
        self._counting = Lock()
        self._upload = upload

    def sign(self, messages: Sequence[Message], reply: str) -> str:
        """Return the proof that this server's model gave `reply` to `messages`; the page hands it back with a rating.

        Sign what the model wrote (`stream.kind == "model"`); from the fixed replies there is nothing to learn.
        """
        said = json.dumps([check_messages(messages), reply.strip(), self._model], sort_keys=True)
        return hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()

    def add_thumb(
        self,
        code: str,
        messages: Sequence[Message],
        reply: str,
        up: bool,
        reason: str | None = None,
        *,
        proof: str,
    ) -> str | None:
        """Keep a thumb up or down and return the record's id; None where the conversation holds a crisis.

        A later thumb on the same reply is a record of its own; the later one counts.

        Raises:
            ValueError: no code; a text too long; too many records this hour; or the bot did not give this reply.
            OSError: the disk refuses; then nothing is kept.
        """
        if not isinstance(up, bool):
            raise ValueError(f"up is {type(up).__name__}; give True for a thumb up, False for a thumb down")
        return self._add(code, messages, {"kind": "thumb", "reply": reply, "up": up}, reason, [(reply, proof)])

    def add_choice(
        self,
        code: str,
        messages: Sequence[Message],
        chosen: str,
        rejected: str,
        reason: str | None = None,
        *,
        proofs: tuple[str, str],
    ) -> str | None:
        """Keep which of two replies to the same messages was preferred; `proofs` are theirs, the chosen one's first.

        Returns and raises what `add_thumb` does.
        """
        signed = list(zip((chosen, rejected), proofs, strict=True))
        return self._add(code, messages, {"kind": "choice", "chosen": chosen, "rejected": rejected}, reason, signed)

    def delete(self, code: str) -> int:
        """Remove every record of a person from every process's file, and return how many there were.

        Each file is replaced whole, so that a crash leaves it as it was or without them; calling again goes on.

        Raises:
            ValueError: no code.
            OSError: the disk refuses, or the data set that they were uploaded to; call again.
        """
        person, removed = person_of(code), 0
        with folder_lock(self.folder):
            sweep_drafts(self.folder)  # A deletion that was killed leaves a draft, which holds what others wrote.
            for path in sorted(self.folder.glob("*.jsonl")):
                removed += _without(path, person)
        if self._upload is not None:
            self._upload.push()
        return removed

    def _add(
        self,
        code: str,
        messages: Sequence[Message],
        rating: dict[str, Any],
        reason: str | None,
        signed: Sequence[tuple[str, str]],
    ) -> str | None:
        person, conversation = person_of(code), check_messages(messages)
        _check_sizes(conversation, [reply for reply, _ in signed], reason)
        if not conversation or conversation[-1]["role"] != "user":
            raise ValueError("the rated conversation does not end with something the person said")
        for reply, proof in signed:
            if not hmac.compare_digest(self.sign(conversation, reply).encode(), str(proof).encode()):
                raise ValueError("this reply was not given here, or before the server was started anew; not kept")
        if _ever_a_crisis([*conversation, {"role": "user", "content": reason or ""}]):
            return None
        self._count(person)
        record = {
            "id": uuid.uuid4().hex,
            "person": person,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "consent": self._consent,
            "model": self._model,
            "messages": _latest([{**turn, "content": _scrubbed(turn["content"])} for turn in conversation]),
            **{key: _scrubbed(value) if key in _REPLIES else value for key, value in rating.items()},
            "reason": _scrubbed(reason) if reason else None,
        }
        self._append(record)
        return str(record["id"])

    def _count(self, person: str) -> None:
        """Refuse a flood; what is counted is forgotten after an hour."""
        now = time.monotonic()
        with self._counting:
            while self._recent and self._recent[0][0] <= now - _HOUR:
                self._recent.popleft()
            if sum(other == person for _, other in self._recent) >= RECORDS_PER_PERSON_AND_HOUR:
                raise ValueError(f"{RECORDS_PER_PERSON_AND_HOUR} ratings an hour are the most a person can give")
            if len(self._recent) >= RECORDS_PER_HOUR:
                raise ValueError(f"{RECORDS_PER_HOUR} ratings an hour are the most that are kept; try again later")
            self._recent.append((now, person))

    def _append(self, record: Mapping[str, Any]) -> None:
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        # Opened for each record: a deletion may have put another file in its place.
        with folder_lock(self.folder):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                try:
                    if file.write(line) != len(line):
                        raise OSError("the disk took only a part of the record; free some space")
                    os.fsync(descriptor)
                except OSError:
                    os.truncate(self.path, size)  # Or the next record would be glued to half a line.
                    raise
            if size == 0:
                _sync_folder(self.folder)


def folder_lock(folder: Path) -> FileLock:
    """Return the lock under which any process changes the files of a feedback folder."""
    return FileLock(folder / ".lock", timeout=_LOCK_SECONDS, mode=0o600, poll_interval=0.01)


def read_feedback(path_or_folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of a file, or of every file in a folder, oldest first; an unfinished last line is passed over.

    Raises:
        ValueError: no such file or folder, or a line is not a record; the message names the file and the line.
    """
    place = Path(path_or_folder)
    if not place.exists():
        raise ValueError(f"no feedback at {place}; give the folder that the server writes it to")
    paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
    records = [record for path in paths for record in _records(path)]
    return sorted(records, key=lambda record: record["time"])


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        problem = _problem(record)
        if problem is not None:
            raise ValueError(f"{path}, line {number}: {problem}; remove the line, or restore the file")
        yield record


def _problem(record: Any) -> str | None:
    """Say what is wrong with a record, without a word of what it holds."""
    if not isinstance(record, dict):
        return "not a JSON object"
    kind = record.get("kind")
    if kind not in _KINDS:
        return "its kind is neither thumb nor choice"
    wanted = _COMMON | _KINDS[kind]
    if set(record) != wanted:
        return f"its keys differ from those of a {kind} in {', '.join(sorted(set(record) ^ wanted))}"
    texts = {"id", "person", "time", "consent", *(_KINDS[kind] - {"up"})}
    wrong = sorted(key for key in texts if not isinstance(record[key], str))
    if "up" in wanted and not isinstance(record["up"], bool):
        wrong.append("up")
    if not isinstance(record["model"], dict):
        wrong.append("model")
    if record["reason"] is not None and not isinstance(record["reason"], str):
        wrong.append("reason")
    try:
        conversation = check_messages(record["messages"])
    except ValueError:
        conversation = []
    if not conversation or conversation[-1]["role"] != "user":
        wrong.append("messages")
    return f"{', '.join(wrong)} cannot be what was written" if wrong else None


def _check_sizes(messages: Sequence[Message], replies: Sequence[str], reason: str | None) -> None:
    if len(messages) > MAX_MESSAGES:
        raise ValueError(f"the conversation has {len(messages)} messages; at most {MAX_MESSAGES} can be rated")
    texts = [*(message["content"] for message in messages), *replies]
    if any(len(text) > MAX_CHARACTERS for text in texts):
        raise ValueError(f"a text has more than {MAX_CHARACTERS} characters, which is the most that is kept")
    if reason is not None and len(reason) > MAX_REASON_CHARACTERS:
        raise ValueError(f"the reason has {len(reason)} characters; at most {MAX_REASON_CHARACTERS} are kept")


def _ever_a_crisis(messages: Sequence[Message]) -> bool:
    """Whether any turn was a crisis, also one that the person has taken back since."""
    # A crisis begins in one turn, or in a yes to the question before it: looking at pairs takes linear time.
    turns = [place for place, message in enumerate(messages) if message["role"] == "user"]
    return assess(messages).is_crisis or any(
        assess(messages[max(0, place - 1) : place + 1]).is_crisis for place in turns
    )


def _scrubbed(text: str) -> str:
    return scrub(clean_text(text)).text.strip() or REMOVED


def _latest(messages: Sequence[Message]) -> list[Message]:
    """Return the latest messages that fit a record; the last always does."""
    kept, room = [messages[-1]], MAX_RECORD_CHARACTERS - len(messages[-1]["content"])
    for message in reversed(messages[:-1]):
        room -= len(message["content"])
        if room < 0:
            break
        kept.insert(0, message)
    return kept


def _without(path: Path, person: str) -> int:
    """Rewrite a file without a person's lines, if it has any, and return how many. An unfinished line goes too."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and not _is_of(line, person)]
    if len(kept) == len(lines):
        return 0
    with replacing(path) as draft, os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)
    return sum(line.endswith(b"\n") for line in lines) - len(kept)


def _is_of(line: bytes, person: str) -> bool:
    try:
        return bool(json.loads(line)["person"] == person)
    except (ValueError, KeyError, TypeError, RecursionError):
        return person.encode() in line  # A damaged line that names the person is theirs.


def _sync_folder(folder: Path) -> None:
    """Bring a new or replaced file's name to the disk, where a folder can be opened for it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
