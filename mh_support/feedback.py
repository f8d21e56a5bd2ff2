"""What people who agreed to it thought of replies: thumbs, and choices between two replies, to learn from later.

A store writes one JSON-lines file in a folder that any number of processes share. Each record is scrubbed, written
under a lock and on the disk before the person is thanked; what a kill leaves unfinished is passed over by the reader.
Nothing is kept of a conversation that ever held a crisis. A person is known by the hash of a code that only they have,
and takes all of their records back with it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
import uuid
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import scrub
from mh_support.dialogue import Message, check_messages
from mh_support.feedback_files import append_record, delete_records, read_feedback
from mh_support.safety import assess

if TYPE_CHECKING:
    from mh_support.feedback_upload import FeedbackUpload

__all__ = ["FeedbackStore", "delete_feedback", "new_code", "person_of", "read_feedback"]

MAX_CHARACTERS = 8_000  # Of one message or reply.
MAX_REASON_CHARACTERS = 1_000
MAX_MESSAGES = 200
MAX_RECORD_CHARACTERS = 24_000  # Of a record's messages together; of a longer conversation the latest are kept.
# More than a person rates by hand. A flood under ever new codes is stopped by the second number: with it, a process
# writes at most some 100 MB an hour.
RECORDS_PER_PERSON_AND_HOUR = 60
RECORDS_PER_HOUR = 1_000
REMOVED = "(personal details)"  # Stands for a message that was nothing else.

_HOUR = 3_600.0
# Crockford's base 32: no I, L, O or U, which are read as other signs or make words.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE = re.compile(rf"[{_ALPHABET}]{{16}}")
_MISREAD = str.maketrans("ILO", "110", "- ")


def new_code() -> str:
    """Return a code of 80 random bits that is easy to write down; show it to the person once, and keep it nowhere."""
    signs = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return "-".join(signs[start : start + 4] for start in range(0, 16, 4))


def person_of(code: str) -> str:
    """Return the hash that stands for a person in records; case, dashes and O for 0 do not matter.

    Raises:
        ValueError: this is no code.
    """
    signs = code.upper().translate(_MISREAD) if isinstance(code, str) else ""
    if not _CODE.fullmatch(signs):
        raise ValueError("this is not a feedback code; it has 16 letters and digits, as in 0J4W-7KQT-M2XB-9RCD")
    return hashlib.sha256(signs.encode()).hexdigest()


class FeedbackStore:
    """Writes feedback into a file of its own in `folder`. Safe from any thread.

    Example:
        >>> store = FeedbackStore("feedback", model={"name": "starter", "fingerprint": None}, consent="2026-11")
        >>> code, messages = new_code(), [{"role": "user", "content": "I feel alone."}]
        >>> proof = store.sign(messages, "Since when?")  # when the bot replies
        >>> store.add_thumb(code, messages, "Since when?", True, proof=proof)  # when the person rates
        '5f0c7e...'
        >>> store.delete(code)
        1

    Args:
        folder: made if it is missing, readable by its owner alone.
        model: "name" and "fingerprint" (or None) of the model that writes the replies.
        consent: version of the text that people agreed to.
        secret: what replies are signed with; by default one made for this process, so that proofs end with it. Several
            processes behind one address need the same.
        upload: where the records go besides.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        model: Mapping[str, str | None],
        consent: str,
        secret: bytes | None = None,
        upload: FeedbackUpload | None = None,
    ) -> None:
        if not consent:
            raise ValueError("consent is empty; give the version of the text that people agree to")
        if set(model) != {"name", "fingerprint"}:
            raise ValueError(f"model has the keys {sorted(model)}; give name and fingerprint (which may be None)")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = self.folder / f"feedback-{uuid.uuid4().hex}.jsonl"
        self._model, self._consent = dict(model), consent
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._recent: deque[tuple[float, str]] = deque()
        self._counting = Lock()
        self._upload = upload

    def sign(self, messages: Sequence[Message], reply: str) -> str:
        """Return the proof that this server's model gave `reply` to `messages`; the page hands it back with a rating.

        Sign what the model wrote (`stream.kind == "model"`), and nothing more of a conversation once a reply's kind was
        "crisis": the check here reads what is in English, and the bot may have seen the crisis in its translation.
        """
        said = json.dumps([check_messages(messages), reply.strip(), self._model], sort_keys=True)
        return hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()

    def add_thumb(
        self,
        code: str,
        messages: Sequence[Message],
        reply: str,
        up: bool,
        reason: str | None = None,
        *,
        proof: str,
    ) -> str | None:
        """Keep a thumb up or down and return the record's id; None where the conversation holds a crisis.

        A later thumb on the same reply is a record of its own; the later one counts.

        Raises:
            ValueError: no code; a text too long; too many records this hour; or the bot did not give this reply.
            OSError: the disk refuses; then nothing is kept.
        """
        if not isinstance(up, bool):
            raise ValueError(f"up is {type(up).__name__}; give True for a thumb up, False for a thumb down")
        return self._add(code, messages, {"kind": "thumb", "up": up}, {"reply": reply}, reason, [proof])

    def add_choice(
        self,
        code: str,
        messages: Sequence[Message],
        chosen: str,
        rejected: str,
        reason: str | None = None,
        *,
        proofs: tuple[str, str],
    ) -> str | None:
        """Keep which of two replies to the same messages was preferred; `proofs` are theirs, the chosen one's first.

        Returns and raises what `add_thumb` does.
        """
        replies = {"chosen": chosen, "rejected": rejected}
        return self._add(code, messages, {"kind": "choice"}, replies, reason, proofs)

    def delete(self, code: str, ids: Collection[str] | None = None) -> int:
        """Remove every record of a person from every process's file, and return how many there were.

        With `ids`, only the records that have them: those of a conversation in which a crisis came up later. A crash
        leaves each file as it was or without them; calling again goes on.

        Raises:
            ValueError: no code.
            OSError: the disk refuses, or the data set that they were uploaded to; call again.
        """
        removed = delete_feedback(self.folder, code, ids)
        if self._upload is not None:
            self._upload.push()
        return removed

    def _add(
        self,
        code: str,
        messages: Sequence[Message],
        rating: Mapping[str, Any],
        replies: Mapping[str, str],
        reason: str | None,
        proofs: Sequence[str],
    ) -> str | None:
        person, conversation = person_of(code), check_messages(messages)
        _check_texts(conversation, replies, reason)
        if not conversation or conversation[-1]["role"] != "user":
            raise ValueError("the rated conversation does not end with something the person said")
        for reply, proof in zip(replies.values(), proofs, strict=True):
            if not hmac.compare_digest(self.sign(conversation, reply).encode(), str(proof).encode()):
                raise ValueError("this reply was not given here, or before the server was started anew; not kept")
        if _ever_a_crisis([*conversation, {"role": "user", "content": reason or ""}]):
            return None
        self._count(person)
        record = {
            "id": uuid.uuid4().hex,
            "person": person,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "consent": self._consent,
            "model": self._model,
            "messages": _latest([{**turn, "content": _scrubbed(turn["content"])} for turn in conversation]),
            **rating,
            **{name: _scrubbed(reply) for name, reply in replies.items()},
            "reason": _scrubbed(reason) if reason else None,
        }
        append_record(self.path, record)
        return str(record["id"])

    def _count(self, person: str) -> None:
        """Refuse a flood; what is counted is forgotten after an hour."""
        now = time.monotonic()
        with self._counting:
            while self._recent and self._recent[0][0] <= now - _HOUR:
                self._recent.popleft()
            if sum(other == person for _, other in self._recent) >= RECORDS_PER_PERSON_AND_HOUR:
                raise ValueError(f"{RECORDS_PER_PERSON_AND_HOUR} ratings an hour are the most a person can give")
            if len(self._recent) >= RECORDS_PER_HOUR:
                raise ValueError(f"{RECORDS_PER_HOUR} ratings an hour are the most that are kept; try again later")
            self._recent.append((now, person))


