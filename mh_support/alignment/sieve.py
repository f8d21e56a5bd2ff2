"""Sifting ratings, so that feedback which errs, or means harm, is not learned from.

Whoever can rate can try to teach. Each step takes ratings and returns those that stay; every other has one fate.
"""

from __future__ import annotations

import hmac
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tqdm.auto import tqdm

from mh_support.alignment.ratings import Rating, hashed
from mh_support.data.cleaning import clean_text
from mh_support.data.preparation import SAME_REPLY
from mh_support.data.privacy import scrub
from mh_support.data.similarity import jaccard, shingles
from mh_support.data.splitting import group_by_question, near_duplicates, normalise
from mh_support.dialogue import Message, check_messages
from mh_support.feedback import REMOVED
from mh_support.safety import assess
from mh_support.safety.echoes import Echoes
from mh_support.safety.fitness import DANGER, ECHO, why_unfit
from mh_support.safety.replies import without_check_in

# Whoever praised this many replies that are not fit to be shown is no longer believed in anything.
UNSAFE_PRAISE = 2


@dataclass
class Sieve:
    """Sifts ratings step by step; each that falls through is counted under why.

    `echoes` are what the model that learns has read.
    """

    echoes: Echoes | None = field(default=None, repr=False)
    fates: Counter[str] = field(default_factory=Counter)
    edits: Counter[str] = field(default_factory=Counter)
    _reasons: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def _keep(self, ratings: Sequence[Rating], fate: str, keep: Callable[[Rating], bool]) -> list[Rating]:
        kept = [rating for rating in ratings if keep(rating)]
        self.fates[fate] += len(ratings) - len(kept)
        return kept

    def by_kind(self, ratings: Sequence[Rating], kind: str) -> list[Rating]:
        return self._keep(ratings, "other_kind", lambda rating: rating.kind == kind)

    def by_consent(self, ratings: Sequence[Rating], consents: Sequence[str] | None) -> list[Rating]:
        def agreed(rating: Rating) -> bool:
            return bool(rating.consent.strip()) and (consents is None or rating.consent in consents)

        return self._keep(ratings, "no_consent", agreed)

    def latest(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Keep each record once, and a person's last word on the same replies to the same conversation.

        Of records without a time, the last is the one that was read last.
        """
        by_id: dict[str, Rating] = {}
        for rating in ratings:
            by_id.pop(rating.id, None)
            by_id[rating.id] = rating
        last: dict[tuple[str, ...], Rating] = {}
        for rating in sorted(by_id.values(), key=lambda rating: rating.time):
            last[(rating.person, _said(rating), *_replies(rating))] = rating
        kept = {rating.id for rating in last.values()}
        self.fates["again"] += len(ratings) - len(kept)
        return [rating for rating in by_id.values() if rating.id in kept]

    def capped(self, ratings: Sequence[Rating], cap: int) -> list[Rating]:
        """Keep the newest `cap` of each person."""
        by_person: dict[str, list[Rating]] = defaultdict(list)
        for rating in ratings:
            by_person[rating.person].append(rating)
        newest = {
            rating.id for own in by_person.values() for rating in sorted(own, key=lambda rating: rating.time)[-cap:]
        }
        return self._keep(ratings, "over_cap", lambda rating: rating.id in newest)

    def scrubbed(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Scrub every text once more: the scrubber may have learned since the record was written."""
        kept = []
        for rating in ratings:
            messages = [{**turn, "content": self._scrub(turn["content"])} for turn in rating.messages]
            replies = tuple((without_check_in(self._scrub(reply)), up) for reply, up in rating.replies)
            texts = [messages[-1]["content"], *(reply for reply, _ in replies)]
            same = len({normalise(reply) for reply, _ in replies}) < len(replies)
            if same or any(text in ("", REMOVED) for text in texts):
                self.fates["empty"] += 1
            else:
                kept.append(replace(rating, messages=check_messages(messages), replies=replies))
        return kept

    def _scrub(self, text: str) -> str:
        found = scrub(clean_text(text))
        self.edits.update(found.counts.keys())
        return found.text.strip()

    def without_risk(self, ratings: Sequence[Rating]) -> list[Rating]:
        return self._keep(ratings, "risk", lambda rating: not _at_risk(rating.messages))

    def without_unsafe_praise(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Leave out praise of replies that are not fit to be shown, and all else from who gave such praise twice.

        Of both kinds of record and before the newest of each person are kept, or later ratings would hide it.
        """
        bar = tqdm(ratings, "replies praised", disable=None, leave=False)
        # An echo says nothing against who praised it: they cannot know what the model has read.
        unsafe = [rating for rating in bar if self._why_unfit(rating) - {ECHO} and not _at_risk(rating.messages)]
        # Nor does a word of danger to somebody who hinted at it, though it is not for a model to say.
        against = [rating for rating in unsafe if self._why_unfit(rating) - {ECHO, DANGER} or not _hints(rating)]
        # A reply that somebody praised both by a thumb and in a choice is one.
        praised = {(rating.person, _said(rating), _praised(rating)) for rating in against}
        counts = Counter(person for person, _, _ in praised)
        out = {rating.id for rating in unsafe}
        safe = self._keep(ratings, "unsafe_praise", lambda rating: rating.id not in out)
        return self._keep(safe, "distrusted", lambda rating: counts[rating.person] < UNSAFE_PRAISE)

    def without_echoes(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Leave out praise of replies that repeat what the model has read: it would learn to do so more."""
        return self._keep(ratings, "echo", lambda rating: ECHO not in self._why_unfit(rating))

    def _why_unfit(self, rating: Rating) -> set[str]:
        """Return why what a rating praises is not fit to be shown; nothing where it is, or where it praises nothing."""
        reply = _praised(rating)
        if reply is None:
            return set()
        if reply not in self._reasons:
            self._reasons[reply] = why_unfit(reply, echoes=self.echoes)
        return set(self._reasons[reply])

    def unscored(self, ratings: Sequence[Rating], held_out: Sequence[Sequence[Message]]) -> list[Rating]:
        """Leave out what asks a question of the run's validation or test dialogues: its perplexity would be memory.

        What raters chose between in a rating set is of that kind, and one of the replies may be the reference.
        """
        groups = group_by_question([*held_out, *(rating.messages for rating in ratings)])
        scored = set(groups[: len(held_out)])
        asked = dict(zip((rating.id for rating in ratings), groups[len(held_out) :], strict=True))
        return self._keep(ratings, "scored", lambda rating: asked[rating.id] not in scored)

    def voted(self, ratings: Sequence[Rating], questions: dict[str, int]) -> list[Rating]:
        """Let nearly the same replies to nearly the same question be one row, with the verdict of most people."""
        kept = []
        for group in _alike(ratings, questions):
            verdicts = {rating.id: _verdict(rating, group[0]) for rating in group}
            # A person has one vote, or one for each side.
            votes = Counter(verdict for _, verdict in {(rating.person, verdicts[rating.id]) for rating in group})
            if votes[True] == votes[False]:
                self.fates["disputed"] += len(group)
                continue
            won = votes[True] > votes[False]
            kept.append(next(rating for rating in group if verdicts[rating.id] == won))
            self.fates["repeat"] += len(group) - 1
        order = {rating.id: place for place, rating in enumerate(ratings)}
        return sorted(kept, key=lambda rating: order[rating.id])

    def fitting(self, ratings: Sequence[Rating], fits: Callable[[Rating], Rating | None]) -> list[Rating]:
        fitted = [fits(rating) for rating in ratings]
        self.fates["too_long"] += fitted.count(None)
        return [rating for rating in fitted if rating is not None]

    def split(
        self, ratings: Sequence[Rating], questions: dict[str, int], share: float, secret: bytes
    ) -> tuple[list[Rating], list[Rating]]:
        """Hold about a share of the people out, with their questions; who is stays so while feedback grows.

        A question on both sides stays where most of its ratings are; the others are left out.
        """
        judges = {rating.person for rating in ratings if _judges(rating.person, share, secret)}
        lean: Counter[int] = Counter()
        for rating in ratings:
            lean[questions[rating.id]] += 1 if rating.person in judges else -1
        whole = self._keep(
            ratings, "shared_question", lambda rating: (lean[questions[rating.id]] >= 0) == (rating.person in judges)
        )
        train = [rating for rating in whole if rating.person not in judges]
        return train, [rating for rating in whole if rating.person in judges]

    def balanced(self, ratings: Sequence[Rating], limit: float, seed: int) -> list[Rating]:
        """Leave out thumbs of the kind of which there are more than `limit` for each of the other."""
        if not ratings or ratings[0].kind == "choice":
            return list(ratings)
        sides = {up: [rating for rating in ratings if rating.praised is up] for up in (True, False)}
        few, many = sorted(sides.values(), key=len)
        if not few:
            return list(ratings)
        drawn = sorted(many, key=lambda rating: hashed(f"{seed} {rating.id}"))[: int(limit * len(few))]
        left = {rating.id for rating in (*few, *drawn)}
        return self._keep(ratings, "surplus", lambda rating: rating.id in left)


def _said(rating: Rating) -> str:
    return " | ".join(f"{turn['role']} {normalise(turn['content'])}" for turn in rating.messages)


def _replies(rating: Rating) -> tuple[str, ...]:
    """Return the replies' words, in an order that does not depend on the verdict."""
    return tuple(sorted(normalise(reply) for reply, _ in rating.replies))


def _verdict(rating: Rating, first: Rating) -> bool:
    """Return whether a thumb is up, or whether a choice is the one that `first` made between nearly the same replies.

    Which reply of one is which of the other is told by likeness: a word in front changes any order of the letters.
    """
    if rating.kind == "thumb":
        return rating.praised
    (chosen, rejected), (one, other) = (
        [shingles(normalise(reply)) for reply, _ in given.replies] for given in (rating, first)
    )
    return jaccard(chosen, one) + jaccard(rejected, other) >= jaccard(chosen, other) + jaccard(rejected, one)


def _judges(person: str, share: float, secret: bytes) -> bool:
    """Return whether a person is one of those who judge.

    By a keyed hash, since people choose their codes: whoever could foresee it would make up codes until they are all
    the judges there are. Against a fixed threshold, so that nobody changes sides when others come.
    """
    digest = hmac.digest(secret, person.encode(), "sha256")
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _at_risk(messages: Sequence[Message]) -> bool:
    """Whether any turn was a crisis, also one that the person has taken back since."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "user"]
    # A crisis begins in one turn, or in a yes to the question before it.
    pairs = [messages[max(0, place - 1) : place + 1] for place in turns] if len(messages) > 1 else []
    return any(assess(part).is_crisis for part in (messages, *pairs))


def _hints(rating: Rating) -> bool:
    return assess(rating.messages).level != "none"


def _praised(rating: Rating) -> str | None:
    return next((reply for reply, up in rating.replies if up), None)


def questions_of(ratings: Sequence[Rating]) -> dict[str, int]:
    """Return a number for each rating's question, by the rating's id; nearly the same questions share it."""
    groups = group_by_question([rating.messages for rating in ratings])
    return dict(zip((rating.id for rating in ratings), groups, strict=True))


def _alike(ratings: Sequence[Rating], questions: dict[str, int]) -> Iterator[list[Rating]]:
    """Yield the ratings of nearly the same replies to nearly the same question, together."""
    by_question: dict[int, dict[tuple[str, ...], list[Rating]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        by_question[questions[rating.id]][_replies(rating)].append(rating)
    for exact in by_question.values():
        groups = list(exact.values())
        texts = [" / ".join(replies) for replies in exact]
        owner = list(range(len(groups)))
        for one, other in near_duplicates(texts, threshold=SAME_REPLY) if len(groups) > 1 else ():
            owner = [owner[one] if number == owner[other] else number for number in owner]
        for number in sorted(set(owner)):
            yield [rating for place, group in enumerate(groups) if owner[place] == number for rating in group]
