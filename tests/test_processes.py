"""Batches through several processes: in order, few at a time, and nobody left behind."""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from functools import partial
from operator import mul

import pytest

from mh_support.data import processes
from mh_support.data.processes import ALONE, batches_of, default_num_proc, in_order

DOUBLE = partial(mul, 2)


@pytest.mark.parametrize("num_proc", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, ALONE, ALONE + 1, 40])
def test_results_are_in_order(num_proc, count):
    assert list(in_order(DOUBLE, range(count), num_proc)) == [2 * number for number in range(count)]


def test_few_batches_are_read_ahead():
    taken = []

    def batches():
        for number in range(100):
            taken.append(number)
            yield number

    with closing(in_order(DOUBLE, batches(), 2)) as results:
        for done, _ in enumerate(results, 1):
            assert len(taken) <= done + 2 * 2 + 1


@pytest.mark.parametrize("error", [ValueError("line 7 is no row"), KeyboardInterrupt("Ctrl-C")])
def test_an_error_comes_through_and_leaves_no_process(error):
    def batches():
        yield from range(20)
        raise error

    with pytest.raises(type(error), match=str(error)):
        list(in_order(DOUBLE, batches(), 2))
    assert multiprocessing.active_children() == []


def test_an_error_in_another_process_comes_through():
    with pytest.raises(TypeError, match="can't multiply"):
        list(in_order(partial(mul, "a"), [*range(ALONE), 1, 2, "b"], 2))


def test_who_stops_early_leaves_no_process():
    with closing(in_order(DOUBLE, range(1000), 2)) as results:
        assert [next(results) for _ in range(10)] == list(range(0, 20, 2))
    assert multiprocessing.active_children() == []


def test_batches_are_bounded_by_rows_and_by_characters(monkeypatch):
    monkeypatch.setattr(processes, "BATCH_ROWS", 3)
    monkeypatch.setattr(processes, "BATCH_CHARACTERS", 10)
    rows = ["a", "b", "c", "d", "long enough", "e"]
    assert list(batches_of(rows, len)) == [["a", "b", "c"], ["d", "long enough"], ["e"]]
    assert list(batches_of([], len)) == []


def test_there_is_a_processor():
    assert default_num_proc() >= 1
