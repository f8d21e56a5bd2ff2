"""A dialogue's ids, labels and truncation, to the letter.

`letters` is a tokenizer in which the id of a byte is its value and 256 ends a turn, so that lengths are worked by hand.
"""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from mh_support.dialogue import (
    CHAT_TEMPLATE,
    IGNORED,
    check_messages,
    encode_dialogue,
    encode_prompt,
    encode_reply,
    newest_part,
    set_chat_template,
    text_of,
)

END = 256
# What people type, and what files hold, that could upset a template, a tokenizer or the mask.
ODD_TEXTS = (
    "",
    " ",
    "\n\n",
    "  two  spaces  ",
    "tab\there\r\nand a line",
    "\u00a0no-break\u2003em\u3000",
    "\ufeffmark",
    "I feel <|endoftext|> stuck",
    "<|endoftext|>",
    "<|endoftext|><|endoftext|> x <|endoftext|>",
    "<|endof<|endoftext|>text|>",
    "<|endoftext",
    "{{ messages }} {% for x in y %}",
    "<b>&amp;</b> 'quoted' \"twice\"",
    "naïve café — “quotes” …",
    "e\u0301 zero\u200dwidth",
    "😢💔🏳️\u200d🌈 and 👩\u200d👩\u200d👧",
    "我很难过",
    "أشعر بالوحدة",
    "\x00\x1c\x85\u2028end",
    "a",
    "don't, won't; can't!",
)


