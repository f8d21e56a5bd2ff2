"""Questions of many threads are answered together, each with its own answers."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from mh_support.safety.classifier import crisis_classifier
from mh_support.safety.together import Together


class Slow:
    """Squares numbers; its first call waits until it is let go. A word in place of a number is an error."""

    def __init__(self):
        self.calls = []
        self.begun, self.go_on = Event(), Event()

    def __call__(self, numbers):
        self.calls.append(list(numbers))
        self.begun.set()
        assert self.go_on.wait(30)
        return [number**2 for number in numbers]


def waiting(together, count):
    end = time.monotonic() + 30
    while len(together._waiting) < count:
        assert time.monotonic() < end, f"{len(together._waiting)} wait, not {count}"
        time.sleep(0.001)


def asked_at_once(slow, first, others):
    """Let one thread ask, and others while it is being answered; return what each got."""
    together = Together(slow)
    with ThreadPoolExecutor(1 + len(others)) as pool:
        futures = [pool.submit(together, first)]
        assert slow.begun.wait(30)
        futures += [pool.submit(together, items) for items in others]
        waiting(together, len(others))
        slow.go_on.set()
        return [future.exception() or future.result() for future in futures]


def test_who_waits_is_answered_in_one_call():
    slow = Slow()
    assert asked_at_once(slow, [2], [[3, 4], [5], [], [6]]) == [[4], [9, 16], [25], [], [36]]
    assert slow.calls[0] == [2]
    assert sorted(slow.calls[1]) == [3, 4, 5, 6]
    assert len(slow.calls) == 2


def test_what_goes_wrong_with_one_spoils_no_other():
    answers = asked_at_once(Slow(), [2], [[3], ["x"], [4]])
    assert isinstance(answers.pop(2), TypeError)
    assert answers == [[4], [9], [16]]


def test_alone_the_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        Together(lambda items: [1 / item for item in items])([0])


def test_a_call_that_is_broken_off_leaves_nobody_waiting():
    slow = Slow()

    def stopped(numbers):
        if 3 in numbers:
            raise KeyboardInterrupt
        return slow(numbers)

    together = Together(stopped)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(together, [2])
        assert slow.begun.wait(30)
        others = [pool.submit(together, [number]) for number in (3, 4)]
        waiting(together, 2)
        slow.go_on.set()
        errors = {type(future.exception(30)) for future in others}
    # One of the two answered for both and was stopped; the other is told.
    assert first.result() == [4]
    assert errors == {KeyboardInterrupt, RuntimeError}
    assert together([5]) == [25]


def test_many_threads_hear_of_each_text_what_one_hears():
    texts = [f"I moved here {number} weeks ago and know nobody, what now?" for number in range(12)]
    texts += ["I have decided to end my life.", "My dog ate the remote control again."] * 3
    alone = [crisis_classifier().log_odds([text])[0] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: crisis_classifier().log_odds([text])[0], texts))
    assert together == pytest.approx(alone, abs=1e-3)
