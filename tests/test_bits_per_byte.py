"""What counting and compressing make of held-out replies, beside the model."""

from __future__ import annotations

import json
import math
import random
import zlib

import pytest
from training_fixtures import load_recipe, one_thread, save_model, train, write_csv  # noqa: F401

from mh_support import bits_per_byte
from mh_support.bits_per_byte import BitsPerByteArguments, compressed_bits, ngram_bits
from mh_support.dialogue import IGNORED
from mh_support.scoring import ScoringArguments, score_run

WORDS = ["river", "stone", "apple", "window", "garden", "bread", "music", "letter"]


def row(ids: list[int], scored: int, size: int = 1) -> dict[str, object]:
    """Return a row whose last `scored` ids are the reply, of `size` bytes."""
    return {"input_ids": ids, "labels": [IGNORED] * (len(ids) - scored) + ids[-scored:], "bytes": size}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_tokenizer):
    home = tmp_path_factory.mktemp("bits")
    model = save_model(home / "model", tiny_tokenizer, n_positions=256)
    return train(home / "run", model, write_csv(home / "data.csv"))


def test_an_n_gram_models_probabilities_add_up_to_one() -> None:
    generator = random.Random(1)
    training = [[generator.randrange(6) for _ in range(40)] for _ in range(5)]
    for context in ([0, 1, 2, 3], training[0][:4], [5]):
        bits = [ngram_bits(training, [row([*context, id], 1)], vocab_size=7, order=5) for id in range(7)]
        assert math.isclose(sum(2.0**-one for one in bits), 1.0, abs_tol=1e-9)


def test_an_n_gram_model_foresees_what_it_has_read_and_a_higher_order_foresees_it_better() -> None:
    training = [[0, 1, 2, 0, 3, 4] * 10]
    bits = {order: ngram_bits(training, [row([2, 0, 3], 1)], vocab_size=5, order=order) for order in (1, 2, 3)}
    assert bits[1] > bits[2] > bits[3] > 0
    # A unigram knows shares alone: 10 of 60, and one more for each id.
    assert math.isclose(bits[1], -math.log2(11 / 65))


def test_bits_are_of_all_scored_tokens_over_all_bytes() -> None:
    training = [[0, 1] * 20]
    one, other = row([0, 1, 0], 2, size=4), row([1, 0], 1, size=2)
    bits = [ngram_bits(training, [each], vocab_size=2) * each["bytes"] for each in (one, other)]  # type: ignore[operator]
    assert math.isclose(ngram_bits(training, [one, other], vocab_size=2), sum(bits) / 6)


def test_compressors_that_have_read_the_replies_need_next_to_nothing() -> None:
    generator = random.Random(2)
    text = [" ".join(generator.choices(WORDS, k=12)) for _ in range(60)]
    known, unknown = compressed_bits("\n".join(text), text[:20]), compressed_bits("nothing of it", text[:20])
    for name in ("xz", "zlib"):
        assert known[name] < 0.4 * unknown[name]
    said = "\n".join(["", *text[:20]]).encode()
    alone = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    assert unknown["zlib"] <= 8 * len(alone.compress(said) + alone.flush()) / len(said)


def test_zlib_sees_the_end_of_the_training_text_and_xz_all_of_it() -> None:
    generator = random.Random(3)
    text = [" ".join(f"{word}{generator.randrange(1000)}" for word in WORDS) for _ in range(20)]
    filler = "".join(chr(generator.randrange(33, 127)) for _ in range(1 << 16))
    bits = compressed_bits("\n".join(text) + filler, text)
    assert bits["xz"] < 1 < bits["zlib"]


def test_the_recipe_holds_a_run_against_them(run, capsys) -> None:
    score_run(run, ScoringArguments(max_new_tokens=4, n_resamples=10), progress=False)
    scored = json.loads(run.results_file.read_text(encoding="utf-8"))["splits"]["test"]["rows"]["tuned"]
    capsys.readouterr()
    load_recipe("bits_per_byte").main([str(run.path), "--order", "3"])
    printed = capsys.readouterr().out.splitlines()
    written = json.loads((run.path / "bits_per_byte.json").read_text(encoding="utf-8"))
    assert printed[0].split() == ["test,", str(written["replies"]), "replies", "bits", "a", "byte"]
    assert [line.split()[-1] for line in printed[2:6]] == [f"{bits:.3f}" for bits in written["bits_per_byte"].values()]
    assert list(written["bits_per_byte"]) == ["tuned", "ngram", "xz", "zlib"]
    assert written["bits_per_byte"]["tuned"] == pytest.approx(scored["bits_per_byte"]["value"], abs=1e-4)
    assert written["order"] == 3


def test_a_run_from_the_starter_lets_them_read_what_the_starter_read(run, monkeypatch) -> None:
    def text(word: str) -> tuple[list[list[dict[str, str]]], dict[str, int]]:
        return [[{"role": "user", "content": f"{word} bread"}, {"role": "assistant", "content": "music"}]], {}

    alone = bits_per_byte.compare_bits(run, BitsPerByteArguments(order=2))
    record = run.record()
    monkeypatch.setattr(
        type(run), "record", lambda self: {**record, "base_model": {**record["base_model"], "name_or_path": "starter"}}
    )
    monkeypatch.setattr(bits_per_byte, "read_chats", lambda: text("river"))
    monkeypatch.setattr(bits_per_byte, "read_practice", lambda: text("stone"))
    more = bits_per_byte.compare_bits(run, BitsPerByteArguments(order=2))
    assert more["training_bytes"] == alone["training_bytes"] + len("river bread\nmusic\nstone bread\nmusic\n")
    assert more["bits_per_byte"]["tuned"] == alone["bits_per_byte"]["tuned"]


@pytest.mark.parametrize("argument", ["order", "batch_size"])
def test_arguments_below_one_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=r"both are at least 1$"):
        BitsPerByteArguments(**{argument: 0})