@pytest.fixture(scope="module")
def letters():
    vocabulary = {character: byte for byte, character in bytes_to_unicode().items()}
    tokenizer = Tokenizer(models.BPE(vocab={**vocabulary, "<|endoftext|>": END}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    set_chat_template(wrapped)
    return wrapped


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


def made_up_dialogue(rng, *, alternate=False, last=None):
    """Return one to seven messages of odd texts; by turns and with something in each if `alternate`."""
    messages = []
    for number in range(rng.randint(1, 7)):
        role = ("user", "assistant")[number % 2] if alternate else rng.choice(["user", "assistant", "system"])
        content = "".join(rng.choice(ODD_TEXTS) for _ in range(rng.randint(1, 4)))
        messages.append({"role": role, "content": f"x{content}" if alternate else content})
    return messages if last is None else [*messages, {"role": last, "content": rng.choice(ODD_TEXTS)}]


def template(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)


# ---- ids and labels --------------------------------------------------------------------------------------------------


def test_ids_and_labels_of_a_small_dialogue(letters):
    messages = [system("Be kind."), user(" Hi "), assistant("Yo\n"), user("é<|endoftext|>"), assistant("Ok")]
    rows, long = encode_dialogue(letters, messages, max_length=100)
    assert not long
    assert rows == [
        {
            "input_ids": [*b"Hi", END, *b"Yo", END, 0xC3, 0xA9, END, *b"Ok", END],
            "labels": [-100, -100, -100, *b"Yo", END, -100, -100, -100, *b"Ok", END],
        }
    ]


def test_the_persons_turns_are_supervised_too_if_asked(letters):
    rows, _ = encode_dialogue(letters, [user("Hi"), assistant("Yo")], max_length=100, completion_only_loss=False)
    assert rows == [{"input_ids": [*b"Hi", END, *b"Yo", END], "labels": [*b"Hi", END, *b"Yo", END]}]


def test_a_tokenizer_that_begins_texts_with_a_token_of_its_own_adds_none(letters, tmp_path):
    letters.save_pretrained(tmp_path)
    other = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    begin = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", END)])
    other.backend_tokenizer.post_processor = begin
    assert other("Hi")["input_ids"] == [END, *b"Hi"]
    messages = [user("Hi"), assistant("Yo")]
    assert encode_dialogue(other, messages, max_length=9) == encode_dialogue(letters, messages, max_length=9)
    assert encode_reply(other, messages) == encode_reply(letters, messages)


def test_what_follows_the_last_reply_is_no_part_of_a_row(letters):
    rows, _ = encode_dialogue(letters, [user("Hi"), assistant("Yo"), user("Bye")], max_length=100)
    assert rows[0]["input_ids"] == [*b"Hi", END, *b"Yo", END]


def test_a_reply_before_the_person_spoke_is_supervised(letters):
    rows, _ = encode_dialogue(letters, [assistant("A"), assistant("B"), user("c"), assistant("D")], max_length=100)
    assert rows == [
        {"input_ids": [65, END, 66, END, 99, END, 68, END], "labels": [65, END, 66, END, -100, -100, 68, END]}
    ]


def test_the_end_of_each_reply_is_supervised(tiny_tokenizer):
    rng = random.Random(1)
    for _ in range(50):
        messages = made_up_dialogue(rng, last="assistant")
        [row] = encode_dialogue(tiny_tokenizer, messages, max_length=10_000).rows
        ends = [label for label in row["labels"] if label == tiny_tokenizer.eos_token_id]
        assert len(ends) == sum(message["role"] == "assistant" for message in messages)
        assert row["labels"][-1] == tiny_tokenizer.eos_token_id


@pytest.mark.parametrize("seed", range(20))
def test_a_row_is_what_the_chat_template_gives(tiny_tokenizer, seed):
    rng = random.Random(seed)
    for _ in range(15):
        # A person speaks first: transformers takes a mask that ends with a row's first token for one without an end.
        messages = [user(rng.choice(ODD_TEXTS)), *made_up_dialogue(rng, last="assistant")]
        expected = template(tiny_tokenizer, messages, return_assistant_tokens_mask=True)
        [row] = encode_dialogue(tiny_tokenizer, messages, max_length=10_000).rows
        assert row["input_ids"] == expected["input_ids"]
        mask = [int(label != IGNORED) for label in row["labels"]]
        assert mask == expected["assistant_masks"]
        assert all(label in (IGNORED, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))
        everything = encode_dialogue(tiny_tokenizer, messages, max_length=10_000, completion_only_loss=False).rows
        assert everything == [{"input_ids": row["input_ids"], "labels": row["input_ids"]}]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_no_text_ends_a_turn_early(tiny_tokenizer, text):
    messages = [user(text), assistant(text)]
    [row] = encode_dialogue(tiny_tokenizer, messages, max_length=1000).rows
    assert row["input_ids"].count(tiny_tokenizer.eos_token_id) == 2
    assert row["input_ids"] == template(tiny_tokenizer, messages)["input_ids"]


def test_the_template_is_the_same_with_and_without_a_generation_prompt(letters):
    messages = [system("Be kind."), user("Hi")]
    for add in (False, True):
        assert template(letters, messages, add_generation_prompt=add)["input_ids"] == [*b"Hi", END]


def test_the_template_shows_the_format(letters):
    messages = [user("I feel alone."), assistant("That is hard. Since when?")]
    text = letters.apply_chat_template(messages, tokenize=False)
    assert text == "I feel alone.<|endoftext|>That is hard. Since when?<|endoftext|>"


def test_a_saved_tokenizer_keeps_the_template(letters, tmp_path):
    letters.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE
    messages = [user("Hi"), assistant("Yo")]
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert encode_dialogue(again, messages, max_length=9) == encode_dialogue(letters, messages, max_length=9)


def test_set_chat_template_needs_an_end_and_leaves_a_padding_token_alone():
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "c": 2}, merges=[])))
    with pytest.raises(
        ValueError, match=r"^the tokenizer has no end-of-text token, .*choose a causal LM that has one$"
    ):
        set_chat_template(bare)
    assert bare.chat_template is None
    bare.eos_token = "b"
    set_chat_template(bare)
    assert (bare.chat_template, bare.pad_token, len(bare)) == (CHAT_TEMPLATE, "b", 3)
    bare.pad_token = "c"
    set_chat_template(bare)
    assert bare.pad_token == "c"


# ---- too long: truncate ----------------------------------------------------------------------------------------------

# Exchanges of 4, 6 and 8 letters and ends: "a", "A"; "bb", "BB"; "ccc", "CCC".
THREE = [user("a"), assistant("A"), user("bb"), assistant("BB"), user("ccc"), assistant("CCC")]
FIRST, SECOND, THIRD = [97, END, 65, END], [98, 98, END, 66, 66, END], [99, 99, 99, END, 67, 67, 67, END]


