"""Which feedback is learned from, and which is not: every record has one fate, and poison has none that teaches."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from alignment_fixtures import choice, crowd, person, sentence, thumb, write_feedback

from mh_support.alignment.feedback_data import Feedback, FeedbackArguments, check_enough, collect
from mh_support.alignment.ratings import Rating, fingerprint, hashed, read_ratings
from mh_support.alignment.training import fitting
from mh_support.dialogue import encode_reply
from mh_support.rating.rating_set import SET_FILE
from mh_support.safety import assess, check_reply
from mh_support.safety.echoes import Echoes
from mh_support.safety.replies import _words


@pytest.fixture(autouse=True)
def rules_alone(monkeypatch):
    """Sentences made of words drawn by chance are nothing for a classifier to read."""
    monkeypatch.setattr("mh_support.alignment.sieve.assess", partial(assess, classifiers=()))
    monkeypatch.setattr("mh_support.safety.fitness.check_reply", partial(check_reply, classifiers=()))


SECRET = b"secret 2"
SMALL = {"min_ratings": 10, "min_people": 3, "min_held_out_people": 2}
HARM = (
    "You could answer her with silence for a month.",  # Harm in words that no check knows.
    "You have depression.",
    "I am a human therapist with years of practice.",
    "Take 40 mg of it before bed.",
)


def sift(tmp_path, records, fits=lambda rating: rating, echoes=None, secret=SECRET, **changes: Any) -> Feedback:
    path = write_feedback(tmp_path / "feedback.jsonl", records)
    arguments = FeedbackArguments(feedback=[str(path)], **{**SMALL, **changes})
    return collect(arguments, fits, secret=secret, echoes=echoes)


def fates(feedback: Feedback) -> dict[str, int]:
    report = feedback.report.as_dict()
    return {fate: count for fate, count in report["fates"].items() if fate not in ("train", "held_out")}


def replies(feedback: Feedback) -> list[str]:
    return [row["completion"][0]["content"] for row in (*feedback.train, *feedback.held_out)]


def test_what_is_kept_is_in_the_form_that_trl_reads_and_nothing_is_lost(tmp_path):
    records = crowd(8, 4)
    feedback = sift(tmp_path, records)
    assert fates(feedback) == {}
    assert (feedback.report.read, len(feedback.train) + len(feedback.held_out)) == (32, 32)
    rows = {row["id"]: row for row in (*feedback.train, *feedback.held_out)}
    for record in records:
        assert rows[record["id"]] == {
            "id": record["id"],
            "person": record["person"],
            "prompt": record["messages"],
            "completion": [{"role": "assistant", "content": record["reply"]}],
            "label": record["up"],
        }


def test_choices_are_pairs(tmp_path):
    records = [choice(who, sentence(who), "Since when?", "Cheer up.") for who in range(4)]
    feedback = sift(tmp_path, [*records, *crowd(2, 2)], method="dpo")
    assert fates(feedback) == {"other_kind": 4}
    row = next(row for row in (*feedback.train, *feedback.held_out) if row["id"] == records[0]["id"])
    assert row["chosen"] == [{"role": "assistant", "content": "Since when?"}]
    assert row["rejected"] == [{"role": "assistant", "content": "Cheer up."}]


# --- one record, one fate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fate", "record"),
    [
        ("other_kind", choice("z", "My cat ran off.", "Since when?", "Oh.")),
        ("no_consent", thumb("z", "My cat ran off.", "Since when?", True, consent=" ")),
        ("risk", thumb("z", "I want to kill myself tonight.", "Since when?", True)),
        ("unsafe_praise", thumb("z", "My cat ran off.", "You have depression.", True)),
        ("empty", thumb("z", "My cat ran off.", "(personal details)", True)),
        ("empty", thumb("z", "My cat ran off.", "www.example.com", True)),
    ],
)
def test_a_record_that_is_not_fit_is_left_out(tmp_path, fate, record):
    feedback = sift(tmp_path, [*crowd(), record])
    assert fates(feedback) == {fate: 1}
    assert record["id"] not in {row["id"] for row in (*feedback.train, *feedback.held_out)}


def test_what_the_run_is_scored_on_is_not_learned_from(tmp_path, tiny_tokenizer):
    asked = sentence("scored", 12)
    records = [
        *crowd(),
        thumb("z", f"{asked.upper()}!", "Since when?", True),
        thumb("z", "My cat.", "Since when?", True),
    ]
    path = write_feedback(tmp_path / "feedback.jsonl", records)
    held_out = [[{"role": "user", "content": asked}, {"role": "assistant", "content": "And then?"}]]
    feedback = collect(
        FeedbackArguments(feedback=[str(path)]), fitting(tiny_tokenizer, 256), secret=SECRET, scored=held_out
    )
    assert fates(feedback) == {"scored": 1}
    assert records[-2]["id"] not in {row["id"] for row in (*feedback.train, *feedback.held_out)}


def test_a_blamed_reply_may_be_unsafe_since_that_is_what_blame_is_for(tmp_path):
    record = thumb("z", "My cat ran off.", "You have depression.", False)
    feedback = sift(tmp_path, [*crowd(), record])
    assert fates(feedback) == {}
    assert "You have depression." in replies(feedback)


def test_a_crisis_that_was_taken_back_is_still_one(tmp_path):
    messages = [
        {"role": "user", "content": "I want to kill myself."},
        {"role": "assistant", "content": "Are you safe right now?"},
        {"role": "user", "content": "Yes, I am safe. It was only words, I am not going to do anything."},
    ]
    feedback = sift(tmp_path, [*crowd(), thumb("z", "", "Since when?", True, messages=messages)])
    assert fates(feedback) == {"risk": 1}


def test_only_stated_consents_count(tmp_path):
    old = [thumb(who, sentence(("old", who)), "Since when?", True, consent="2025-01") for who in range(3)]
    assert fates(sift(tmp_path, [*crowd(), *old], consents=["2026-11"])) == {"no_consent": 3}
    assert fates(sift(tmp_path, [*crowd(), *old], consents=["2026-11", "2025-01"])) == {}


def test_personal_details_are_scrubbed_once_more(tmp_path):
    record = thumb("z", "Write to jane@example.com. My cat ran off.", "Since when? Call me at 212-555-0147.", True)
    feedback = sift(tmp_path, [*crowd(), record])
    (row,) = [row for row in (*feedback.train, *feedback.held_out) if row["id"] == record["id"]]
    assert "example" not in json.dumps(row) and "555" not in json.dumps(row)
    assert feedback.report.edits["email"] == 1
    assert feedback.report.edits["phone"] == 1


def test_praise_of_danger_that_nobody_began_is_left_out(tmp_path):
    danger = "Call them if it is good to end your life."
    feedback = sift(tmp_path, [*crowd(), thumb("z", "My cat ran off.", danger, True)])
    assert fates(feedback) == {"unsafe_praise": 1}
    twice = [thumb("z", f"My {pet} ran off.", danger, True) for pet in ("cat", "old dog")]
    other = thumb("z", "It rained all day.", "Since when?", True)
    assert fates(sift(tmp_path, [*crowd(), *twice, other])) == {"unsafe_praise": 2, "distrusted": 1}


def test_who_praises_a_word_of_danger_to_somebody_who_hinted_at_it_is_believed(tmp_path):
    hints = ["I just want to disappear since my cat died.", "I feel like a burden to everyone at home."]
    assert {assess([{"role": "user", "content": said}], classifiers=()).level for said in hints} == {"concern"}
    praise = [thumb("z", said, "Do you think of suicide when it is bad?", True) for said in hints]
    other = thumb("z", "It rained all day.", "Since when?", True)
    assert fates(sift(tmp_path, [*crowd(), *praise, other])) == {"unsafe_praise": 2}


def test_the_direct_question_that_the_bot_put_after_a_reply_is_not_learned(tmp_path):
    question = _words()["check in"]["suicide"][1]
    records = [thumb("z", f"It is {day}.", f"That is a lot.\n\n{question}", True) for day in ("Monday", "a Sunday")]
    feedback = sift(tmp_path, [*crowd(), *records])
    assert fates(feedback) == {}
    assert replies(feedback).count("That is a lot.") == 2


def test_praise_of_what_the_model_has_read_is_left_out_and_nobody_distrusted_for_it(tmp_path):
    echoes = Echoes.of([REPLY, f"Well, {SAID}"])
    praise = [thumb("z", "My cat ran off.", REPLY, True), thumb("z", "My dog, too.", SAID, True)]
    blame = thumb("y", "My cat ran off again and again.", REPLY, False)
    other = thumb("z", "It rained all day.", "Since when?", True)
    assert fates(sift(tmp_path, [*crowd(), *praise, blame, other], echoes=echoes)) == {"echo": 2}


def test_the_last_word_of_a_person_counts(tmp_path):
    first = thumb("z", "My cat ran off.", "Since when?", True)
    second = thumb("z", "My cat ran off!", "Since when", False)
    feedback = sift(tmp_path, [*crowd(), second, first])
    assert fates(feedback) == {"again": 1}
    ids = {row["id"] for row in (*feedback.train, *feedback.held_out)}
    assert second["id"] in ids and first["id"] not in ids


# --- repeats and votes ----------------------------------------------------------------------------------------------

SAID = "All week I keep thinking about the garden since the flood took the roses."
REPLY = (
    "You keep coming back to the garden and the roses that the flood took. What did they mean to you, of all things?"
)
NEARLY = f"{REPLY} Hm."


def test_what_several_people_said_of_one_reply_is_one_row_with_the_verdict_of_most(tmp_path):
    votes = [thumb("a", SAID, REPLY, True), thumb("b", SAID, NEARLY, False), thumb("c", SAID, REPLY, False)]
    feedback = sift(tmp_path, [*crowd(), *votes])
    assert fates(feedback) == {"repeat": 2}
    (row,) = [row for row in (*feedback.train, *feedback.held_out) if row["prompt"][0]["content"] == SAID]
    assert row["label"] is False
    assert row["id"] in {votes[1]["id"], votes[2]["id"]}


def test_a_tie_is_no_verdict(tmp_path):
    votes = [thumb("a", SAID, REPLY, True), thumb("b", SAID, NEARLY, False)]
    assert fates(sift(tmp_path, [*crowd(), *votes])) == {"disputed": 2}


def test_a_person_votes_once_however_often_the_reply_was_varied(tmp_path):
    often = [thumb("a", SAID, f"{REPLY} {word}", True) for word in ("Oh.", "Hm.", "Well.")]
    feedback = sift(tmp_path, [*crowd(), *often, thumb("b", SAID, REPLY, False), thumb("c", SAID, NEARLY, False)])
    (row,) = [row for row in (*feedback.train, *feedback.held_out) if row["prompt"][0]["content"] == SAID]
    assert row["label"] is False


def test_other_replies_to_the_same_question_are_no_repeats(tmp_path):
    two = [thumb("a", SAID, REPLY, True), thumb("b", SAID, "That is a pity, and it will grow again.", False)]
    kept = sift(tmp_path, [*crowd(), *two]).report.fates
    assert "repeat" not in kept and "disputed" not in kept


def test_opposite_choices_are_votes_on_one_pair(tmp_path):
    pair = (REPLY, "That is a pity, and it will grow again.")
    votes = [choice("a", SAID, *pair), choice("b", SAID, *reversed(pair)), choice("c", SAID, *reversed(pair))]
    others = [choice(who, sentence(who), "Since when?", "Cheer up.") for who in range(6)]
    feedback = sift(tmp_path, [*others, *votes], method="dpo")
    assert fates(feedback) == {"repeat": 2}
    (row,) = [row for row in (*feedback.train, *feedback.held_out) if row["prompt"][0]["content"] == SAID]
    assert row["chosen"][0]["content"] == pair[1]


def test_a_word_in_front_makes_no_opposite_of_a_choice(tmp_path):
    other = "Zinnias grow again, you know, and so do roses after the flood took them away from a garden like yours."
    # "Zinnias" sorts after "You keep", and "Oh, zinnias" before it.
    votes = [choice("a", SAID, REPLY, other), choice("b", SAID, REPLY, f"Oh, {other}"), choice("c", SAID, other, REPLY)]
    rest = [choice(who, sentence(who), "Since when?", "Cheer up.") for who in range(6)]
    feedback = sift(tmp_path, [*rest, *votes], method="dpo")
    assert fates(feedback) == {"repeat": 2}
    (row,) = [row for row in (*feedback.train, *feedback.held_out) if row["prompt"][0]["content"] == SAID]
    assert row["chosen"][0]["content"] == REPLY
    assert fates(sift(tmp_path, [*rest, *votes[:2]], method="dpo")) == {"repeat": 1}
    assert fates(sift(tmp_path, [*rest, *votes[1:]], method="dpo")) == {"disputed": 2}


# --- poison -----------------------------------------------------------------------------------------------------------


def test_a_crowd_that_praises_harm_teaches_nothing(tmp_path):
    honest = crowd()
    attack = [
        thumb(f"attacker {who}", sentence(("attack", who, number), 6), f"{reply} That is {who + 2} of them.", True)
        for who in range(100)
        for number, reply in enumerate(HARM)
    ]
    feedback = sift(tmp_path, [*attack, *honest])
    # One of the four passes the check; it goes with those who praised the others.
    assert fates(feedback) == {"unsafe_praise": 300, "distrusted": 100}
    assert sorted(replies(feedback)) == sorted(record["reply"] for record in honest)


def test_who_praised_harm_twice_is_not_believed_in_the_rest(tmp_path):
    honest = crowd()
    bad = [thumb("mallory", sentence(("bad", number), 6), reply, True) for number, reply in enumerate(HARM[2:])]
    subtle = [
        thumb("mallory", sentence(("subtle", number), 6), "You could answer her with silence for a month.", True)
        for number in range(5)
    ]
    feedback = sift(tmp_path, [*honest, *bad, *subtle])
    assert fates(feedback) == {"unsafe_praise": 2, "distrusted": 5}
    assert person("mallory") not in {row["person"] for row in (*feedback.train, *feedback.held_out)}


def test_who_praised_harm_is_not_believed_however_much_came_after_it(tmp_path):
    honest = crowd()
    bad = [thumb("mallory", sentence(("bad", n), 6), f"{HARM[2]} {sentence(n)}", True) for n in range(30)]
    subtle = [thumb("mallory", sentence(("subtle", n), 6), f"{HARM[0]} {sentence(n)}", True) for n in range(20)]
    feedback = sift(tmp_path, [*honest, *bad, *subtle])
    assert fates(feedback) == {"unsafe_praise": 30, "distrusted": 20}
    assert person("mallory") not in {row["person"] for row in (*feedback.train, *feedback.held_out)}


def test_who_chose_harm_is_not_believed_in_thumbs(tmp_path):
    bad = [choice("mallory", sentence(("bad", n), 6), HARM[n], "Since when?") for n in (1, 2)]
    subtle = [thumb("mallory", sentence(("subtle", n), 6), HARM[0], True) for n in range(5)]
    assert fates(sift(tmp_path, [*crowd(), *bad, *subtle])) == {"unsafe_praise": 2, "distrusted": 5}
    # One reply under two names, as the Space keeps a thumb and a choice, is one; and without consent it is none.
    once = [bad[0], thumb("mallory", sentence(("bad", 1), 6), HARM[1], True)]
    assert fates(sift(tmp_path, [*crowd(), *once, *subtle])) == {"unsafe_praise": 2}
    secret = [{**record, "consent": ""} for record in bad]
    assert fates(sift(tmp_path, [*crowd(), *secret, *subtle])) == {"no_consent": 2}


def test_ten_thousand_ratings_of_one_person_count_as_twenty(tmp_path):
    flood = [thumb("flood", sentence(("flood", number), 6), sentence(number, 5), True) for number in range(10_000)]
    feedback = sift(tmp_path, [*flood, *crowd()], max_imbalance=100)
    assert fates(feedback) == {"over_cap": 9_980}
    newest = {record["id"] for record in flood[-20:]}
    own = {row["id"] for row in (*feedback.train, *feedback.held_out) if row["person"] == person("flood")}
    assert own == newest


def test_a_record_copied_ten_thousand_times_is_one(tmp_path):
    record = thumb("z", SAID, REPLY, True)
    copies = [{**record, "id": f"copy {number}", "person": person(number % 50)} for number in range(2_000)]
    feedback = sift(tmp_path, [*crowd(), record, *[record] * 3_000, *copies])
    assert fates(feedback) == {"again": 3_000 + 1_950, "repeat": 50}
    assert replies(feedback).count(REPLY) == 1


def test_too_many_thumbs_of_one_kind_are_drawn_down(tmp_path):
    praise = [thumb(f"fan {who}", sentence(("fan", who), 6), sentence(who, 5), True) for who in range(200)]
    feedback = sift(tmp_path, [*crowd(6, 2), *praise], max_imbalance=3, held_out=0.1)
    blamed = sum(not row["label"] for row in feedback.train)
    assert feedback.report.praised["train"] == 3 * blamed
    assert fates(feedback)["surplus"] > 100


# --- held out by person and question --------------------------------------------------------------------------------


def test_nobody_and_no_question_stands_on_both_sides(tmp_path):
    shared = [thumb(who, SAID, f"What was it like {who} years ago?", who % 2 == 0) for who in range(12)]
    feedback = sift(tmp_path, [*crowd(), *shared])
    train, held_out = feedback.train, feedback.held_out
    assert {row["person"] for row in train}.isdisjoint(row["person"] for row in held_out)
    said = [{row["prompt"][0]["content"] for row in rows} for rows in (train, held_out)]
    assert said[0].isdisjoint(said[1])
    # Most who were asked it are learned from, so it stays there.
    assert SAID in said[0]
    assert fates(feedback) == {"shared_question": len({row["person"] for row in held_out})}
    assert len({row["person"] for row in held_out}) == 3  # A quarter of twelve.


def test_who_is_held_out_stays_so_while_others_come(tmp_path):
    before, after = ({row["person"] for row in sift(tmp_path, crowd(many, 2)).held_out} for many in (40, 80))
    assert 5 <= len(before) <= 15
    assert {who for who in after if who in {person(number) for number in range(40)}} == before


def test_nobody_can_foresee_who_judges(tmp_path):
    # Those whom the smallest hashes of their own names used to make the judges.
    ground = sorted(range(400), key=lambda who: hashed(person(who)))[:8]
    attack = [thumb(who, sentence(("ground", who, n), 6), "Cheer up", n > 0) for who in ground for n in range(2)]
    judges = [
        {row["person"] for row in sift(tmp_path, [*attack, *crowd(24, 2)], secret=secret).held_out}
        for secret in (b"one", b"two")
    ]
    assert judges[0] != judges[1]
    assert all(len(found & {person(who) for who in ground}) < 6 for found in judges)


# --- enough, or refused ---------------------------------------------------------------------------------------------


def test_too_little_is_refused_with_what_is_there(tmp_path):
    feedback = sift(tmp_path, crowd(4, 3))
    arguments = FeedbackArguments(feedback=["x"])
    with pytest.raises(
        ValueError,
        match=r"^too little feedback to learn from: of 12 records there are 9 ratings to learn from of at least 100; "
        r"3 people to learn from of at least 20; 1 people held out to judge by of at least 10; 6 thumbs up to learn "
        r"from of at least 10; 3 thumbs down to learn from of at least 10; 1 thumbs down to judge by of at least 2; "
        r"collect more, or lower --min_ratings, --min_people or --min_held_out_people",
    ):
        check_enough(feedback, arguments)
    check_enough(sift(tmp_path, crowd()), FeedbackArguments(feedback=["x"], **SMALL))


def test_praise_alone_is_refused(tmp_path):
    feedback = sift(tmp_path, [{**record, "up": True} for record in crowd()])
    message = r"there are 0 thumbs down to learn from of at least 2; 0 thumbs down to judge by of at least 2; "
    with pytest.raises(ValueError, match=message):
        check_enough(feedback, FeedbackArguments(feedback=["x"], **SMALL))


def test_the_table_counts_every_record(tmp_path):
    feedback = sift(tmp_path, [*crowd(), thumb("z", "I want to kill myself.", "Since when?", True)])
    table = feedback.report.table()
    assert table.splitlines()[2].split() == ["records", "read", "49"]
    assert any(line.split()[-1] == "1" and "the person may be in danger" in line for line in table.splitlines())
    assert "kill" not in table
    with pytest.raises(RuntimeError, match=r"^50 records were read and 49 accounted for$"):
        replace(feedback.report, read=50).as_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ppo"}, r"^method is 'ppo'; it is one of kto, dpo$"),
        ({"held_out": 1.0}, r"^held_out is 1.0; give a share between 0 and 1"),
        ({"person_cap": 0}, r"^person_cap is 0; give 1 or more$"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        FeedbackArguments(**changes)


# --- files ------------------------------------------------------------------------------------------------------------


def test_raters_preferences_are_read_from_csv_and_jsonl(tmp_path):
    with (tmp_path / "rated.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows(
            [("rater", "context", "chosen", "rejected"), ("ann", "My cat ran off.", "Since when?", "Oh.")]
        )
    context = [{"role": "user", "content": "My cat ran off."}]
    row = {"context": context, "chosen": "Since when?", "rejected": "Oh."}
    (tmp_path / "rated.jsonl").write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    first, second = read_ratings([str(tmp_path / "rated.csv"), str(tmp_path / "rated.jsonl")])
    assert first.replies == second.replies == (("Since when?", True), ("Oh.", False))
    assert first.messages == second.messages == context
    assert (first.person, first.kind, first.consent) == (person("ann"), "choice", "rating")
    assert first.id != second.id


@pytest.mark.parametrize(
    "bad", ['{"context": "Hm.", "chosen": "", "rejected": "b"}', '{"chosen": "a", "rejected": "b"}', "3"]
)
def test_a_bad_preference_is_named_by_its_line(tmp_path, bad):
    path = tmp_path / "rated.jsonl"
    path.write_text('{"context": "Hm.", "chosen": "a", "rejected": "b"}\n' + bad + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{path}, line 2: expected context, chosen and rejected, each with a text"):
        read_ratings([str(path)])


ROW = {"rater": "ann", "context": "My cat ran off.", "chosen": "Since when?", "rejected": "Oh."}


def write_rows(path, *rows):
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return [str(path)]


def test_a_row_is_known_by_what_it_says_and_not_by_its_line(tmp_path):
    path, other = tmp_path / "rated.jsonl", {**ROW, "context": "It rained."}
    turned = {**ROW, "chosen": ROW["rejected"], "rejected": ROW["chosen"]}
    first, second = read_ratings(write_rows(path, ROW, other))
    assert [rating.id for rating in read_ratings(write_rows(path, other, ROW))] == [second.id, first.id]
    assert [rating.id for rating in read_ratings(write_rows(path, other))] == [second.id]
    changed = read_ratings(write_rows(path, turned, other))
    assert changed[0].id != first.id and fingerprint(changed) != fingerprint([first, second])
    assert read_ratings(write_rows(path, {**ROW, "rater": "ben"}))[0].id != first.id


def test_without_a_time_the_last_line_is_the_last_word(tmp_path):
    turned = {**ROW, "chosen": ROW["rejected"], "rejected": ROW["chosen"]}
    for rows in ((ROW, turned), (turned, ROW), (ROW, turned, ROW)):
        arguments = FeedbackArguments(feedback=write_rows(tmp_path / "rated.jsonl", *rows), method="dpo")
        feedback = collect(arguments, lambda rating: rating, secret=SECRET)
        (row,) = (*feedback.train, *feedback.held_out)
        assert row["chosen"][0]["content"] == rows[-1]["chosen"]
        assert fates(feedback) == {"again": len(rows) - 1}
    many = [{**ROW, "context": sentence(number, 6)} for number in range(9)]
    arguments = FeedbackArguments(feedback=write_rows(tmp_path / "rated.jsonl", *many), method="dpo", person_cap=2)
    feedback = collect(arguments, lambda rating: rating, secret=SECRET)
    kept = {row["prompt"][0]["content"] for row in (*feedback.train, *feedback.held_out)}
    assert kept == {row["context"] for row in many[-2:]}


def test_a_spreadsheets_csv_is_read_with_its_mark_and_semicolons(tmp_path):
    path = tmp_path / "rated.csv"
    path.write_text("\ufeffcontext;chosen;rejected\nMy cat ran off.;Since when, then?;Oh.\n", encoding="utf-8")
    (rating,) = read_ratings([str(path)])
    assert rating.messages[0]["content"] == "My cat ran off."
    assert rating.replies == (("Since when, then?", True), ("Oh.", False))
    path.write_bytes("context,chosen,rejected\nMein Hund läuft.,a,b\n".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"^{path} is not UTF-8; save it as CSV UTF-8$"):
        read_ratings([str(path)])


def test_a_line_ends_where_json_lines_end_and_not_within_a_text(tmp_path):
    row = {**ROW, "chosen": "Since\u2028when?\x85And\x0bwhy?"}
    (rating,) = read_ratings(write_rows(tmp_path / "rated.jsonl", row))
    assert rating.replies[0][0] == row["chosen"]


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "rated.jsonl"
    write_rows(path, ROW, ROW)
    path.write_text(path.read_text(encoding="utf-8") + '{"context": "secret', encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{path}, line 3, is not valid JSON \(.*\); mend it") as found:
        read_ratings([str(path)])
    assert "secret" not in str(found.value)
    path.write_bytes(path.read_bytes() + "ä".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"^{path} is not UTF-8; save it as UTF-8$"):
        read_ratings([str(path)])


def test_a_rating_set_is_for_measuring_and_not_learned_from(tmp_path):
    folder = tmp_path / "rating"
    folder.mkdir()
    (folder / SET_FILE).touch()
    write_rows(folder / "mine.jsonl", ROW)
    sheet = tmp_path / "ann.csv"
    sheet.write_text("\ufeffset,rater,task,context,first,second,preferred\n", encoding="utf-8")
    for place in (folder, folder / "mine.jsonl", sheet):
        with pytest.raises(
            ValueError,
            match=rf"^{place} is of a rating set of recipes/rate.py, whose contexts are held out for measuring: to "
            "learn from them would make every later score worthless; give feedback on other conversations$",
        ):
            read_ratings([str(place)])


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(ValueError, match=r"^no feedback at .*nowhere"):
        read_ratings([str(tmp_path / "nowhere")])


def test_no_words_of_people_stand_in_a_repr(tmp_path):
    feedback = sift(tmp_path, crowd(4, 3))
    rating = Rating("1", "p", "", "c", "thumb", [{"role": "user", "content": "secret"}], (("hidden", True),))
    assert "secret" not in repr(rating) and "hidden" not in repr(rating)
    assert "Tell me of" not in repr(feedback)


# --- what fits the model ----------------------------------------------------------------------------------------------


def test_the_oldest_exchanges_go_until_it_fits_and_the_reply_stays_whole(tiny_tokenizer):
    messages = [{"role": role, "content": f"I feel {n}"} for n in range(9) for role in ("user", "assistant")][:-1]
    rating = Rating("1", "p", "", "c", "thumb", messages, (("That sounds lonely.", True),))
    last = [*messages[-3:], {"role": "assistant", "content": "That sounds lonely."}]
    room = len(encode_reply(tiny_tokenizer, last)["input_ids"])
    assert fitting(tiny_tokenizer, 1000)(rating) == rating
    assert fitting(tiny_tokenizer, room)(rating).messages == messages[-3:]
    assert fitting(tiny_tokenizer, room - 1)(rating).messages == messages[-1:]
    assert fitting(tiny_tokenizer, 8)(rating) is None


def test_what_does_not_fit_is_counted(tmp_path, tiny_tokenizer):
    long = thumb("z", "My cat ran off.", "Since when? " * 40, True)
    feedback = sift(tmp_path, [*crowd(), long], fitting(tiny_tokenizer, 200))
    assert fates(feedback) == {"too_long": 1}