def delete_feedback(folder: str | os.PathLike[str], code: str, ids: Collection[str] | None = None) -> int:
    """Do what `FeedbackStore.delete` does without a store, also while servers write to the folder.

    Raises:
        ValueError: no code, or no folder.
        OSError: the disk refuses; call again.
    """
    person, place = person_of(code), Path(folder)
    if not place.is_dir():
        raise ValueError(f"no feedback at {place}; give the folder that the server writes it to")
    return delete_records(place, person, ids)


def _check_texts(messages: Sequence[Message], replies: Mapping[str, str], reason: str | None) -> None:
    if not all(isinstance(text, str) for text in (*replies.values(), reason or "")):
        raise ValueError("a reply or reason is not a text; give them as the page shows them")
    if len(messages) > MAX_MESSAGES:
        raise ValueError(f"the conversation has {len(messages)} messages; at most {MAX_MESSAGES} can be rated")
    texts = [*(message["content"] for message in messages), *replies.values()]
    if any(len(text) > MAX_CHARACTERS for text in texts):
        raise ValueError(f"a text has more than {MAX_CHARACTERS} characters, which is the most that is kept")
    if reason is not None and len(reason) > MAX_REASON_CHARACTERS:
        raise ValueError(f"the reason has {len(reason)} characters; at most {MAX_REASON_CHARACTERS} are kept")


def _ever_a_crisis(messages: Sequence[Message]) -> bool:
    """Whether any turn was a crisis, also one that the person has taken back since."""
    # A crisis begins in one turn, or in a yes to the question before it: looking at pairs takes linear time.
    turns = [place for place, message in enumerate(messages) if message["role"] == "user"]
    return assess(messages).is_crisis or any(
        assess(messages[max(0, place - 1) : place + 1]).is_crisis for place in turns
    )


def _scrubbed(text: str) -> str:
    return scrub(clean_text(text)).text.strip() or REMOVED


def _latest(messages: Sequence[Message]) -> list[Message]:
    """Return the latest messages that fit a record; the last always does."""
    kept, room = [messages[-1]], MAX_RECORD_CHARACTERS - len(messages[-1]["content"])
    for message in reversed(messages[:-1]):
        room -= len(message["content"])
        if room < 0:
            break
        kept.insert(0, message)
    return kept
