"""A text classifier from the Hub beside ours: it can raise the level of a message, and never lower it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from mh_support.safety import assess
from mh_support.safety.classifier import Suspicion
from mh_support.safety.encoder import encoder_tokenizer
from mh_support.safety.hub_classifier import HubClassifier

HINT = "The last blue ferry leaves tonight."


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with two labels, which takes everything for LABEL_1 with a probability of 0.9."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = encoder_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.1, 0.9]).log())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load(saved: Path, **options: Any) -> HubClassifier:
    return HubClassifier.from_pretrained(str(saved), {"LABEL_1": "suicide"}, **options)


def test_its_labels_become_categories(saved: Path) -> None:
    assert load(saved).suspect([HINT, "Hello."]) == [Suspicion("crisis", "suicide")] * 2
    assert load(saved, threshold=0.95).suspect([HINT]) == [None]
    assert load(saved).suspect([]) == []


def test_it_adds_and_does_not_subtract(saved: Path) -> None:
    message = [{"role": "user", "content": HINT}]
    assert assess(message, classifiers=[load(saved)]).categories == frozenset({"suicide"})
    plain = [{"role": "user", "content": "My husband hits me."}]
    silent = load(saved, threshold=1.0)
    assert assess(plain, classifiers=[silent]) == assess(plain, classifiers=())


def test_a_long_message_is_read_as_far_as_the_model_reads(saved: Path) -> None:
    assert load(saved).suspect(["ferry " * 5000]) == [Suspicion("crisis", "suicide")]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"RISK": "suicide"}, {}, r"^the labels are RISK; this model has LABEL_0, LABEL_1$"),
        ({}, {}, r"^the labels are none; this model has LABEL_0, LABEL_1$"),
        ({"LABEL_1": "sadness"}, {}, r"^sadness is no category of danger; it is one of suicide, "),
        ({"LABEL_1": "suicide"}, {"threshold": 0.0}, r"^threshold is 0\.0; it is above 0 and at most 1$"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    saved: Path, labels: dict[str, str], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HubClassifier.from_pretrained(str(saved), labels, **options)


def test_a_missing_model_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no text classifier can be loaded from .+ \(.+\); check the id, the folder"):
        HubClassifier.from_pretrained(str(tmp_path / "nothing"), {"LABEL_1": "suicide"})
