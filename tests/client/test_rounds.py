"""What an update does after each conflict, and which keys a client takes for contended. No daemon, no time."""

from __future__ import annotations

import pytest

from cosession.errors import CATALOGUE, error_from
from cosession.exchange.contention import CALM_TURNS, KEYS_KEPT, Contention
from cosession.messages.limits import TURN_WAIT_S_MAX
from cosession.rounds import (
    CEILINGS_S,
    GIVE_UP,
    READ,
    SPARED,
    STANDING,
    TURN,
    TURNS_IN_VAIN_MAX,
    WAIT_S_MAX,
    Rounds,
    goes_without,
    turn_wait_s,
)


def certain():
    return 1.0


def test_it_reads_then_goes_on_from_the_conflict_then_takes_turns():
    rounds = Rounds(certain)
    assert rounds.begin() == (READ, 0.0)
    assert [rounds.conflict() for _ in range(2)] == [(STANDING, 0.0), (TURN, 0.0)]


def test_where_others_were_met_it_begins_with_a_turn():
    rounds = Rounds(certain, contended=True)
    assert rounds.begin() == (TURN, 0.0)
    assert rounds.conflict() == (TURN, 0.0), "what stands is not for who has no turn"


def test_turns_in_vain_come_slower_and_have_an_end():
    rounds = Rounds(certain, contended=True)
    steps = [rounds.conflict() for _ in range(TURNS_IN_VAIN_MAX)]
    assert [step for step, _ in steps] == [TURN] * (TURNS_IN_VAIN_MAX - 1) + [GIVE_UP]
    waits = [wait_s for _, wait_s in steps[:-1]]
    assert waits[: SPARED + 3] == [0.0] * SPARED + list(CEILINGS_S)
    assert set(waits[SPARED + 3 :]) == {CEILINGS_S[-1]}


def test_without_turns_it_tries_after_random_waits_and_not_often():
    rounds = Rounds(lambda: 0.5)
    rounds.conflict()
    rounds.conflict()
    steps = [rounds.refused(), *(rounds.conflict() for _ in range(3))]
    assert steps == [*((READ, ceiling / 2) for ceiling in CEILINGS_S), (GIVE_UP, 0.0)]


def test_a_turn_refused_at_first_costs_nothing_but_the_question():
    rounds = Rounds(certain, contended=True)
    assert rounds.refused() == (READ, 0.0)
    assert [rounds.conflict() for _ in range(4)] == [*((READ, ceiling) for ceiling in CEILINGS_S), (GIVE_UP, 0.0)]


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_which_refusals_of_a_turn_are_done_without(code):
    assert goes_without(error_from(code, "")) is (code in {"overloaded", "shutting_down", "unknown_method"})


def test_waiting_for_a_turn_leaves_time_for_a_try_without():
    assert WAIT_S_MAX == TURN_WAIT_S_MAX
    for left_s in (0.001, 0.5, 1.0, 2.0, 10.0, 60.0, 1_000.0):
        assert left_s / 2 <= turn_wait_s(left_s) < left_s or turn_wait_s(left_s) == TURN_WAIT_S_MAX


def test_a_key_is_contended_until_nobody_came_for_a_while():
    contention = Contention()
    assert "k" not in contention
    contention.met("k")
    for _ in range(CALM_TURNS - 1):
        contention.turn_given("k", waited=False, behind=0)
        assert "k" in contention
    contention.turn_given("k", waited=False, behind=1)
    for _ in range(CALM_TURNS):
        assert "k" in contention
        contention.turn_given("k", waited=False, behind=0)
    assert "k" not in contention
    contention.turn_given("k", waited=False, behind=0)
    assert "k" not in contention, "a turn that nobody wanted says nothing of others"
    contention.turn_given("k", waited=True, behind=0)
    assert "k" in contention


def test_those_met_longest_ago_are_forgotten():
    contention = Contention()
    for number in range(KEYS_KEPT):
        contention.met(number)
    contention.met(0)
    contention.met("new")
    assert 0 in contention
    assert 1 not in contention
    assert sum(number in contention for number in range(KEYS_KEPT)) == KEYS_KEPT - 1
