"""Fine-tune, score, publish and serve small chat models for supportive conversation.

For research and education. Not a therapist, and never a replacement for professional care.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Loaded when first used, so that importing the package is quick and loads neither torch nor transformers.
_EXPORTS = {
    "DataArguments": "mh_support.data.preparation",
    "FinetuneArguments": "mh_support.training",
    "ModelArguments": "mh_support.modeling",
    "SupportBot": "mh_support.support_bot",
    "finetune": "mh_support.training",
    "prepare": "mh_support.data.preparation",
    "publish_model": "mh_support.hub",
    "score_run": "mh_support.scoring",
}
__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
