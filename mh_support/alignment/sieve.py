"""Sifting ratings, so that feedback which errs, or means harm, is not learned from.

Whoever can rate can try to teach. Each step takes ratings and returns those that stay; every other has one fate.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mh_support.alignment.ratings import Rating, hashed
from mh_support.data.cleaning import clean_text
from mh_support.data.preparation import SAME_REPLY
from mh_support.data.privacy import scrub
from mh_support.data.splitting import group_by_question, near_duplicates, normalise
from mh_support.dialogue import Message, check_messages
from mh_support.feedback import REMOVED
from mh_support.safety import assess, check_reply

# Whoever praised this many replies that the check refuses is no longer believed in anything.
UNSAFE_PRAISE = 2


@dataclass
class Sieve:
    """Sifts ratings step by step; each that falls through is counted under why."""

    fates: Counter[str] = field(default_factory=Counter)
    edits: Counter[str] = field(default_factory=Counter)

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
        """Keep each record once, and a person's last word on the same replies to the same conversation."""
        by_id = {rating.id: rating for rating in ratings}
        last: dict[tuple[str, ...], Rating] = {}
        for rating in sorted(by_id.values(), key=lambda rating: (rating.time, rating.id)):
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
            rating.id
            for own in by_person.values()
            for rating in sorted(own, key=lambda rating: (rating.time, rating.id))[-cap:]
        }
        return self._keep(ratings, "over_cap", lambda rating: rating.id in newest)

    def scrubbed(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Scrub every text once more: the scrubber may have learned since the record was written."""
        kept = []
        for rating in ratings:
            messages = [{**turn, "content": self._scrub(turn["content"])} for turn in rating.messages]
            replies = tuple((self._scrub(reply), up) for reply, up in rating.replies)
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
        """Leave out praise of replies that fail the check, and all else from who gave such praise again and again."""
        unsafe = {rating.id: rating.person for rating in ratings if _praises_unsafe(rating)}
        counts = Counter(unsafe.values())
        safe = self._keep(ratings, "unsafe_praise", lambda rating: rating.id not in unsafe)
        return self._keep(safe, "distrusted", lambda rating: counts[rating.person] < UNSAFE_PRAISE)

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
            # A person has one vote, or one for each side.
            votes = Counter(verdict for _, verdict in {(rating.person, _verdict(rating)) for rating in group})
            if votes[True] == votes[False]:
                self.fates["disputed"] += len(group)
                continue
            won = votes[True] > votes[False]
            kept.append(next(rating for rating in group if _verdict(rating) == won))
            self.fates["repeat"] += len(group) - 1
        order = {rating.id: place for place, rating in enumerate(ratings)}
        return sorted(kept, key=lambda rating: order[rating.id])

    def fitting(self, ratings: Sequence[Rating], fits: Callable[[Rating], Rating | None]) -> list[Rating]:
        fitted = [fits(rating) for rating in ratings]
        self.fates["too_long"] += fitted.count(None)
        return [rating for rating in fitted if rating is not None]

    def split(
        self, ratings: Sequence[Rating], questions: dict[str, int], share: float
    ) -> tuple[list[Rating], list[Rating]]:
        """Hold people out, chosen by their hash so that they stay the same while feedback grows, with their questions.

        A question on both sides stays where most of its ratings are; the others are left out.
        """
        people = sorted({rating.person for rating in ratings}, key=hashed)
        judges = set(people[: round(share * len(people))])
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


def _verdict(rating: Rating) -> bool:
    """Return the verdict on what `_replies` names first."""
    return dict((normalise(reply), up) for reply, up in rating.replies)[_replies(rating)[0]]


def _at_risk(messages: Sequence[Message]) -> bool:
    """Whether any turn was a crisis, also one that the person has taken back since."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "user"]
    # A crisis begins in one turn, or in a yes to the question before it.
    pairs = [messages[max(0, place - 1) : place + 1] for place in turns] if len(messages) > 1 else []
    return any(assess(part).is_crisis for part in (messages, *pairs))


def _praises_unsafe(rating: Rating) -> bool:
    return any(up and not check_reply(reply).ok for reply, up in rating.replies)


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
