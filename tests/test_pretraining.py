"""The starter's training: what is read, what is left out, and what is written."""

from __future__ import annotations

import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from mh_support import pretraining
from mh_support.pretraining import StarterArguments, pack, pretrain, read_conversations, train_tokenizer

GREETING = ["Hello there!", "Hi, how was the market today?", "Full of pears.", "Lovely. I like pears with cheese."]


def _conversation(lines: list[str]) -> dict[str, object]:
    return {"messages": [[{"text": line, "sender": "ab"[index % 2]}] for index, line in enumerate(lines)]}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package beside which a dataset.json lies, as chitchat-dataset has it."""
    raw = {f"c{number}": _conversation([f"{line} {number}" for line in GREETING]) for number in range(100)}
    raw["short"] = _conversation(GREETING[:3])
    raw["unfit"] = _conversation([*GREETING[:3], "you idiot"])
    raw["twice"] = {"messages": [[{"text": "Hey", "sender": "a"}], [{"text": "you", "sender": "a"}]] * 3}
    raw["contact"] = _conversation([*GREETING[:3], "Write to pear.lover@example.com about the pears."])
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "dataset.json").write_text(json.dumps(raw), encoding="utf-8")
    spec = ModuleSpec("chitchat_dataset", None, origin=str(tmp_path / "package" / "__init__.py"))
    monkeypatch.setattr(pretraining, "find_spec", lambda name: spec)
    return tmp_path


def test_conversations_are_sifted_and_counted(corpus: Path) -> None:
    conversations, counts = read_conversations()
    assert {key: counts[key] for key in ("conversations", "unfit", "too_short", "kept")} == {
        "conversations": 104,
        "unfit": 1,
        "too_short": 2,
        "kept": 101,
    }
    assert [message["role"] for message in conversations[0]] == ["user", "assistant", "user", "assistant"]
    assert not any("@" in message["content"] for messages in conversations for message in messages)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'mh-support\[starter\]'"):
        read_conversations()


def test_rows_are_the_turns_joined_by_the_end_of_text_and_cut_to_one_length() -> None:
    messages = [{"role": "user", "content": "pears"}, {"role": "assistant", "content": "and cheese"}]
    tokenizer = train_tokenizer([messages], 300)
    stream = [token for m in messages for token in [*tokenizer(m["content"])["input_ids"], tokenizer.eos_token_id]]
    rows = pack([messages], tokenizer, 4, seed=1)
    assert [token for row in rows["input_ids"] for token in row] == stream[: len(stream) // 4 * 4]
    assert rows["labels"] == rows["input_ids"]


def test_the_starter_is_written_whole_with_its_card(corpus: Path) -> None:
    folder = corpus / "starter"
    card = pretrain(
        StarterArguments(
            output_dir=str(folder), vocab_size=300, n_layer=1, n_embd=16, n_head=2, block_size=32, max_steps=2
        )
    )
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "training.json"),
    }
    assert json.loads((folder / "training.json").read_text(encoding="utf-8")) == card
    assert "chitchat-dataset 0.9.0 (MIT licence" in (folder / "README.md").read_text(encoding="utf-8")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() == card["parameters"]
    assert len(tokenizer) == card["vocab_size"] == 300
    assert tokenizer.apply_chat_template([{"role": "user", "content": "pears"}], tokenize=False) == "pears<|endoftext|>"
