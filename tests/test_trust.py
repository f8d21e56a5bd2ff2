"""A model of which the check refuses too much is asked no more, and is not served to begin with."""

from __future__ import annotations

import logging

import pytest

from mh_support.safety.trust import FEWEST, LATEST, MOST_REFUSED, Trust


def told(trust: Trust, *drafts: bool) -> Trust:
    for refused in drafts:
        trust.add(refused=refused)
    return trust


def test_a_model_made_to_harm_loses_it_as_soon_as_there_is_enough_to_tell():
    trust = told(Trust(), *[True, False] * (FEWEST // 2 - 1), True)
    assert not trust.lost
    assert told(trust, True).lost


def test_a_good_model_may_begin_badly_and_fail_now_and_then():
    assert not told(Trust(), True, True, True, *[False] * FEWEST).lost
    assert not told(Trust(), *([True] + [False] * 9) * 50).lost
    # At the share itself it is not sure that there are more.
    assert not told(Trust(), *([True] + [False] * (round(1 / MOST_REFUSED) - 1)) * 50).lost


def test_only_the_latest_count_and_what_is_lost_stays_lost(caplog):
    trust = told(Trust(), *[False] * 10 * LATEST)
    with caplog.at_level(logging.WARNING):
        told(trust, *[True] * (LATEST // 2))
        assert trust.lost
        told(trust, *[False] * 2 * LATEST, *[True] * LATEST)
    assert trust.lost
    # Said once, with numbers and nothing else.
    (record,) = caplog.records
    assert record.getMessage().startswith("the check refused 63 of the model's last 200 drafts: it is asked no more")


@pytest.mark.parametrize("drafts", [1, FEWEST, LATEST])
def test_it_is_never_lost_where_all_may_be_refused(drafts):
    assert not told(Trust(most_refused=1), *[True] * drafts).lost
