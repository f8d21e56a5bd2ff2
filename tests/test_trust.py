"""A model of which the check refuses too much is asked no more, and is not served to begin with."""

from __future__ import annotations

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


def test_only_the_latest_count_and_what_is_lost_stays_lost():
    trust = told(Trust(), *[False] * 10 * LATEST)
    assert [trust.add(refused=True) for _ in range(LATEST // 2)].index(True) == 62
    assert (trust.lost, str(trust)) == (True, "100 of the last 200 drafts refused")
    # Said once.
    assert not any(trust.add(refused=refused) for refused in [False] * 2 * LATEST + [True] * LATEST)
    assert trust.lost


@pytest.mark.parametrize("drafts", [1, FEWEST, LATEST])
def test_it_is_never_lost_where_all_may_be_refused(drafts):
    assert not told(Trust(most_refused=1), *[True] * drafts).lost
