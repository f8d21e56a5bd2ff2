"""Why what a model wrote is not fit for a person: the check of replies, echoes, and danger that nobody spoke of."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mh_support.files import sha256_of
from mh_support.safety.crisis import spoken_of
from mh_support.safety.echoes import Echoes
from mh_support.safety.reply_check import check_reply

# A model has no business to bring up what the crisis check did not see: it cannot judge it, nor help.
NOT_FOR_A_MODEL = ("suicide", "self-harm")
DANGER, ECHO = "danger", "echo"
# What the checks of messages and of replies are made of, without what measures and trains them or says whom to call.
_CHECKS = frozenset(
    [
        "classifier",
        "crisis",
        "crisis_classifier",
        "crisis_rules",
        "echoes",
        "encoder",
        "fitness",
        "identities",
        "languages",
        "plain_words",
        "reply_check",
        "reply_classifier",
        "spellings",
        "together",
    ]
)


def checks_fingerprint() -> str:
    """Return the SHA-256 of the files that the checks are made of; what was measured with others is measured anew.

    The encoder below the classifiers, which another package carries, is not among them.
    """
    kinds = (".py", ".json", ".safetensors")
    folder = Path(__file__).resolve().parent
    return sha256_of(path for path in folder.iterdir() if path.stem in _CHECKS and path.suffix in kinds)


def why_unfit(
    reply: str, *, echoes: Echoes | None = None, dangers: Collection[str] = NOT_FOR_A_MODEL
) -> tuple[str, ...]:
    """Return why a reply, or the part of it that has come so far, is not fit to be shown; nothing where it is.

    Args:
        reply: what a model wrote.
        echoes: what the model has read, not to be repeated.
        dangers: categories of danger that a model may not bring up.

    >>> why_unfit("You have depression. Call them if it is good to end your life.")
    ('diagnosis', 'danger')
    """
    reasons = list(check_reply(reply).reasons)
    if echoes is not None and echoes.heard_in(reply):
        reasons.append(ECHO)
    if not spoken_of(reply).isdisjoint(dangers):
        reasons.append(DANGER)
    return tuple(reasons)
