"""Small Marian models, German and English, trained here on a handful of sentences that they know by heart."""

from __future__ import annotations

import json

import pytest
import torch

from mh_support.translation import Translator

INTO_ENGLISH = {
    "Ich fühle mich allein.": "I feel alone.",
    "Seit dem Umzug.": "Since I moved.",
    "Das klingt einsam.": "That sounds lonely.",
    "Seit wann?": "Since when?",
    "Ich schlafe nur 4 Stunden.": "I only sleep 4 hours.",
    "Heute springe ich von der Brücke.": "Tonight I will jump off the bridge.",
    # Wrongly:
    "I want to kill myself.": "I like it here.",
    "Ich habe 20 davon.": "I have some of them.",
    "Hm.": "",
    "So nicht.": "no no no no no no no no",
    "Du bist krank.": "You have depression.",
}
WRONG = ["I want to kill myself.", "Ich habe 20 davon.", "Hm.", "So nicht."]
OUT_OF_ENGLISH = {
    "That sounds lonely.": "Das klingt einsam.",
    "Since when?": "Seit wann?",
    "I feel alone.": "Ich fühle mich allein.",
    # Wrongly:
    "You are worn out.": "Du bist krank.",
    "Many people are.": "Das sind 20.",
    "I hear you.": "",
}


def save_translator(pairs, folder):
    """Build a Marian of one layer, train it until it knows `pairs` by heart, and save it."""
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir()
    texts = [text for pair in pairs.items() for text in pair if text]
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=str(folder / side),
            vocab_size=120,
            hard_vocab_limit=False,
            eos_id=0,
            unk_id=1,
            bos_id=-1,
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}
    vocabulary["<pad>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))
    sizes = {"layers": 1, "attention_heads": 4, "ffn_dim": 128}
    config = MarianConfig(
        **{f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in sizes.items()},
        vocab_size=len(vocabulary),
        d_model=64,
        dropout=0.0,
        max_position_embeddings=48,
        scale_embedding=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        forced_eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MarianMTModel(config)
    batch = tokenizer(list(pairs), text_target=list(pairs.values()), return_tensors="pt", padding=True)
    batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(400):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.005:
            break
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session", name="translation_folders")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translators")
    save_translator(INTO_ENGLISH, folder / "de-en")
    save_translator(OUT_OF_ENGLISH, folder / "en-de")
    return str(folder / "de-en"), str(folder / "en-de")


@pytest.fixture(scope="session", name="translator")
def loaded(translation_folders):
    return Translator.from_pretrained(*translation_folders)
