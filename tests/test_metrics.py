"""The four metrics against worked examples and the libraries they stand on, and the intervals around them."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import random
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import evaluate
import numpy as np
import pytest
import sacrebleu
import torch
import yaml
from nltk.tokenize import NLTKWordTokenizer
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from peft import LoraConfig, get_peft_model
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from scipy.stats import bootstrap
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import mh_support.metrics as metrics
from mh_support.dialogue import encode_reply, set_chat_template
from mh_support.metrics import (
    Bleu,
    Difference,
    Diversity,
    Perplexity,
    Rouge,
    bleu,
    bootstrap_interval,
    diversity,
    jackknife_interval,
    paired_difference,
    paired_t_difference,
    perplexity,
    rouge,
    wilson_interval,
)

FOLDER = Path(metrics.__file__).parent
Z = 1.959963984540054  # The normal quantile of a 95 % interval.


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Keep evaluate's files out of the home folder."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "metrics"))
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def made_up_texts(seed: int, items: int = 25) -> tuple[list[str], list[list[str]]]:
    """Return predictions (two of them empty) and one to three references for each, from few overlapping words."""
    rng = random.Random(seed)
    words = ["I", "you", "we", "feel", "are", "not", "alone", "sad", "here,", "today", "now,", "so", "very"]
    words += ["It's", "can't", "don't", "&", "3.5", "(really)"]

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(1, 14))) + rng.choice(["", ".", "!", "?", "..."])

    predictions = [text() for _ in range(items)]
    predictions[3] = predictions[7] = ""
    return predictions, [[text() for _ in range(rng.randint(1, 3))] for _ in range(items)]


def mean(total: np.ndarray) -> dict:
    return {"mean": total[..., 0] / total[..., 1]}


def means(values) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


# --- what all four share ----------------------------------------------------------------------------------------------


def text_metrics():
    predictions, references = made_up_texts(1)
    stopped = [index % 3 > 0 for index in range(len(predictions))]
    return [
        (Rouge, rouge, {"predictions": predictions, "references": references}),
        (Bleu, bleu, {"predictions": predictions, "references": references}),
        (Diversity, diversity, {"predictions": predictions, "stopped": stopped}),
    ]


@pytest.mark.parametrize(("metric", "module", "inputs"), text_metrics(), ids=["rouge", "bleu", "diversity"])
def test_a_score_is_a_function_of_statistics_that_add_up(metric, module, inputs):
    statistics = module.item_statistics(**inputs)
    assert statistics.dtype == np.float64
    assert statistics.shape[0] == len(inputs["predictions"])

    scores = metric().compute(**inputs)
    from_sum = module.from_statistics(statistics.sum(axis=0))
    assert {name: scores[name] for name in from_sum} == from_sum

    totals = np.stack(
        [[statistics.sum(axis=0), statistics[:10].sum(axis=0)], [statistics[0], statistics[5:].sum(axis=0)]]
    )
    arrays = module.from_statistics(totals)
    for name, values in arrays.items():
        assert values.shape == (2, 2)
        for place in np.ndindex(2, 2):
            assert values[place] == module.from_statistics(totals[place])[name]


@pytest.mark.parametrize(("metric", "module", "inputs"), text_metrics(), ids=["rouge", "bleu", "diversity"])
def test_scores_are_plain_floats_that_cards_can_write(metric, module, inputs):
    scores = metric().compute(**inputs)
    assert {type(value) for value in scores.values()} == {float}
    assert yaml.safe_load(yaml.safe_dump(scores)) == json.loads(json.dumps(scores)) == scores


@pytest.mark.parametrize("metric", [Rouge, Bleu, Diversity])
def test_bad_texts_are_named_by_place_never_quoted(metric):
    loaded = metric()
    with_references = {} if metric is Diversity else {"references": [["a secret"], ["b"]]}
    with pytest.raises(ValueError, match=r"^predictions is empty; give at least one reply to score$"):
        loaded.compute(predictions=[], references=[])
    with pytest.raises(ValueError, match=r"^predictions is str; give a list of texts, one per item$"):
        loaded.compute(predictions="a secret", **with_references)
    with pytest.raises(ValueError, match=r"^predictions\[1\] is int; give text \('' if there was no reply\)$"):
        loaded.compute(predictions=["a secret", 3], **with_references)
    # The errors left nothing behind.
    assert loaded.compute(predictions=["one", "two"], **with_references) is not None


@pytest.mark.parametrize("metric", [Rouge, Bleu])
@pytest.mark.parametrize(
    ("references", "message"),
    [
        (None, r"^2 predictions but 0 lists of references; give one list for each$"),
        ([["a secret"]], r"^2 predictions but 1 lists of references; give one list for each$"),
        (["a secret", "b"], r"^references\[0\] is str; give a list of texts, even for a single one$"),
        ([["a secret"], []], r"^references\[1\] has no text or an empty one; leave the item or that reference out$"),
        ([["a secret", " "], ["b"]], r"^references\[0\] has no text or an empty one; leave the item or that"),
        (
            [["a secret"], [None]],
            r"^references\[1\] has no text or an empty one; leave the item or that reference out$",
        ),
    ],
)
def test_bad_references_are_named_by_place_never_quoted(metric, references, message):
    loaded = metric()
    with pytest.raises(ValueError, match=message) as raised:
        loaded.compute(predictions=["one", "two"], references=references)
    assert "secret" not in str(raised.value)
    with pytest.raises(ValueError, match=message):
        sys.modules[f"mh_support.metrics.{loaded.name}"].item_statistics(["one", "two"], references or [])
    assert loaded.compute(predictions=["one"], references=[["one"]]) is not None


def test_metrics_take_items_one_by_one_and_combine():
    one_by_one = Rouge()
    one_by_one.add(prediction="you are not alone", reference=["are not alone"])
    one_by_one.add(prediction="", reference=["I am here", "here"])
    predictions, references = ["you are not alone", ""], [["are not alone"], ["I am here", "here"]]
    together = evaluate.combine([Rouge(), Bleu()]).compute(predictions=predictions, references=references)
    assert one_by_one.compute() == {name: together[name] for name in ("rouge1", "rouge2", "rougeL")}
    assert set(together) == {"rouge1", "rouge2", "rougeL", "bleu", "bleu2"}


@pytest.mark.parametrize("metric", [Rouge, Bleu, Perplexity, Diversity])
def test_metrics_describe_themselves(metric):
    info = metric()
    assert len(info.description) > 300
    assert "higher is better" in info.description or "lower is better" in info.description
    assert info.citation.startswith("@")
    assert "Returns:" in info.inputs_description
    assert all(url.startswith("https://") for url in info.reference_urls)
    assert metric.__doc__.startswith(info.description)


def test_every_metric_loads_from_its_folder_without_a_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("a metric reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    try:
        for metric, _, inputs in text_metrics():
            loaded = evaluate.load(str(FOLDER / metric.__name__.lower()))
            assert type(loaded).__module__.startswith("evaluate_modules.metrics.")
            assert loaded.compute(**inputs) == metric().compute(**inputs)
        loaded = evaluate.load(str(FOLDER / "perplexity"))
        model, tokenizer, conversations = tiny_gpt2(), byte_tokenizer(), [CONVERSATION]
        assert loaded.compute(model=model, tokenizer=tokenizer, conversations=conversations) == Perplexity().compute(
            model=model, tokenizer=tokenizer, conversations=conversations
        )
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("evaluate_modules"):
                del sys.modules[name]


def test_the_package_is_light_to_import_and_names_what_it_has():
    code = "import sys, mh_support.metrics; print(sorted({'torch', 'evaluate', 'numpy'} & set(sys.modules)))"
    root = FOLDER.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert all(getattr(metrics, name) is not None for name in metrics.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Meteor'"):
        _ = metrics.Meteor


@pytest.mark.parametrize("name", ["", ".intervals", ".rouge.rouge", ".bleu.bleu", ".diversity.diversity"])
def test_the_examples_in_the_docstrings_hold(name):
    module = importlib.import_module(f"mh_support.metrics{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


# --- rouge ------------------------------------------------------------------------------------------------------------


def test_rouge_takes_the_best_reference_for_each_measure():
    # Against "you are here not alone" (5 words): 4 shared words, F1 = 2 * 4 / (4 + 5) = 8/9; of the bigrams 2 (you are,
    # not alone), F1 = 2 * 2 / (3 + 4) = 4/7; in order 4, F1 = 8/9.
    # Against "are not alone" (3 words): 2 * 3 / (4 + 3) = 6/7; bigrams 2 * 2 / (3 + 2) = 4/5; in order 6/7.
    references = ["you are here not alone", "are not alone"]
    statistics = rouge.item_statistics(["You are not ALONE!"], [references])
    assert statistics.tolist() == [[pytest.approx(8 / 9), pytest.approx(4 / 5), pytest.approx(8 / 9), 1.0]]

    # An empty reply scores 0 and counts in the mean.
    scores = Rouge().compute(predictions=["You are not ALONE!", ""], references=[references, ["are not alone"]])
    assert scores == {"rouge1": pytest.approx(4 / 9), "rouge2": pytest.approx(2 / 5), "rougeL": pytest.approx(4 / 9)}


def test_rouge_l_minds_the_order_and_stems():
    # "alone not are you" shares 4 of 4 words, but only 1 in order: F1 = 1 / 4.
    scores = Rouge().compute(predictions=["alone not are you"], references=[["you are not alone"]])
    assert scores == {"rouge1": 1.0, "rouge2": 0.0, "rougeL": 0.25}
    assert Rouge().compute(predictions=["my worries"], references=[["my worry"]])["rouge2"] == 1.0


def test_rouge_agrees_with_rouge_score():
    predictions, references = made_up_texts(2)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = Rouge().compute(predictions=predictions, references=references)
    for name in ("rouge1", "rouge2", "rougeL"):
        best = [
            max(scorer.score(reference, prediction)[name].fmeasure for reference in texts)
            for prediction, texts in zip(predictions, references, strict=True)
        ]
        assert scores[name] == pytest.approx(sum(best) / len(best), abs=1e-12)


# --- bleu -------------------------------------------------------------------------------------------------------------


def test_bleu_worked_by_hand():
    # "i am here for you" against "i am here with you": 4 of 5 words, 2 of 4 bigrams, 1 of 3 trigrams, 0 of 2
    # four-grams, which exponential smoothing makes (1/2) / 2 = 1/4; as long as the reference, so no penalty.
    first, reference = "i am here for you", ["i am here with you"]
    scores = Bleu().compute(predictions=[first], references=[reference])
    assert scores["bleu"] == pytest.approx((4 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** (1 / 4), abs=1e-12)
    assert scores["bleu2"] == pytest.approx((4 / 5 * 2 / 4) ** (1 / 2), abs=1e-12)

    # With "i am" beside it: 6 of 7 words, 3 of 5 bigrams, the rest as before; 7 words for 10: exp(1 - 10/7).
    scores = Bleu().compute(predictions=[first, "i am"], references=[reference, reference])
    penalty = math.exp(1 - 10 / 7)
    assert scores["bleu"] == pytest.approx(penalty * (6 / 7 * 3 / 5 * 1 / 3 * 1 / 4) ** (1 / 4), abs=1e-12)
    assert scores["bleu2"] == pytest.approx(penalty * (6 / 7 * 3 / 5) ** (1 / 2), abs=1e-12)


def test_bleu_counts_of_one_item():
    # The second reference is the closer one in length (4 words against 5 and 9).
    references = ["i am here for you , and i stay", "you are not alone"]
    assert bleu.item_statistics(["i am not alone today"], [references]).tolist() == [
        # length, closest reference, matched 1..4 (i am not alone; i am, not alone), in the reply 1..4 | nltk's for 1, 2
        [5, 4, 4, 2, 0, 0, 5, 4, 3, 2, 5, 4, 4, 2, 5, 4]
    ]


def test_bleu_of_empty_replies_is_zero():
    assert Bleu().compute(predictions=["", "  "], references=[["a b"], ["c"]]) == {"bleu": 0.0, "bleu2": 0.0}
    # Nothing in common is 0 too: smoothing starts where at least a word is shared.
    assert Bleu().compute(predictions=["good day"], references=[["i am here"]]) == {"bleu": 0.0, "bleu2": 0.0}
    alone = Bleu().compute(predictions=["i am here for you"], references=[["i am here for you"]])
    beside = Bleu().compute(predictions=["i am here for you", ""], references=[["i am here for you"], ["i am here"]])
    assert alone == {"bleu": 1.0, "bleu2": 1.0}
    assert 0 < beside["bleu"] < 1
    assert 0 < beside["bleu2"] < 1


@pytest.mark.parametrize("seed", range(5))
def test_bleu_is_exactly_the_libraries_corpus_scores(seed):
    predictions, references = made_up_texts(seed)
    assert {len(texts) for texts in references} == {1, 2, 3}
    streams = [[texts[n] if n < len(texts) else None for texts in references] for n in range(3)]
    scorer = BLEU()
    scores = Bleu().compute(predictions=predictions, references=references)
    assert scores["bleu"] == scorer.corpus_score(predictions, streams).score / 100
    assert bleu.signature(references) == str(scorer.get_signature())

    words = NLTKWordTokenizer()
    assert scores["bleu2"] == corpus_bleu(
        [[words.tokenize(text.lower()) for text in texts] for texts in references],
        [words.tokenize(text.lower()) for text in predictions],
        weights=(1 / 2, 1 / 2),
        smoothing_function=SmoothingFunction().method3,
    )


def test_bleu_signature():
    tail = f"case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert bleu.signature([["one", "two"], ["three", "four"]]) == f"nrefs:2|{tail}"
    assert bleu.signature([["one"], ["two", "three"]]) == f"nrefs:var|{tail}"
    with pytest.raises(ValueError, match=r"references\[1\] has no text"):
        bleu.signature([["one"], []])


def bleu2(prediction: str, reference: str) -> float:
    return Bleu().compute(predictions=[prediction], references=[[reference]])["bleu2"]


def test_bleu2_splits_sentences_and_lowers_case():
    # i hear you . it hurts: 3 of 6 words, 2 of 5 bigrams. Unsplit, "you." would be a word of its own and not match.
    assert bleu2("I hear YOU. It hurts", "i hear you") == pytest.approx(math.sqrt(3 / 6 * 2 / 5))
    # he said `` no . '' ok: the sentence ends behind the closing quotation mark; 2 of 7 words, 0 of 6 bigrams.
    assert bleu2('he said "no." ok', "no . ok") == pytest.approx(math.sqrt(3 / 7 * 1 / 6))
    # A title's period stays with it: dr. lee, 1 of 2 words; the bigram, unmatched, is smoothed to 1/2 of 1.
    assert bleu2("Dr. Lee", "dr lee") == pytest.approx(math.sqrt(1 / 2 * 1 / 2))


# --- diversity --------------------------------------------------------------------------------------------------------


def test_diversity_worked_by_hand():
    # so so sad | so glad so glad | nothing: 3 different of 7 words; so so, so sad, so glad, glad so: 4 different of 5
    # bigrams (none across replies); 7 words in 3 replies; 2 of 3 ended by themselves.
    scores = Diversity().compute(predictions=["So so sad...", "so glad, so glad", ""], stopped=[True, False, True])
    assert scores == {
        "distinct1": pytest.approx(3 / 7),
        "distinct2": pytest.approx(4 / 5),
        "length": pytest.approx(7 / 3),
        "repetition": 0.0,
        "stop_rate": pytest.approx(2 / 3),
    }
    assert "stop_rate" not in Diversity().compute(predictions=["so"])


def test_repetition_counts_within_a_reply_and_weighs_by_length():
    # "a b c d a b c d" has 5 series of four, the last of which stood before; "one ... five" has 2, all new.
    predictions = ["a b c d a b c d", "one two three four five"]
    assert Diversity().compute(predictions=predictions)["repetition"] == pytest.approx(1 / 7)
    assert Diversity().compute(predictions=["one two three four"] * 3)["repetition"] == 0.0
    # "no no no no no no" has 3 series, of which 2 stood before.
    assert Diversity().compute(predictions=["no no no no no no"])["repetition"] == pytest.approx(2 / 3)


def test_words_are_lower_case_with_either_apostrophe():
    assert diversity.item_ngrams(["Don\N{RIGHT SINGLE QUOTATION MARK}t", "DON'T 'quote' caf\u00e9"], 1) == [
        Counter({("don't",): 1}),
        Counter({("don't",): 1, ("quote",): 1, ("caf\u00e9",): 1}),
    ]


def test_replies_without_words_have_no_diversity():
    assert Diversity().compute(predictions=["", "..."]) == {
        "distinct1": 0.0,
        "distinct2": 0.0,
        "length": 0.0,
        "repetition": 0.0,
    }


def test_stopped_must_be_one_bool_per_reply():
    with pytest.raises(ValueError, match=r"^2 predictions but 1 values of stopped; give one for each prediction$"):
        Diversity().compute(predictions=["a", "b"], stopped=[True])
    with pytest.raises(ValueError, match=r"^stopped has a value that is not a bool; give True where a reply ended"):
        diversity.item_statistics(["a", "b"], ["yes", "no"])
    with pytest.raises(ValueError, match=r"^order is 0; it must be 1 \(words\) or more$"):
        diversity.distinct(["a"], 0)


# --- perplexity -------------------------------------------------------------------------------------------------------

VOCABULARY = 257  # 256 bytes and the end-of-text.
CONVERSATION = [
    {"role": "user", "content": "I feel alone."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "Always."},
    {"role": "assistant", "content": "I am here \u2764"},
]


def tiny_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    # Large initial weights, so that the losses differ clearly from position to position.
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3, eos_token_id=256
    )
    return GPT2LMHeadModel(config).eval()


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64, initializer_range=0.3, **sizes)
    return LlamaForCausalLM(config).eval()


def tiny_lora():
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    return get_peft_model(tiny_gpt2(), config).eval()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<|endoftext|>")
    set_chat_template(tokenizer)
    return tokenizer


def row(prompt: int, reply: int, seed: int) -> dict:
    """Return a row of random ids of which the last `reply` are scored."""
    ids = random.Random(seed).choices(range(VOCABULARY), k=prompt + reply)
    return {"input_ids": ids, "labels": [-100] * prompt + ids[prompt:], "bytes": 3 * reply}


ROWS = [row(4, 3, 0), row(1, 1, 1), row(20, 9, 2), row(2, 17, 3), row(60, 4, 4), row(5, 5, 5), row(8, 2, 6)]


def plain_statistics(model, rows) -> list[list[float]]:
    """Score each row by itself, position by position."""
    statistics = []
    for one in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([one["input_ids"]])).logits[0].double()
        scored = [place for place, label in enumerate(one["labels"]) if label != -100]
        nats = -sum(logits[place - 1].log_softmax(-1)[one["labels"][place]].item() for place in scored)
        statistics.append([nats, len(scored), one["bytes"]])
    return statistics


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama, tiny_lora])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_perplexity_agrees_with_scoring_row_by_row(make_model, batch_size):
    model = make_model()
    statistics = perplexity.item_statistics(model, ROWS, pad_token_id=256, batch_size=batch_size)
    assert statistics.dtype == np.float64
    np.testing.assert_allclose(statistics, plain_statistics(model, ROWS), rtol=1e-5)


def test_half_precision_weights_are_scored_in_full_precision():
    model = tiny_gpt2().to(torch.bfloat16)
    statistics = perplexity.item_statistics(model, ROWS, pad_token_id=256, batch_size=1)
    np.testing.assert_allclose(statistics, plain_statistics(model, ROWS), rtol=1e-4)


def test_neither_batch_size_nor_padding_changes_perplexity():
    model = tiny_gpt2()
    scores = [
        perplexity.from_statistics(
            perplexity.item_statistics(model, ROWS, pad_token_id=pad, batch_size=batch_size).sum(axis=0)
        )["perplexity"]
        for pad, batch_size in [(256, 1), (256, 2), (0, 7), (5, 100)]
    ]
    assert scores == pytest.approx([scores[0]] * 4, rel=1e-5)


def test_labels_may_skip_positions():
    gaps = {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, 6, -100, 8, -100], "bytes": 2}
    model = tiny_gpt2()
    statistics = perplexity.item_statistics(model, [gaps, ROWS[0]], pad_token_id=0)
    np.testing.assert_allclose(statistics, plain_statistics(model, [gaps, ROWS[0]]), rtol=1e-5)
    assert statistics[0, 1] == 2


def test_a_model_that_guesses_evenly_has_the_vocabulary_as_its_perplexity():
    model = tiny_gpt2()
    torch.nn.init.zeros_(model.transformer.wte.weight)  # Tied to the head: every logit is 0.
    statistics = perplexity.item_statistics(model, [row(3, 4, 0), row(3, 6, 1)], pad_token_id=0)
    scores = perplexity.from_statistics(statistics.sum(axis=0))
    # 10 tokens at log2(257) bits, over 3 * 4 + 3 * 6 = 30 bytes.
    assert scores == {
        "perplexity": pytest.approx(257, rel=1e-5),
        "bits_per_byte": pytest.approx(10 * math.log2(257) / 30, rel=1e-5),
    }
    assert {type(value) for value in scores.values()} == {float}


def test_perplexity_weighs_by_tokens():
    # 2 tokens of 1 nat and 8 tokens of 3 nats: exp(26 / 10), not the mean of e and e^3; 26 / ln 2 bits over 13 bytes.
    statistics = np.array([[2.0, 2, 3], [24.0, 8, 10]])
    scores = perplexity.from_statistics(statistics.sum(axis=0))
    assert scores == {
        "perplexity": pytest.approx(math.exp(2.6)),
        "bits_per_byte": pytest.approx(2 / math.log(2)),
    }
    arrays = perplexity.from_statistics(statistics)
    assert arrays["perplexity"] == pytest.approx([math.e, math.e**3])


def test_the_head_sees_scored_positions_only():
    model, seen = tiny_gpt2(), []
    model.lm_head.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    perplexity.item_statistics(model, ROWS, pad_token_id=256, batch_size=100)
    assert seen == [(3 + 1 + 9 + 17 + 4 + 5 + 2, 16)]


def test_each_module_keeps_the_mode_it_had():
    model = tiny_gpt2().train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    # With its dropout of 0.1 on, the model would not agree.
    statistics = perplexity.item_statistics(model, ROWS, pad_token_id=256)
    assert [module.training for module in model.modules()] == before
    np.testing.assert_allclose(statistics, plain_statistics(model.eval(), ROWS), rtol=1e-5)

    model = tiny_gpt2().train()
    torch.nn.init.constant_(model.transformer.ln_f.weight, float("nan"))
    with pytest.raises(ValueError, match=r"^the model gives a loss that is not a number; its weights have diverged"):
        perplexity.item_statistics(model, ROWS, pad_token_id=256)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(61, 4, 0), r"^row 1 has 65 tokens but the model reads 64; encode with max_length=64$"),
        (
            {"input_ids": [1, 2], "labels": [-100], "bytes": 1},
            r"^row 1 has 2 input_ids but 1 labels; give one label per",
        ),
        (row(5, 0, 0), r"^row 1 has no reply to score; leave it out, or shorten what comes before the reply$"),
        ({"input_ids": [], "labels": [], "bytes": 0}, r"^row 1 has no reply to score"),
        ({**row(5, 1, 0), "bytes": 0}, r"^row 1 has no reply to score"),
        (row(0, 3, 0), r"^row 1 scores its first token, which nothing precedes; begin with the person's turn$"),
    ],
)
def test_rows_that_cannot_be_scored_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        perplexity.item_statistics(tiny_gpt2(), [ROWS[0], bad], pad_token_id=256)


def test_perplexity_needs_rows_and_a_batch_size():
    with pytest.raises(ValueError, match=r"^there are no rows; give at least one conversation to score$"):
        perplexity.item_statistics(tiny_gpt2(), [], pad_token_id=256)
    with pytest.raises(ValueError, match=r"^batch_size is 0; it must be 1 or more$"):
        perplexity.item_statistics(tiny_gpt2(), ROWS, pad_token_id=256, batch_size=0)


def test_perplexity_of_conversations_scores_the_last_reply_alone():
    model, tokenizer = tiny_gpt2(), byte_tokenizer()
    conversations = [CONVERSATION, CONVERSATION[:2]]
    # "I am here " and a heart: 10 + 3 bytes, each a token here, and the end-of-text; "Since when?" 11 and that.
    rows = [encode_reply(tokenizer, messages) for messages in conversations]
    plain = np.array(plain_statistics(model, rows))
    assert plain[:, 1:].tolist() == [[14, 13], [12, 11]]
    nats, tokens, text_bytes = plain.sum(axis=0)

    scores = Perplexity().compute(model=model, tokenizer=tokenizer, conversations=conversations, batch_size=1)
    assert scores == {
        "perplexity": pytest.approx(math.exp(nats / tokens), rel=1e-5),
        "bits_per_byte": pytest.approx(nats / math.log(2) / text_bytes, rel=1e-5),
    }
    assert {type(value) for value in scores.values()} == {float}


def test_perplexity_keeps_to_what_the_model_reads():
    model, tokenizer = tiny_gpt2(), byte_tokenizer()
    long = [{"role": "user", "content": "x" * 200, "strategy": "none"}, {"role": "assistant", "content": "I hear you."}]
    scores = Perplexity().compute(model=model, tokenizer=tokenizer, conversations=[long])
    assert scores == Perplexity().compute(model=model, tokenizer=tokenizer, conversations=[long], max_length=64)
    assert scores != Perplexity().compute(model=model, tokenizer=tokenizer, conversations=[long], max_length=20)


def test_perplexity_of_bad_conversations():
    loaded, inputs = Perplexity(), {"model": tiny_gpt2(), "tokenizer": byte_tokenizer()}
    with pytest.raises(
        ValueError, match=r"^conversations is empty; give at least one conversation that ends with a reply$"
    ):
        loaded.compute(conversations=[], **inputs)
    with pytest.raises(ValueError, match="the last message is not an assistant's"):
        loaded.compute(conversations=[CONVERSATION[:1]], **inputs)
    with pytest.raises(ValueError, match="a message lacks role or content") as raised:
        loaded.compute(conversations=[[{"role": "user", "text": "a secret"}]], **inputs)
    assert "secret" not in str(raised.value)
    assert loaded.compute(conversations=[CONVERSATION], **inputs)["perplexity"] > 1


# --- intervals --------------------------------------------------------------------------------------------------------


def test_bootstrap_of_two_items_worked_by_hand():
    # Two items, 0 and 1: a draw has the mean 0, 1/2 or 1 with chance 1/4, 1/2, 1/4. So the middle 95 % reach from 0 to
    # 1, and the middle 40 % are all 1/2.
    statistics = means([0, 1])
    assert bootstrap_interval(statistics, mean, seed=3) == {"mean": (0.0, 1.0)}
    assert bootstrap_interval(statistics, mean, seed=3, confidence=0.4) == {"mean": (0.5, 0.5)}
    assert bootstrap_interval(means([0.5] * 9), mean, seed=3) == {"mean": (0.5, 0.5)}


def test_bootstrap_agrees_with_scipy_and_the_normal_interval():
    values = np.random.default_rng(0).normal(10, 2, size=300)
    low, high = bootstrap_interval(means(values), mean, seed=1, n_resamples=4000)["mean"]
    error = values.std() / math.sqrt(300)
    assert (low, high) == pytest.approx((values.mean() - Z * error, values.mean() + Z * error), abs=0.1 * error)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.2 * error)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    samples = [means(rng.normal(size=60)) for _ in range(600)]
    intervals = [bootstrap_interval(one, mean, seed=n, n_resamples=200)["mean"] for n, one in enumerate(samples)]
    covered = sum(low <= 0 <= high for low, high in intervals)
    # 95 % asked for, 600 samples: 0.92 to 0.97 is chance. A wrong tail or a wrong number of draws falls outside.
    assert 0.92 <= covered / 600 <= 0.97


@pytest.mark.parametrize(("metric", "module", "inputs"), text_metrics(), ids=["rouge", "bleu", "diversity"])
def test_intervals_contain_the_score_and_narrow_with_more_items(metric, module, inputs):
    statistics = module.item_statistics(**inputs)
    scores = module.from_statistics(statistics.sum(axis=0))
    few = bootstrap_interval(statistics, module.from_statistics, seed=0)
    many = bootstrap_interval(np.tile(statistics, (9, 1)), module.from_statistics, seed=0)
    assert few.keys() == many.keys() == scores.keys()
    for name, value in scores.items():
        assert few[name][0] <= value <= few[name][1]
        assert [type(end) for end in few[name]] == [float, float]
        if value > 0:
            # Nine times the items: a third of the width, or less where BLEU smooths a count of zero.
            assert many[name][1] - many[name][0] < 0.45 * (few[name][1] - few[name][0])


def test_the_seed_decides():
    statistics = means(np.random.default_rng(0).normal(size=40))
    assert bootstrap_interval(statistics, mean, seed=1) == bootstrap_interval(statistics, mean, seed=1)
    assert bootstrap_interval(statistics, mean, seed=1) != bootstrap_interval(statistics, mean, seed=2)


def test_groups_are_drawn_whole():
    values = np.random.default_rng(0).normal(size=30)
    apart = bootstrap_interval(means(values), mean, seed=1)["mean"]
    # Each item four times over says nothing new: as groups the interval is the same, as items half as wide.
    fourfold, names = means(np.repeat(values, 4)), [f"dialogue {n}" for n in np.repeat(np.arange(30), 4)]
    assert bootstrap_interval(fourfold, mean, seed=1, groups=names)["mean"] == pytest.approx(apart)
    blind = bootstrap_interval(fourfold, mean, seed=1)["mean"]
    assert blind[1] - blind[0] == pytest.approx((apart[1] - apart[0]) / 2, rel=0.2)
    assert bootstrap_interval(fourfold, mean, seed=1, groups=["one"] * 120) is None


def test_paired_difference():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=50)
    a, b = means(hard), means(hard + 0.25)
    assert paired_difference(a, a, mean, seed=0) == {"mean": Difference(0.0, (0.0, 0.0))}
    difference = paired_difference(a, b, mean, seed=0)["mean"]
    # The same gain on every item: no doubt about it, however much the items differ.
    assert difference.value == pytest.approx(0.25)
    assert difference.interval == pytest.approx((0.25, 0.25))
    assert type(difference.value) is type(difference.interval[0]) is float

    noisy = means(hard + rng.normal(0.25, 0.1, size=50))
    low, high = paired_difference(a, noisy, mean, seed=0)["mean"].interval
    assert 0.15 < low < 0.25 < high < 0.35
    low, high = paired_difference(noisy, a, mean, seed=0)["mean"].interval
    assert low < -0.25 < high < 0
    grouped = paired_difference(a, noisy, mean, seed=0, groups=[n // 2 for n in range(50)])["mean"]
    assert grouped.interval[0] < grouped.value < grouped.interval[1]


def test_paired_t_difference():
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(0)
    a, gains = means(rng.normal(size=12)), rng.normal(0.25, 1, size=12)
    b = a + np.array([[gain, 0] for gain in gains])
    assert paired_t_difference(a, a, mean) == {"mean": Difference(0.0, (0.0, 0.0))}
    found = paired_t_difference(a, b, mean)["mean"]
    expected = ttest_1samp(gains, 0).confidence_interval()
    assert found.value == pytest.approx(gains.mean())
    assert found.interval == pytest.approx((expected.low, expected.high))
    # Of as many items each, it is the t interval of the groups' means.
    groups = [number % 4 for number in range(12)]
    expected = ttest_1samp(gains.reshape(3, 4).mean(axis=0), 0).confidence_interval(0.9)
    found = paired_t_difference(a, b, mean, groups=groups, confidence=0.9)["mean"]
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert type(found.value) is type(found.interval[0]) is float
    assert paired_t_difference(a, b, mean, groups=["one"] * 12)["mean"].interval is None
    with pytest.raises(ValueError, match=r"^the statistics have the shapes \(12, 2\) and \(11, 2\)"):
        paired_t_difference(a, b[1:], mean)
    with pytest.raises(ValueError, match=r"^confidence is 2; it must be between 0 and 1"):
        paired_t_difference(a, b, mean, confidence=2)


def test_one_item_has_a_score_but_no_interval():
    one = means([0.5])
    assert bootstrap_interval(one, mean, seed=0) is None
    assert paired_difference(one, means([0.75]), mean, seed=0) == {"mean": Difference(0.25, None)}
    assert wilson_interval(1, 1) is None
    assert wilson_interval(0, 0) is None
    assert jackknife_interval([Counter({("so",): 2})]) is None
    assert jackknife_interval([]) is None


def test_bad_arguments_of_intervals():
    two = means([0, 1])
    with pytest.raises(
        ValueError, match=r"^statistics have the shape \(0, 2\); give \(items, k\) with at least one item$"
    ):
        bootstrap_interval(np.zeros((0, 2)), mean, seed=0)
    with pytest.raises(ValueError, match=r"^statistics have the shape \(3,\); give \(items, k\)"):
        bootstrap_interval(np.zeros(3), mean, seed=0)
    with pytest.raises(ValueError, match=r"^statistics hold a value that is not a finite number; check the metric's"):
        bootstrap_interval(means([0, float("nan")]), mean, seed=0)
    with pytest.raises(ValueError, match=r"^2 items but 1 groups; name one group for each item$"):
        bootstrap_interval(two, mean, seed=0, groups=["a"])
    with pytest.raises(ValueError, match=r"^2 items but 1 groups; name one group for each item$"):
        jackknife_interval([Counter(), Counter()], groups=["a"])
    with pytest.raises(ValueError, match=r"^n_resamples is 0; it must be 1 or more$"):
        bootstrap_interval(two, mean, seed=0, n_resamples=0)
    with pytest.raises(ValueError, match=r"^confidence is 95; it must be between 0 and 1, such as 0.95$"):
        bootstrap_interval(two, mean, seed=0, confidence=95)
    with pytest.raises(ValueError, match=r"^confidence is 1; it must be between 0 and 1"):
        wilson_interval(1, 2, confidence=1)
    with pytest.raises(ValueError, match=r"^confidence is 0; it must be between 0 and 1"):
        jackknife_interval([Counter()], confidence=0)
    with pytest.raises(
        ValueError, match=r"^the statistics have the shapes \(2, 2\) and \(1, 2\); give both for the same"
    ):
        paired_difference(two, means([1]), mean, seed=0)
    with pytest.raises(ValueError, match=r"^3 successes of 2; they must be between 0 and the number of items$"):
        wilson_interval(3, 2)


def test_wilson_worked_by_hand():
    # At the ends the formula is short: 0 of n reaches up to z^2 / (n + z^2), n of n down to n / (n + z^2).
    assert wilson_interval(0, 10) == pytest.approx((0.0, Z**2 / (10 + Z**2)))
    assert wilson_interval(50, 50) == pytest.approx((50 / (50 + Z**2), 1.0))
    # 1 of 4: (1 + z^2/2 -+ z sqrt(1 * 3 / 4 + z^2 / 4)) / (4 + z^2).
    half = Z * math.sqrt(3 / 4 + Z**2 / 4)
    expected = ((1 + Z**2 / 2 - half) / (4 + Z**2), (1 + Z**2 / 2 + half) / (4 + Z**2))
    assert wilson_interval(1, 4) == pytest.approx(expected)
    assert [type(end) for end in wilson_interval(np.int64(1), np.int64(4))] == [float, float]


def test_jackknife_worked_by_hand():
    # so so sad | so glad: 3/5. Without the first 2/2, without the second 2/3; their mean 5/6, each 1/6 from it; the
    # error is sqrt((2 - 1) / 2 * 2 * (1/6)^2) = 1/6.
    ngrams = diversity.item_ngrams(["so so sad", "so glad"], 1)
    assert jackknife_interval(ngrams) == pytest.approx((0.6 - Z / 6, 0.6 + Z / 6))
    # Clipped: all words different, and a first reply that holds nearly all of them.
    assert jackknife_interval(diversity.item_ngrams(["a", "b c"], 1)) == (1.0, 1.0)
    assert jackknife_interval(diversity.item_ngrams(["a a a a", "b"], 1))[1] == 1.0
    assert jackknife_interval(diversity.item_ngrams(["", "..."], 1)) == (0.0, 0.0)


def zipf_replies(seed: int, items: int) -> list[str]:
    """Return replies of ten words, the n-th of which is said with a chance like 1/n."""
    chances = 1 / np.arange(1, 401)
    drawn = np.random.default_rng(seed).choice(400, size=(items, 10), p=chances / chances.sum())
    return [" ".join(f"w{word}" for word in words) for words in drawn]


@pytest.mark.parametrize("order", [1, 2])
def test_jackknife_is_what_leaving_out_one_reply_after_the_other_gives(order):
    predictions = [*zipf_replies(0, 25), "", "w1"]
    items = len(predictions)
    left_out = [diversity.distinct(predictions[:n] + predictions[n + 1 :], order) for n in range(items)]
    error = math.sqrt((items - 1) / items * sum((value - np.mean(left_out)) ** 2 for value in left_out))
    value = diversity.distinct(predictions, order)
    interval = jackknife_interval(diversity.item_ngrams(predictions, order), confidence=0.5)
    assert interval == pytest.approx((value - 0.6744897501960817 * error, value + 0.6744897501960817 * error))


def test_jackknife_holds_the_value_where_resampling_falls_below_it():
    predictions = zipf_replies(1, 80)
    value = diversity.distinct(predictions, 1)
    low, high = jackknife_interval(diversity.item_ngrams(predictions, 1))
    assert low < value < high
    rng = random.Random(0)
    assert max(diversity.distinct(rng.choices(predictions, k=80), 1) for _ in range(50)) < value


def test_jackknife_covers_the_truth_about_as_often_as_it_says():
    truth = np.mean([diversity.distinct(zipf_replies(seed, 40), 1) for seed in range(1000, 1300)])
    intervals = [jackknife_interval(diversity.item_ngrams(zipf_replies(seed, 40), 1)) for seed in range(300)]
    covered = sum(low <= truth <= high for low, high in intervals)
    # Known to err towards too wide, never much towards too narrow.
    assert 0.92 <= covered / 300 <= 1


def test_jackknife_leaves_out_groups_whole():
    predictions = zipf_replies(2, 20)
    pairs = [f"{first} {second}" for first, second in zip(predictions[::2], predictions[1::2], strict=True)]
    grouped = jackknife_interval(diversity.item_ngrams(predictions, 1), groups=[n // 2 for n in range(20)])
    assert grouped == pytest.approx(jackknife_interval(diversity.item_ngrams(pairs, 1)))
