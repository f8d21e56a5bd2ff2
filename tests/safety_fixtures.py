"""The safety checks by rules and phrases alone, and what tests give them.

What classifiers add is tested in test_classifier.py and test_reply_classifier.py.
"""

from functools import partial

from mh_support import safety

assess = partial(safety.assess, classifiers=())
check_reply = partial(safety.check_reply, classifiers=())


def lines(text):
    return text.strip().splitlines()


def said(*turns):
    """A conversation of which the person says the first turn, and every other one after it."""
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": turn} for i, turn in enumerate(turns)]