@pytest.mark.parametrize(
    ("max_length", "kept", "long"),
    [
        (18, FIRST + SECOND + THIRD, False),
        (17, SECOND + THIRD, True),
        (14, SECOND + THIRD, True),
        (13, THIRD, True),
        (8, THIRD, True),
        (7, THIRD[1:], True),
        (5, THIRD[3:], True),
        (4, THIRD[3:7], True),
        (3, THIRD[4:7], True),
        (1, THIRD[4:5], True),
    ],
)
def test_truncation_takes_the_oldest_first(letters, max_length, kept, long):
    rows, found_long = encode_dialogue(letters, THREE, max_length=max_length)
    assert [row["input_ids"] for row in rows] == [kept]
    assert found_long is long


def test_truncation_never_skips_an_exchange_in_the_middle(letters):
    messages = [user("a"), assistant("A"), user("b" * 50), assistant("B"), user("c"), assistant("C")]
    [row] = encode_dialogue(letters, messages, max_length=20).rows
    assert row["input_ids"] == [99, END, 67, END]


def test_a_long_context_keeps_its_newest_words_and_the_whole_reply(letters):
    messages = [user("0123456789" * 3), assistant("yes")]
    [row] = encode_dialogue(letters, messages, max_length=12).rows
    assert row == {
        "input_ids": [*b"3456789", END, *b"yes", END],
        "labels": [-100] * 8 + [*b"yes", END],
    }


def test_a_long_reply_after_a_long_context_leaves_a_quarter_to_the_context(letters):
    messages = [user("0123456789"), assistant("abcdefghijklmnop")]
    [row] = encode_dialogue(letters, messages, max_length=12).rows
    assert row == {"input_ids": [*b"89", END, *b"abcdefghi"], "labels": [-100] * 3 + [*b"abcdefghi"]}


def test_a_long_reply_takes_the_room_a_short_context_leaves(letters):
    [row] = encode_dialogue(letters, [user("0"), assistant("abcdefghijklmnop")], max_length=12).rows
    assert row == {"input_ids": [*b"0", END, *b"abcdefghij"], "labels": [-100] * 2 + [*b"abcdefghij"]}


