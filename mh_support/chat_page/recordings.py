"""Recordings over HTTP: what a person said, written down for them to correct; held in memory until the answer."""

from __future__ import annotations

import wave
from io import BytesIO
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

import gradio as gr
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    import numpy as np

    from mh_support.speech import Transcriber

MAX_SECONDS = 60  # Of one recording.
MAX_RECORDINGS = 8  # Waiting to be written down, each of which holds one of the threads that also serve the page.


def add_recordings(server: gr.Server, transcriber: Transcriber) -> None:
    """Add the route that a recording is sent to, and its words come back from."""
    one_at_a_time, places = Lock(), BoundedSemaphore(MAX_RECORDINGS)

    def write_down(recording: bytes) -> str:
        with one_at_a_time:
            return transcriber.transcribe(_samples(recording))

    @server.post("/voice", include_in_schema=False)
    async def voice(request: Request) -> JSONResponse:
        recording = await request.body()
        if not places.acquire(blocking=False):
            return JSONResponse({"error": "too many recordings at once; try again in a minute"}, 503)
        try:
            return JSONResponse({"text": await run_in_threadpool(write_down, recording)})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)
        finally:
            places.release()


def _samples(recording: bytes) -> tuple[int, np.ndarray]:
    """Return rate and samples, between -1 and 1, of a WAV with one channel of 16 bits.

    Raises:
        ValueError: it is none, or too long.
    """
    import numpy as np

    try:
        with wave.open(BytesIO(recording)) as sound:
            rate, shape = sound.getframerate(), (sound.getnchannels(), sound.getsampwidth())
            frames = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:
        raise ValueError("the recording is not a WAV file that can be read; record it again") from error
    if shape != (1, 2):
        raise ValueError(f"the recording holds {shape[0]} x {8 * shape[1]} bits a sample; send one channel of 16 bits")
    samples = np.frombuffer(frames[: len(frames) // 2 * 2], dtype="<i2").astype(np.float32) / 32768
    if len(samples) > rate * (MAX_SECONDS + 5):
        raise ValueError(f"the recording is longer than {MAX_SECONDS} seconds; say it in parts")
    return rate, samples
