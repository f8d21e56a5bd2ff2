"""Questions that many threads ask at the same time, answered in one call.

A model reads sixteen short texts in little more time than one, and sixteen threads that each read their own hinder each
other. There is no thread for it: whoever finds nobody at work answers all who wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Question(Generic[Item, Answer]):
    items: list[Item]
    answers: list[Answer] | None = None
    error: Exception | None = None
    settled: bool = False


@dataclass(eq=False)
class Together(Generic[Item, Answer]):
    """Calls `answer` with the items of everybody who waits, one call at a time.

    Args:
        answer: returns an answer to each item, in their order, which must not depend on the other items.

    Example:
        >>> squares = Together(lambda numbers: [number * number for number in numbers])
        >>> squares([2, 3])
        [4, 9]
    """

    answer: Callable[[list[Item]], Sequence[Answer]]
    _waiting: list[_Question[Item, Answer]] = field(default_factory=list, repr=False)
    _busy: bool = field(default=False, repr=False)
    _changed: Condition = field(default_factory=Condition, repr=False)

    def __call__(self, items: Sequence[Item]) -> list[Answer]:
        """Return the answers to some items; what goes wrong with them is raised here and nowhere else.

        Raises:
            RuntimeError: the thread that was to answer was stopped in the middle.
        """
        mine: _Question[Item, Answer] = _Question(list(items))
        with self._changed:
            self._waiting.append(mine)
            self._changed.wait_for(lambda: mine.settled or not self._busy)
            asked: list[_Question[Item, Answer]] = []
            if not mine.settled:
                self._busy = True
                asked, self._waiting = self._waiting, []
        if asked:
            self._answer_all(asked)
        if mine.answers is None:
            raise mine.error or RuntimeError("the call that was to answer this was broken off; ask again")
        return mine.answers

    def _answer_all(self, asked: Sequence[_Question[Item, Answer]]) -> None:
        try:
            self._settle(asked)
        finally:
            with self._changed:
                for question in asked:
                    question.settled = True
                self._busy = False
                self._changed.notify_all()

    def _settle(self, asked: Sequence[_Question[Item, Answer]]) -> None:
        try:
            answers = list(self.answer([item for question in asked for item in question.items]))
        except Exception as error:
            if len(asked) == 1:
                asked[0].error = error
                return
            for question in asked:
                self._settle([question])
            return
        for question in asked:
            question.answers, answers = answers[: len(question.items)], answers[len(question.items) :]