@pytest.mark.parametrize("completion_only_loss", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_truncation_always_leaves_a_reply_to_learn_from(tiny_tokenizer, seed, completion_only_loss):
    rng = random.Random(seed)
    for _ in range(12):
        messages = made_up_dialogue(rng, alternate=True, last="assistant")
        [whole] = encode_dialogue(tiny_tokenizer, messages, max_length=10_000).rows
        last = encode_dialogue(tiny_tokenizer, [messages[-1]], max_length=10_000).rows[0]["input_ids"]
        length = len(whole["input_ids"])
        for max_length in {1, 2, 3, 5, 8, 16, 33, length // 2 + 1, length - 1 or 1, length}:
            rows, long = encode_dialogue(
                tiny_tokenizer, messages, max_length=max_length, completion_only_loss=completion_only_loss
            )
            assert long is (length > max_length)
            [row] = rows
            ids, labels = row["input_ids"], row["labels"]
            assert 1 <= len(ids) == len(labels) <= max_length
            if completion_only_loss:
                assert any(label != IGNORED for label in labels)
            else:
                assert labels == ids
            # What is left is one run of the whole, and in it the reply from its start on.
            begins = range(length - len(ids) + 1)
            runs = [begin for begin in begins if whole["input_ids"][begin : begin + len(ids)] == ids]
            assert any(begin <= length - len(last) < begin + len(ids) for begin in runs)


# ---- too long: split and drop ----------------------------------------------------------------------------------------


def test_split_keeps_exchanges_whole_where_they_fit(letters):
    rows, long = encode_dialogue(letters, THREE, max_length=10, long_inputs="split")
    assert long
    assert [row["input_ids"] for row in rows] == [FIRST + SECOND, THIRD]
    assert rows[1]["labels"] == [-100, -100, -100, -100, 67, 67, 67, END]


def test_split_fills_every_row(letters):
    messages = [turn for _ in range(6) for turn in (user("a"), assistant("A"))]
    rows, _ = encode_dialogue(letters, messages, max_length=8, long_inputs="split")
    assert [row["input_ids"] for row in rows] == [FIRST + FIRST] * 3


def test_split_cuts_up_a_reply_too_long_for_one_row(letters):
    messages = [user("a"), assistant("A"), user("xy"), assistant("0123456789"), user("b"), assistant("B")]
    rows, long = encode_dialogue(letters, messages, max_length=8, long_inputs="split")
    assert long
    assert rows == [
        {"input_ids": FIRST, "labels": [-100, -100, 65, END]},
        {"input_ids": [*b"y", END, *b"012345"], "labels": [-100, -100, *b"012345"]},
        {"input_ids": [*b"2345", *b"6789"], "labels": [-100] * 4 + [*b"6789"]},
        {"input_ids": [*b"3456789", END], "labels": [-100] * 7 + [END]},
        {"input_ids": [98, END, 66, END], "labels": [-100, -100, 66, END]},
    ]


@pytest.mark.parametrize("completion_only_loss", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_split_supervises_each_token_of_a_supporter_exactly_once(letters, seed, completion_only_loss):
    rng = random.Random(seed)
    for _ in range(10):
        messages, marks = [], iter(range(1, 256))
        for _ in range(rng.randint(1, 5)):
            # The person speaks in spaces' neighbours, the supporter in bytes that each stand once in the dialogue.
            messages.append(user("." * rng.randint(1, 40)))
            messages.append(assistant("".join(chr(next(marks) + 0x4E00) for _ in range(rng.randint(1, 12)))))
        [whole] = encode_dialogue(letters, messages, max_length=10_000).rows
        expected = [label for label in whole["labels"] if label != IGNORED]
        for max_length in (1, 2, 3, 7, 16, 40, 100):
            rows, _ = encode_dialogue(
                letters,
                messages,
                max_length=max_length,
                long_inputs="split",
                completion_only_loss=completion_only_loss,
            )
            assert all(1 <= len(row["input_ids"]) == len(row["labels"]) <= max_length for row in rows)
            assert all(any(label != IGNORED for label in row["labels"]) for row in rows)
            pairs = [pair for row in rows for pair in zip(row["input_ids"], row["labels"], strict=True)]
            assert all(label in (IGNORED, token) for token, label in pairs)
            supervised = [label for _, label in pairs if label != IGNORED]
            if completion_only_loss:
                assert supervised == expected
            else:
                dots = ord(".")
                said = [label for label in supervised if label > 127 and label != END]
                assert said == [label for label in expected if label > 127 and label != END]
                assert set(supervised) - set(expected) <= {dots}


def test_drop(letters):
    assert encode_dialogue(letters, THREE, max_length=17, long_inputs="drop") == ([], True)
    rows, long = encode_dialogue(letters, THREE, max_length=18, long_inputs="drop")
    assert ([row["input_ids"] for row in rows], long) == ([FIRST + SECOND + THIRD], False)


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        (
            [user("a"), assistant("b")],
            {"long_inputs": "cut"},
            r"^long_inputs is 'cut'; it is one of truncate, split, drop$",
        ),
        ([user("a")], {}, r"^a dialogue has no assistant turn to learn from; leave it out or add the reply$"),
        ([], {}, r"^a dialogue has no assistant turn"),
        ([user("a"), assistant("b")], {"max_length": 0}, r"^max_length is 0; a row needs at least 1 token$"),
        ([user("a"), assistant("b")], {"max_length": -1, "long_inputs": "split"}, r"^max_length is -1; "),
    ],
)
def test_encode_dialogue_refuses(letters, messages, options, message):
    with pytest.raises(ValueError, match=message):
        encode_dialogue(letters, messages, **{"max_length": 8, **options})


# ---- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (None, [*FIRST, *SECOND, 99, 99, 99, END]),
        (14, [*FIRST, *SECOND, 99, 99, 99, END]),
        (13, [*SECOND, 99, 99, 99, END]),
        (10, [*SECOND, 99, 99, 99, END]),
        (9, [99, 99, 99, END]),
        (4, [99, 99, 99, END]),
        (3, [99, 99, END]),
        (1, [END]),
        (0, []),
    ],
)
def test_a_prompt_leaves_out_the_oldest_exchanges(letters, max_length, expected):
    assert encode_prompt(letters, THREE[:-1], max_length=max_length) == expected


def test_a_prompt_is_what_the_template_gives(tiny_tokenizer):
    rng = random.Random(3)
    for _ in range(100):
        messages = made_up_dialogue(rng)
        expected = template(tiny_tokenizer, messages, add_generation_prompt=True)["input_ids"]
        assert encode_prompt(tiny_tokenizer, messages) == expected
        for max_length in (0, 1, 5, 20):
            ids = encode_prompt(tiny_tokenizer, messages, max_length=max_length)
            assert ids == expected[len(expected) - len(ids) :]
            assert len(ids) <= max_length


