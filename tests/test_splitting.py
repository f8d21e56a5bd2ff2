"""No question in two splits: what counts as one question, how groups become splits, and that the check finds leaks."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from mh_support.data.splitting import (
    LEAK,
    NEAR_DUPLICATE,
    group_by_question,
    jaccard,
    near_duplicates,
    normalise,
    question_keys,
    shared_questions,
    shingles,
    split_by_question,
)


def asked(*turns):
    """Return a dialogue in which a person says `turns`, each answered."""
    return [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn}, {"role": "assistant", "content": "I hear you."})
    ]


def near(text, words=1):
    """Return `text` with its last words changed."""
    kept = text.rstrip(".").split()
    return " ".join([*kept[:-words], *["changed"] * words])


# ---- what is one question --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  I feel LOW,\n today!!", "i feel low today"),
        ("Straße STRASSE", "strasse strasse"),
        ("don't — e-mail_me 24/7", "don t e mail_me 24 7"),
        ("😢 ...", ""),
        ("我很难过。", "我很难过"),
        ("", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


def test_question_keys():
    opening = "One two three four five six seven eight."
    assert question_keys(asked("Hi!", "I feel low")) == ["hi i feel low"]
    assert question_keys(asked(opening)) == ["one two three four five six seven eight"]
    assert question_keys(asked(opening, "And you?")) == [
        "one two three four five six seven eight and you",
        "one two three four five six seven eight",
    ]
    assert question_keys(asked("One two three four five six seven.", "x")) == ["one two three four five six seven x"]
    assert question_keys([{"role": "assistant", "content": "Hello"}]) == [""]


def test_shingles_and_jaccard():
    assert shingles("a b a b") == {"a", "b", "a b", "b a"}
    assert shingles("a") == {"a"}
    assert shingles("") == set()
    assert jaccard({"a", "b"}, {"b", "c"}) == 1 / 3
    assert jaccard({"a"}, {"a"}) == 1.0
    assert jaccard({"a"}, set()) == 0.0
    assert jaccard(set(), set()) == 1.0


@pytest.mark.parametrize("threshold", [NEAR_DUPLICATE, LEAK, 0.85])
def test_near_duplicates_are_those_of_an_exhaustive_search(made_up, threshold):
    rng = random.Random(0)
    texts = []
    for number in range(60):
        words = normalise(made_up(number, 20)).split()
        for changes in (0, 1, 2, 3):
            changed = list(words)
            for place in rng.sample(range(20), changes):
                changed[place] = "other"
            texts.append(" ".join(changed))
    sets = [shingles(text) for text in texts]
    pairs = [
        (one, two) for two in range(len(texts)) for one in range(two) if jaccard(sets[one], sets[two]) >= threshold
    ]
    assert len(pairs) > 50
    assert sorted(near_duplicates(texts, threshold=threshold)) == sorted(pairs)


def test_the_threshold_itself_is_near_enough(made_up):
    texts = [normalise(made_up(1, 20)), normalise(near(made_up(1, 20)))]
    exactly = jaccard(*map(shingles, texts))
    assert exactly == 37 / 41
    assert list(near_duplicates(texts, threshold=exactly)) == [(0, 1)]
    assert list(near_duplicates(texts, threshold=exactly + 1e-9)) == []


def test_near_duplicates_with_nothing_in_them():
    assert list(near_duplicates([])) == []
    assert list(near_duplicates(["", "a b", ""])) == []


def test_the_same_question_is_one_group(made_up):
    one, two = made_up(1), made_up(2)
    dialogues = [
        asked(one),
        asked(two),
        asked(f"  {one.upper()}!!"),
        asked(near(one)),
        asked(two, "x"),
        asked(made_up(3)),
    ]
    assert group_by_question(dialogues) == [0, 1, 0, 0, 1, 5]


def test_groups_reach_across_others(made_up):
    words = made_up(1, 30).split()
    chain = [" ".join([*words[place:], *words[:place]]) for place in range(4)]
    steps = [" ".join(["new"] * changes + words[changes:]) for changes in range(0, 12, 2)]
    assert group_by_question([asked(text) for text in chain]) == [0, 0, 0, 0]
    ends = jaccard(shingles(normalise(steps[0])), shingles(normalise(steps[-1])))
    assert ends < NEAR_DUPLICATE
    assert group_by_question([asked(text) for text in steps]) == [0] * 6


def test_a_short_opening_makes_no_group(made_up):
    assert group_by_question([asked("Hi", made_up(1)), asked("Hi", made_up(2)), asked("Hi")]) == [0, 1, 2]


def test_what_holds_no_words_is_one_question():
    assert group_by_question([asked("😢"), asked("a b c"), asked("...")]) == [0, 1, 0]
    assert group_by_question([]) == []


def test_huge_groups(made_up):
    text = made_up(1)
    same = [asked(text) for _ in range(2000)]
    alike = [asked(f"{made_up(2, 30)} {made_up(number + 10, 1)}") for number in range(200)]
    others = [asked(made_up(number + 1000)) for number in range(20)]
    groups = group_by_question([*same, *alike, *others])
    assert Counter(groups).most_common(3) == [(0, 2000), (2000, 200), (2200, 1)]
    splits = {"train": [], "validation": [], "test": []}
    for dialogue, split in zip([*same, *alike, *others], split_by_question(groups, seed=1), strict=True):
        splits[split].append(dialogue)
    assert same[0] in splits["train"]
    assert shared_questions(splits) == []
    splits["test"].append(same[0])
    assert shared_questions(splits) == [
        ("train", row, "test", len(splits["test"]) - 1)
        for row, dialogue in enumerate(splits["train"])
        if dialogue == same[0]
    ]


# ---- groups to splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_questions_of_one_row_split_exactly(seed):
    assert Counter(split_by_question(range(1000), seed=seed)) == {"train": 800, "validation": 100, "test": 100}


def test_a_seed_gives_one_split_for_good():
    expected = split_by_question(range(10), seed=42)
    assert [number for number, split in enumerate(expected) if split != "train"] == [3, 7]
    assert (expected[7], expected[3]) == ("test", "validation")
    assert split_by_question(range(10), seed=42) == expected
    assert len({tuple(split_by_question(range(30), seed=seed)) for seed in range(20)}) == 20


@pytest.mark.parametrize("seed", range(10))
def test_splits_are_near_their_shares_and_groups_stay_whole(seed):
    rng = random.Random(seed)
    groups = [group for group in range(80) for _ in range(rng.choice([1, 1, 1, 2, 3, 5, 8]))]
    rng.shuffle(groups)
    splits = split_by_question(groups, seed=seed)
    homes = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        homes[group].add(split)
    assert all(len(where) == 1 for where in homes.values())
    shares = {split: count / len(groups) for split, count in Counter(splits).items()}
    assert 0.7 <= shares["train"] <= 0.8
    assert 0.1 <= shares["validation"] <= 0.15
    assert 0.1 <= shares["test"] <= 0.15


@pytest.mark.parametrize("seed", range(10))
def test_no_split_is_empty_whatever_the_sizes(seed):
    rng = random.Random(seed)
    for _ in range(200):
        sizes = [rng.choice([1, 2, 5, 30, 1000]) for _ in range(rng.randint(3, 8))]
        splits = split_by_question([group for group, size in enumerate(sizes) for _ in range(size)], seed=seed)
        counts = Counter(splits)
        assert set(counts) == {"train", "validation", "test"}, sizes
        assert counts["train"] == max(counts.values()), sizes


@pytest.mark.parametrize("sizes", [[1, 1, 1000], [1, 1, 1, 1000], [1000] + [1] * 50, [500, 500] + [1] * 40])
def test_a_huge_group_is_for_training(sizes):
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    for seed in range(50):
        splits = dict(zip(groups, split_by_question(groups, seed=seed), strict=True))
        assert all(splits[group] == "train" for group, size in enumerate(sizes) if size > 100)
        assert {"validation", "test"} < set(splits.values())


def test_a_group_of_the_size_of_a_split_can_be_held_out():
    groups = [*[0] * 10, *range(1, 91)]
    homes = {split_by_question(groups, seed=seed)[0] for seed in range(100)}
    assert homes == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            [],
            r"^0 different questions left after cleaning, at least 3 are needed to split into train, validation, test",
        ),
        ([4, 4], r"^1 different question left after cleaning, "),
        ([0, 1, 1, 0], r"^2 different questions left after cleaning, at least 3 are needed .*; give more dialogues$"),
    ],
)
def test_too_few_questions(groups, message):
    with pytest.raises(ValueError, match=message):
        split_by_question(groups, seed=1)


# ---- the check -------------------------------------------------------------------------------------------------------


def test_the_check_finds_planted_leaks_and_nothing_else(made_up):
    splits = {
        "train": [asked(made_up(number)) for number in range(30)],
        "validation": [asked(made_up(number)) for number in range(30, 40)],
        "test": [asked(made_up(number)) for number in range(40, 50)],
    }
    assert shared_questions(splits) == []
    splits["test"][3] = asked(f"  {made_up(7).upper()} ?")  # the same as train 7
    splits["validation"][0] = asked(made_up(5), "more")  # opens like train 5
    splits["test"][9] = asked(f"{made_up(35)} oh")  # nearly validation 5
    expected = [("train", 5, "validation", 0), ("train", 7, "test", 3), ("validation", 5, "test", 9)]
    assert shared_questions(splits) == expected


def test_the_check_gives_each_pair_of_rows_once(made_up):
    one = asked(made_up(1), "more")
    assert shared_questions({"train": [one, one], "test": [one]}) == [("train", 0, "test", 0), ("train", 1, "test", 0)]


def test_the_check_finds_a_question_at_the_same_place(made_up):
    assert shared_questions({"train": [asked(made_up(1))], "test": [asked(made_up(1))]}) == [("train", 0, "test", 0)]


def test_the_check_leaves_one_split_alone(made_up):
    assert shared_questions({"train": [asked(made_up(1))] * 3, "validation": [], "test": []}) == []
    assert shared_questions({}) == []


@pytest.mark.parametrize("seed", range(4))
def test_what_is_grouped_and_split_passes_the_check(made_up, seed):
    rng = random.Random(seed)
    dialogues = []
    for number in range(120):
        text = made_up(number, 16)
        for _ in range(rng.choice([1, 1, 2, 4])):
            words = text.split()
            for place in rng.sample(range(16), rng.choice([0, 0, 1, 2, 3])):
                words[place] = rng.choice(["oh", "well", "so"])
            dialogues.append(asked(" ".join(words), *(["And then?"] if rng.random() < 0.3 else [])))
    rng.shuffle(dialogues)
    assigned = split_by_question(group_by_question(dialogues), seed=seed)
    splits = {name: [] for name in ("train", "validation", "test")}
    for dialogue, split in zip(dialogues, assigned, strict=True):
        splits[split].append(dialogue)
    assert shared_questions(splits) == []
