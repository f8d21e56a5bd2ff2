"""How the crisis check reads: what lowers a match, conversations, long text, and the tables of the rules."""

import json
import re
from importlib.resources import files

import pytest
from safety_fixtures import assess, check_reply, said

from mh_support.safety import Assessment, Span
from mh_support.safety.crisis_rules import CATEGORIES, LEVELS, Context, Rule, around, matches, pattern_of, rules
from mh_support.safety.plain_words import plain_words

# --- What lowers a match, and what does not


@pytest.mark.parametrize(
    ("sentence", "level"),
    [
        ("I'm not suicidal.", "none"),
        ("I'm not suicidal. I want to kill myself.", "crisis"),
        ("I'm not not suicidal.", "crisis"),
        ("I'm not only sad, I'm suicidal.", "crisis"),
        ("I don't want to die, I want to die.", "crisis"),
        ("I would never hurt myself.", "none"),
        ("I can't promise I would never hurt myself.", "crisis"),
        ("I have never thought about suicide.", "none"),
        ("I can't go a day without thinking about suicide.", "crisis"),
        ("My doctor asked if I was thinking of suicide and I said no.", "none"),
        ("Years ago I tried to kill myself.", "concern"),
        ("Years ago I tried to kill myself, I'm well now.", "none"),
        ("Years ago I tried to kill myself and now I want to again.", "crisis"),
        ("Years ago I lost my job and I want to die.", "crisis"),
        ("They told me to kill myself.", "concern"),
        ("The voices told me to kill myself.", "crisis"),
        ("I told them to kill me because I want to die.", "crisis"),
        ("In the movie he wants to die.", "concern"),
        ("In the movie he wants to die and I feel the same.", "crisis"),
        ("My brother killed himself.", "concern"),
        ("My brother killed himself and I want to join him.", "crisis"),
        ("My brother wants to kill himself.", "crisis"),
        ("I cut myself while cooking.", "none"),
        ("I cut myself while cooking, on purpose.", "crisis"),
        ("I took all my pills as prescribed.", "none"),
        ("I took all my pills at once.", "emergency"),
        ("I took all my prescription pills.", "emergency"),
        ("I overdosed on chocolate.", "none"),
        ("I almost overdosed.", "none"),
        ("I think I overdosed.", "emergency"),
        ("My chest pain turned out to be a panic attack.", "concern"),
        ("I have chest pain and it isn't anxiety.", "emergency"),
        ("He beat me at tennis.", "none"),
        ("He beat me at home.", "crisis"),
        ("He has a gun for hunting.", "none"),
        ("He has a gun for hunting and he is drunk.", "emergency"),
    ],
)
def test_what_lowers_a_match(sentence, level):
    assert assess(said(sentence)).level == level


# --- Conversations


@pytest.mark.parametrize(
    ("turns", "levels"),
    [
        (["I want to die.", "I don't know.", "My cat is hungry."], ["crisis", "crisis", "crisis"]),
        (["I want to die.", "I'm safe now, my sister is with me.", "Thanks."], ["crisis", "concern", "concern"]),
        (["I want to die.", "I'm not safe.", "I don't feel safe."], ["crisis"] * 3),
        (["I want to die.", "I wish I was safe.", "Am I safe?", "If I were safe, I'd sleep."], ["crisis"] * 4),
        (["I want to die.", "I'm safe for now but I don't know for how long."], ["crisis", "crisis"]),
        (["I want to die.", "I'm safe but I still want to die."], ["crisis", "crisis"]),
        (["I want to die.", "I'm not going to kill myself.", "ok"], ["crisis", "concern", "concern"]),
        (["I want to die.", "I'm not suicidal any more."], ["crisis", "concern"]),
        (["I want to die.", "I'm not sure I'm not suicidal."], ["crisis", "crisis"]),
        (["I want to die.", "I'm safe now.", "I want to die again."], ["crisis", "concern", "crisis"]),
        (["I want to die.", "jk lol", "never mind"], ["crisis"] * 3),
        (["I just took 30 pills.", "I don't want to die, help."], ["emergency", "emergency"]),
        (["I just took 30 pills.", "I feel sick."], ["emergency", "emergency"]),
        (["I just took 30 pills.", "The ambulance is here."], ["emergency", "concern"]),
        (["I want to die.", "I'm going to do it tonight."], ["crisis", "emergency"]),
        (["I'm asking her out.", "I'm going to do it tonight."], ["none", "none"]),
        (["I want to die.", "I have the pills."], ["crisis", "emergency"]),
        (["I want to die.", "Goodbye."], ["crisis", "emergency"]),
        (["I have a cold.", "I have the pills.", "Goodbye."], ["none", "none", "none"]),
        (["My friend wants to kill herself.", "I'm safe."], ["crisis", "crisis"]),
        (["My friend wants to kill herself.", "She is safe now."], ["crisis", "concern"]),
        (["My friend wants to kill herself.", "She isn't safe."], ["crisis", "crisis"]),
        (["I want to kill myself.", "My sister is safe."], ["crisis", "crisis"]),
        (["My husband hits me.", "I want to be warm and safe."], ["crisis", "crisis"]),
        (["My husband hits me.", "I'm at home with my mother and safe."], ["crisis", "concern"]),
        (["I feel hopeless.", "I made tea."], ["concern", "none"]),
        (["He was my friend.", "We are better off without him."], ["none", "none"]),
        (["hello", "I feel hopeless."], ["none", "concern"]),
    ],
)
def test_a_conversation(turns, levels):
    conversation, seen = [], []
    for turn in turns:
        conversation.append({"role": "user", "content": turn})
        seen.append(assess(conversation).level)
        conversation.append({"role": "assistant", "content": "I hear you."})
    assert seen == levels


