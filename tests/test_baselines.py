"""Replies that need no model, and the items that everything is scored on."""

from __future__ import annotations

import pytest

from mh_support.baselines import (
    CONSTANT_REPLY,
    ScoredItem,
    constant_replies,
    human_replies,
    nearest_replies,
    random_replies,
    scored_items,
)
from mh_support.safety import check_reply


def dialogue(*turns: str) -> dict:
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]
    return {"messages": messages}


def item(said: str, *references: str, group: str | None = None) -> ScoredItem:
    return ScoredItem([{"role": "user", "content": said}], list(references), group or said)


# --- items ------------------------------------------------------------------------------------------------------------


def test_each_turn_of_the_supporter_is_an_item():
    first = dialogue("I feel low.", "Since when?", "A week", "That is long.")
    items = scored_items([first])
    assert [(len(one.context), one.references, one.group) for one in items] == [
        (1, ["Since when?"], "i feel low"),
        (3, ["That is long."], "i feel low"),
    ]
    assert items[1].context == first["messages"][:3]


def test_a_context_answered_several_times_is_one_item_with_all_references():
    items = scored_items(
        [
            dialogue("I feel low.", "Since when?"),
            dialogue("Other", "One"),
            # The same question but for case and punctuation.
            dialogue("I FEEL LOW", "I see."),
            dialogue("I feel low.", "Since when?"),
            dialogue("I feel low.", "Since when?", "A week", "I see."),
        ]
    )
    assert [(one.group, one.references) for one in items] == [
        ("i feel low", ["Since when?", "I see."]),
        ("other", ["One"]),
        ("i feel low", ["I see."]),
    ]
    # The context is the first one's, to the letter.
    assert items[0].context == [{"role": "user", "content": "I feel low."}]


def test_what_was_said_before_makes_another_context():
    items = scored_items([dialogue("Hi", "Hello", "Low", "I see."), dialogue("Hi", "Hey", "Low", "Since when?")])
    assert [one.references for one in items] == [["Hello", "Hey"], ["I see."], ["Since when?"]]


def test_a_dialogue_that_ends_with_the_person_has_no_item_for_that():
    assert [one.references for one in scored_items([dialogue("Hi", "Hello", "Low")])] == [["Hello"]]
    assert scored_items([]) == []


def test_an_item_keeps_what_people_wrote_out_of_its_repr():
    assert repr(item("something private", "as is this")) == "ScoredItem()"


# --- replies ----------------------------------------------------------------------------------------------------------


def test_the_constant_reply_is_one_kind_sentence_for_everyone():
    assert constant_replies([item("a", "b"), item("c", "d")]) == [CONSTANT_REPLY, CONSTANT_REPLY]
    assert check_reply(CONSTANT_REPLY).ok
    assert constant_replies([]) == []


TRAINING = [
    item("I cannot sleep at night", "Sleep well.", "Rest."),
    item("My boss shouts at me", "Shouting hurts."),
    item("I miss my mother", "Grief takes time."),
]


def test_random_replies_are_training_replies_and_follow_the_seed():
    items = [item(f"question {number}", "x") for number in range(200)]
    replies = random_replies(items, TRAINING, seed=7)
    assert set(replies) == {"Sleep well.", "Rest.", "Shouting hurts.", "Grief takes time."}
    assert replies == random_replies(items, TRAINING, seed=7)
    assert replies != random_replies(items, TRAINING, seed=8)
    # What one item gets does not depend on those after it.
    assert random_replies(items[:9], TRAINING, seed=7) == replies[:9]


def test_a_random_reply_is_to_another_question():
    for seed in range(30):
        first, second, third = random_replies(TRAINING, TRAINING, seed=seed)
        assert first in ("Shouting hurts.", "Grief takes time.")
        assert second in ("Sleep well.", "Rest.", "Grief takes time.")
        assert third in ("Sleep well.", "Rest.", "Shouting hurts.")


def test_where_there_is_one_question_only_its_replies_are_drawn():
    assert random_replies(TRAINING[1:2], TRAINING[1:2], seed=0) == ["Shouting hurts."]


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("At night I cannot sleep", "Sleep well."),
        ("The boss of mine shouts", "Shouting hurts."),
        ("MOTHER, I MISS YOU", "Grief takes time."),
    ],
)
def test_the_nearest_reply_is_that_to_the_most_similar_question(said, reply):
    assert nearest_replies([item(said, "x")], TRAINING) == [reply]


def test_the_nearest_is_sought_in_all_that_the_person_said_and_nothing_else():
    context = dialogue("Hello there", "My boss shouts at me too", "I miss my mother")["messages"]
    assert nearest_replies([ScoredItem(context, ["x"], "hello there")], TRAINING) == ["Grief takes time."]


def test_a_training_item_is_not_nearest_to_its_own_question():
    near = item("I cannot sleep at all at night", "Breathe.")
    assert nearest_replies([near, TRAINING[0]], [*TRAINING, near]) == ["Sleep well.", "Breathe."]
    # Nor to another turn of its dialogue, which begins with the same question.
    later = ScoredItem([*near.context, *near.context], ["And out."], near.group)
    assert nearest_replies([near], [*TRAINING, near, later]) == ["Sleep well."]


def test_without_a_word_in_common_there_is_still_a_reply():
    assert nearest_replies([item("zzz", "x")], TRAINING) == ["Sleep well."]


# --- people -----------------------------------------------------------------------------------------------------------


def test_one_human_reply_is_scored_against_the_others_where_there_are_others():
    items = [item("a", "one"), item("b", "two", "three"), item("c", "four", "five", "six")]
    for seed in range(20):
        pairs = human_replies(items, seed=seed)
        assert len(pairs) == 2
        assert sorted([pairs[0][0], *pairs[0][1]]) == ["three", "two"]
        assert sorted([pairs[1][0], *pairs[1][1]]) == ["five", "four", "six"]
        assert pairs[1][1] == [text for text in ("four", "five", "six") if text != pairs[1][0]]
        assert pairs == human_replies(items, seed=seed)
    assert len({human_replies(items, seed=seed)[1][0] for seed in range(20)}) == 3
    assert human_replies(items[:1], seed=0) == []
