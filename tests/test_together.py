"""Questions of many threads are answered together, each with its own answers."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

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
    while len(together._waiting) < count:
        pass


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

    def broken_off(numbers):
        slow(numbers)
        raise KeyboardInterrupt

    together, caught = Together(broken_off), []

    def ask():
        try:
            together([1])
        except BaseException as error:
            caught.append(type(error))

    thread = Thread(target=ask)
    thread.start()
    assert slow.begun.wait(30)
    slow.go_on.set()
    thread.join(30)
    together.answer = lambda numbers: [number + 1 for number in numbers]
    assert caught == [KeyboardInterrupt]
    assert together([1, 2]) == [2, 3]


def test_many_threads_hear_of_each_text_what_one_hears():
    texts = [f"I moved here {number} weeks ago and know nobody, what now?" for number in range(12)]
    texts += ["I have decided to end my life.", "My dog ate the remote control again."] * 3
    alone = [crisis_classifier().log_odds([text])[0] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: crisis_classifier().log_odds([text])[0], texts))
    assert together == pytest.approx(alone, abs=1e-3)