@pytest.mark.parametrize(
    ("question", "answer", "level"),
    [
        ("Are you thinking about suicide?", "Yes.", "crisis"),
        ("I'm sorry. Are you thinking of ending your life?", "yeah, sometimes", "crisis"),
        ("Have you had thoughts of killing yourself?", "every day", "crisis"),
        ("Are you feeling suicidal?", "I am", "crisis"),
        ("Are you thinking about suicide?", "No, not at all.", "none"),
        ("Are you thinking about suicide?", "no but yes to the other question", "none"),
        ("Are you thinking about changing jobs?", "Yes.", "none"),
        (
            "Are you safe? Are you thinking of killing yourself? Where are you?",
            "not today, but I think about it",
            "crisis",
        ),
        ("Are you thinking of suicide, and are you safe?", "Yes, I'm safe.", "none"),
        ("Do you mean ending your life?", "It's crossed my mind.", "crisis"),
        ("Do you mean moving house?", "It's crossed my mind.", "none"),
        ("You are thinking about suicide.", "Yes.", "none"),
        ("Are you thinking about suicide?", "yes " * 30, "none"),
    ],
)
def test_a_yes_to_being_asked(question, answer, level):
    assessment = assess(said("I feel low.", question, answer))
    assert assessment.level == level
    if level == "crisis":
        assert assessment.spans == (Span(2, 0, len(answer.rstrip(".")), "suicide"),)


def test_only_the_person_is_read():
    conversation = said("Hello.", "I want to kill myself.")
    assert assess([{"role": "system", "content": "I want to kill myself."}, *conversation]).level == "none"
    assert assess([]).level == "none"


def test_spans_say_where_and_not_what():
    first, second = "Hi.  I want to DIE\u2026 today.", "My husband hits me, and I k1ll my\u200bself."
    assessment = assess(said(first, "I hear you.", second))
    found = [(span.message, (first, "", second)[span.message][span.start : span.end]) for span in assessment.spans]
    assert found == [(0, "want to DIE"), (2, "My husband hits me"), (2, "k1ll my\u200bself")]
    assert [span.category for span in assessment.spans] == ["suicide", "abuse", "suicide"]
    assert assessment.categories == {"suicide", "abuse"}


def test_a_repr_shows_no_text():
    secret = "I want to kill myself in Springfield"
    reply = "You have depression, Springfield."
    shown = repr((assess(said(secret)), assess(said(secret)).spans, check_reply(reply), plain_words(secret)))
    assert "pringfield" not in shown and "kill" not in shown and "depression" not in shown
    assert repr(assess(said(secret))) == (
        "Assessment(level='crisis', categories=frozenset({'suicide'}),"
        " spans=(Span(message=0, start=10, end=21, category='suicide'),))"
    )