def test_a_prompt_begins_with_a_person_once_exchanges_go(letters):
    messages = [assistant("Hello"), user("a"), user("bb"), assistant("B"), user("c")]
    assert encode_prompt(letters, messages, max_length=12) == [98, 98, END, 66, END, 99, END]


def test_a_prompt_follows_the_tokenizers_own_template(letters, tmp_path):
    letters.save_pretrained(tmp_path)
    other = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    other.chat_template = (
        "{% for m in messages %}{{ m['role'][0] + m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'a' }}{% endif %}"
    )
    assert encode_prompt(other, [user("Hi")]) == [*b"uHia"]


def test_a_prompt_needs_a_message(letters):
    with pytest.raises(ValueError, match=r"^there is no message to reply to; give at least what the person said$"):
        encode_prompt(letters, [])


# ---- one scored reply ------------------------------------------------------------------------------------------------


def test_a_scored_reply(letters):
    assert encode_reply(letters, [user("a"), assistant("A"), user("é"), assistant(" ça ")]) == {
        "input_ids": [97, END, 65, END, 0xC3, 0xA9, END, *"ça".encode(), END],
        "labels": [-100] * 7 + [*"ça".encode(), END],
        "bytes": 3,
    }


@pytest.mark.parametrize(
    ("text", "count"),
    [("abc", 3), (" abc\n", 3), ("é", 2), ("😢", 4), ("a<|endoftext|>b", 3), ("a<|endoftext|>", 1)],
)
def test_bytes_are_those_of_the_text_without_its_end(letters, text, count):
    row = encode_reply(letters, [user("a"), assistant(text)])
    assert row["bytes"] == count == sum(label not in (IGNORED, END) for label in row["labels"])


@pytest.mark.parametrize(
    ("max_length", "prompt", "reply", "ended"),
    [
        # The prompt is 8 ids, the reply 11; both fit in 19.
        (19, b"0123456", b"ABCDEFGHIJ", True),
        (18, b"123456", b"ABCDEFGHIJ", True),
        (14, b"56", b"ABCDEFGHIJ", True),
        (13, b"56", b"ABCDEFGHIJ", False),
        (12, b"56", b"ABCDEFGHI", False),
        (8, b"6", b"ABCDEF", False),
        (3, None, b"ABC", False),
        (1, None, b"A", False),
    ],
)
def test_a_reply_too_long_to_score_is_cut_at_its_end(letters, max_length, prompt, reply, ended):
    row = encode_reply(letters, [user("0123456"), assistant("ABCDEFGHIJ")], max_length=max_length)
    before = [] if prompt is None else [*prompt, END]
    after = [*reply, END] if ended else [*reply]
    assert row == {"input_ids": before + after, "labels": [-100] * len(before) + after, "bytes": len(reply)}


def test_a_reply_is_not_cut_while_there_is_room(letters):
    row = encode_reply(letters, [user("a"), assistant("B" * 96)], max_length=100)
    assert (len(row["input_ids"]), row["bytes"]) == (99, 96)


def test_at_most_64_tokens_of_the_prompt_displace_a_reply(letters):
    row = encode_reply(letters, [user("a" * 500), assistant("B" * 500)], max_length=400)
    assert row["labels"] == [-100] * 64 + [66] * 336
    assert row["bytes"] == 336


def test_a_character_cut_in_half_counts_no_bytes(letters):
    row = encode_reply(letters, [user("a"), assistant("bé😢")], max_length=7)
    assert row == {
        "input_ids": [END, 98, 0xC3, 0xA9, 0xF0, 0x9F, 0x98],
        "labels": [-100, *row["input_ids"][1:]],
        "bytes": 3,
    }


def test_spaces_before_punctuation_count_too(letters, tmp_path):
    letters.save_pretrained(tmp_path)
    other = PreTrainedTokenizerFast.from_pretrained(tmp_path, clean_up_tokenization_spaces=True)
    row = encode_reply(other, [user("a"), assistant("b . c , d ! e")], max_length=9)
    assert (row["labels"], row["bytes"]) == ([-100, -100, *b"b . c ,"], 7)