@pytest.mark.parametrize("name", ["level", "categories", "spans"])
def test_an_assessment_does_not_change(name):
    with pytest.raises(AttributeError, match=f"cannot assign to field '{name}'"):
        setattr(Assessment(), name, None)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"content": "hi"}], "message 0 has the role None; give each message one of user, assistant, system"),
        ([*said("hi"), {"role": "human", "content": "hi"}], "message 1 has the role 'human'; give each message one of"),
        ([{"role": "user", "content": None}], "message 0 has content of type NoneType; give it as one string"),
        ([{"role": "user", "content": [{"text": "hi"}]}], "message 0 has content of type list; give it as one string"),
    ],
)
def test_a_message_that_cannot_be_read(messages, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        assess(messages)


# --- Long and hostile text


def test_no_rule_repeats_without_bound():
    """With words of at most 100 characters, this bounds the work at each place of a text."""
    for rule in rules():
        rest = re.sub(r"\\w\+|\\[wbd]", "", rule.pattern.pattern)
        assert not re.search(r"[+*]|\{\d*,\}", rest), rest
    assert max(map(len, plain_words("a" * 10_000 + " " + "k1" * 5_000).text.split())) <= 100


@pytest.mark.parametrize("phrase", ["im not suicidal ", "i want to die ", "years ago i was suicidal "])
def test_searches_grow_with_the_matches(phrase):
    class Counted:
        def __init__(self, pattern):
            self.pattern, self.searches = pattern, 0

        def search(self, *where):
            self.searches += 1
            return self.pattern.search(*where)

    def searches(repetitions):
        total = 0
        for rule in rules():
            counted = Counted(rule.pattern)
            for _ in matches(rule._replace(pattern=counted), "/ " + phrase * repetitions + "/ "):
                pass
            total += counted.searches
        return total

    assert searches(400) - searches(300) == searches(300) - searches(200) <= 600


def test_only_the_sentence_and_its_near_part_is_looked_at():
    text = "/ " + "before " * 50 + "kill " + "after " * 50 + "/ "
    before, after = around(text, re.search("kill", text))
    assert (len(before), len(after)) == (120, 120)
    text = "/ one / two kill three / four / "
    assert around(text, re.search("kill", text)) == ("two ", " three")


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 50_000,
        " " * 50_000,
        "." * 50_000,
        "\n" * 50_000,
        "\u200b" * 50_000,
        "*" * 50_000,
        "i " * 20_000,
        "she my friend " * 4_000,
        "i have the my all of " * 3_000,
        "not not not never dont " * 2_000,
        "k1" * 20_000,
        "".join(chr(32 + i * 7919 % 50_000) for i in range(20_000) if not 0xD800 <= 32 + i * 7919 % 50_000 < 0xE000),
    ],
    ids=lambda text: ascii(text[:8]),
)
def test_hostile_text_is_no_crisis_and_ends(hostile):
    assert assess(said(hostile)).level == "none"


def test_a_sentence_in_the_middle_of_a_long_text_is_found():
    half = "We talked about work and the weather, and my mother made soup. " * 1_500
    assessment = assess(said(half + "I want to kill myself. " + half))
    assert assessment.spans == (Span(0, len(half) + 10, len(half) + 21, "suicide"),)


def test_words_known_already_change_nothing():
    known = {}
    messages = said("I wanna k1ll myself!", "a s u i c i d e note, dont tell")
    assert assess(messages, known=known) == assess(messages) == assess(messages, known=known)
    assert known["k1ll"] == "kill"


# --- The tables


def test_the_rules_name_what_exists():
    table = json.loads((files("mh_support.safety") / "crisis_rules.json").read_text(encoding="utf-8"))
    used = {name for rule in table["rules"] for name in rule["unless"]}
    assert used == set(table["contexts"])
    assert {name for rule in table["rules"] for name in rule["categories"]} == set(CATEGORIES)
    assert {rule["level"] for rule in table["rules"]} == set(LEVELS) - {"none"}
    text = json.dumps(table)
    assert {name for name in table["lists"] if f"<{name}>" not in text} == set()
    assert len(rules()) == len(table["rules"])


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("want to ...die", "/ i want to just fucking die / ", "want to just fucking die"),
        ("want to ...die", "/ i want to not die / ", None),
        ("laugh* out", "/ laughing out / ", "laughing out"),
        ("a _ b", "/ a x b / ", "a x b"),
        ("a <2> b", "/ a x y b / ", "a x y b"),
        ("a <2> b", "/ a x y z b / ", None),
        ("a <1-2> b", "/ a b / ", None),
        ("^no$", "/ oh / no / ", "no"),
        ("^no$", "/ oh no / ", None),
        ("<self>", "/ she hurt herself / ", "herself"),
    ],
)
def test_the_notation(phrase, text, found):
    match = pattern_of([phrase]).search(text)
    assert (match and match.group()) == found


def test_a_context_lowers_and_keeps():
    context = Context("none", re.compile("not $"), re.compile("joke"), re.compile("truly"), re.compile("(?<!x )i "))
    rule = Rule(("suicide",), "crisis", re.compile("die|i die"), (context,), None)
    assert list(matches(rule, "/ not die / die / die joke / not die truly / ")) == [(12, 15, 2), (33, 36, 2)]
    assert list(matches(rule, "/ not i die / ")) == [(6, 11, 2)]