@pytest.mark.parametrize("seed", range(5))
def test_a_scored_reply_agrees_with_training(tiny_tokenizer, seed):
    rng = random.Random(seed)
    for _ in range(20):
        messages = [user("x"), *made_up_dialogue(rng), assistant(rng.choice(ODD_TEXTS))]
        row = encode_reply(tiny_tokenizer, messages)
        [trained] = encode_dialogue(tiny_tokenizer, messages, max_length=10_000).rows
        assert row["input_ids"] == trained["input_ids"]
        scored = [label for label in row["labels"] if label != IGNORED]
        assert trained["labels"][-len(scored) :] == scored
        assert row["bytes"] == len(tiny_tokenizer.decode(scored[:-1]).encode())
        for max_length in (1, 2, 7, 20, 50):
            cut = encode_reply(tiny_tokenizer, messages, max_length=max_length)
            assert len(cut["input_ids"]) == len(cut["labels"]) <= max_length
            left = [label for label in cut["labels"] if label != IGNORED]
            assert left == scored[: len(left)] != []
            assert cut["bytes"] <= row["bytes"]


@pytest.mark.parametrize("messages", [[], [user("a")], [user("a"), assistant("b"), user("c")]])
def test_a_scored_reply_must_be_the_last_message(letters, messages):
    with pytest.raises(
        ValueError, match=r"^the last message is not an assistant's; give a conversation that ends with"
    ):
        encode_reply(letters, messages)


def test_a_scored_reply_follows_something(letters):
    with pytest.raises(ValueError, match=r"^there is no message to reply to"):
        encode_reply(letters, [assistant("a")])


# ---- messages --------------------------------------------------------------------------------------------------------


def test_check_messages_merges_trims_and_leaves_out_what_is_empty():
    messages = [
        user(" a "),
        user([{"type": "text", "text": "b"}, {"type": "image", "url": "x"}, {"text": "c"}]),
        assistant(""),
        user("d"),
        assistant("e"),
        {"role": "system", "content": "s", "name": "left out"},
        assistant("f"),
    ]
    before = [dict(message) for message in messages]
    assert check_messages(messages) == [user("a\nb\nc\nd"), assistant("e"), system("s"), assistant("f")]
    assert messages == before
    assert check_messages(()) == []


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hello", r"^messages is str; give a list of \{'role', 'content'\} messages$"),
        (None, r"^messages is NoneType; "),
        ({"role": "user", "content": "a"}, r"^messages is dict; "),
        (["hello"], r"^a message lacks role or content; each must be \{'role': 'user', 'content': 'text'\}$"),
        ([{"role": "user"}], r"^a message lacks role or content"),
        ([{"content": "a"}], r"^a message lacks role or content"),
        (
            [{"role": "bot", "content": "a"}],
            r"^a message has the role 'bot'; the roles are system, user and assistant$",
        ),
        ([user(None)], r"^a message's content is NoneType; give a string or a list of text parts$"),
        ([user(3)], r"^a message's content is int; "),
        ([user(["a"])], r"^a message's content is list; "),
    ],
)
def test_check_messages_refuses(messages, message):
    with pytest.raises(ValueError, match=message):
        check_messages(messages)


def test_text_of():
    assert text_of("a ") == "a "
    assert text_of([]) == ""
    assert text_of([{"type": "text", "text": "a"}, {"type": "text"}, {"text": 1}]) == "a\n1"


def test_the_newest_part_holds_the_ends_of_two_long_letters_and_the_replies_last_words():
    letters = [f"first {'x' * 9_000} so it ends", f"second {'y' * 9_000} and so does this"]
    said = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Before all that."},
        {"role": "user", "content": letters[0]},
        {"role": "assistant", "content": f"{'Well. ' * 1_000}Are you safe?"},
        {"role": "user", "content": letters[1]},
    ]
    first, reply, second = newest_part(said, 16_000)
    for part, letter in ((first, letters[0]), (second, letters[1])):
        assert len(part["content"]) == 8_000
        beginning, end = part["content"].split("\n\n")
        assert letter.startswith(beginning) and letter.endswith(end)
    assert reply["content"].endswith("Well. Are you safe?") and len(reply["content"]) == 400


def test_the_newest_part_of_a_short_conversation_is_all_that_was_said():
    said = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}]
    assert newest_part(said * 9, 16_000) == said * 9
    assert newest_part([{"role": "system", "content": "Be kind."}, *said], 16_000) == said
    assert newest_part([], 16_000) == []
