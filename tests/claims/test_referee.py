"""The referee in a virtual world: exact times, restarts, deaths, who is next, and what must never happen."""

from __future__ import annotations

import pytest

from cosession.errors import Claimed, CosessionError, Fenced, NotAllowed, Overloaded
from cosession.messages.limits import CLAIM_WAITERS_MAX, CLAIMS_SESSION_MAX
from cosession.model import Claim
from cosessiond.claims.holding import LOCK_DELAY_S, RETRY_S

HOUR_MS = 3_600_000
TINY_S = 0.002


def code_of(function, *arguments, **options):
    with pytest.raises(CosessionError, match="cannot ") as caught:
        function(*arguments, **options)
    return caught.value.code


def stands(claims, claim):
    return claims.referee.view.get(claim.id) is not None


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_claim_ends_exactly_so_long_after_the_last_activity_and_never_early(claims):
    claim = claims.claim(claims.session("a"))
    claims.world.advance(40)
    claims.referee.activity("a")
    claims.world.advance(60 - TINY_S)
    assert stands(claims, claim)
    claims.world.advance(2 * TINY_S)
    assert not stands(claims, claim)
    claims.check_empty()


def test_what_is_idle_is_held_for_the_longer_of_both_times(claims):
    claim = claims.claim(claims.session("a"), ttl_s=60.0, idle_hold_s=1800.0)
    claims.world.advance(1800 - TINY_S)
    assert stands(claims, claim)
    claims.world.advance(2 * TINY_S)
    assert not stands(claims, claim)


def test_an_automatic_claim_ends_by_its_own_renewals_alone(claims):
    claim = claims.claim(claims.session("a"), automatic=True, idle_hold_s=1800.0)
    claims.world.advance(50)
    claims.referee.activity("a")
    claims.world.advance(10 + TINY_S)
    assert not stands(claims, claim)
    again = claims.claim("a", automatic=True)
    claims.world.advance(50)
    assert claims.claim("a", automatic=True).id == again.id, "asking again renews it"
    claims.world.advance(60 - TINY_S)
    assert stands(claims, again)
    claims.world.advance(2 * TINY_S)
    assert not stands(claims, again)


def test_one_held_by_its_process_ends_with_it_and_by_nothing_else(claims):
    claim = claims.claim(claims.session("a"), hold="process")
    assert claims.left_s(claim) == -1
    claims.world.advance(30 * 24 * 3600)
    assert stands(claims, claim)
    claims.die("a")
    claims.world.advance(LOCK_DELAY_S + 1)
    assert not stands(claims, claim)


@pytest.mark.parametrize("step_ms", [2 * HOUR_MS, -2 * HOUR_MS])
def test_setting_the_wall_clock_changes_nothing(claims, step_ms):
    claim = claims.claim(claims.session("a"))
    claims.world.advance(30)
    claims.world.clock.step_wall(step_ms)
    assert claims.left_s(claim) == pytest.approx(30)
    claims.world.advance(30 - TINY_S)
    assert stands(claims, claim)
    claims.world.advance(2 * TINY_S)
    assert not stands(claims, claim)


def test_after_a_restart_each_claim_has_its_full_time_again(claims):
    claim = claims.claim(claims.session("a"))
    claims.world.advance(59)
    claims.restart()
    assert claims.left_s(claim) == pytest.approx(60)
    assert claims.referee.view.get(claim.id).claim.token == claim.token
    claims.world.advance(60 - TINY_S)
    assert stands(claims, claim)
    claims.world.advance(2 * TINY_S)
    assert not stands(claims, claim)
    claims.check_empty()


def test_a_restart_gives_an_orphan_its_full_delay_and_sees_who_died_meanwhile(claims):
    one, other = claims.claim(claims.session("a")), claims.claim(claims.session("b"), "name:b")
    claims.die("a")
    claims.world.advance(LOCK_DELAY_S - 1)
    claims.processes.deaf = True
    claims.die("b")
    claims.restart()
    claims.world.run_until_idle()
    assert {each.claim.state for each in claims.standing().values()} == {"orphaned"}
    claims.world.advance(LOCK_DELAY_S - TINY_S)
    assert stands(claims, one)
    claims.world.advance(1)
    assert not stands(claims, one)
    assert not stands(claims, other)
    claims.check_empty()


def test_a_restart_while_an_end_is_on_its_way_loses_it_and_the_claim_has_its_time_again(claims):
    claim = claims.claim(claims.session("a"))
    claims.commits.hold = True
    claims.world.advance(60 + TINY_S)
    assert claims.referee.holding.is_ending(claim.id)
    claims.restart()
    assert claims.left_s(claim) == pytest.approx(60)


# -- ends and renewals that race ---------------------------------------------------------------------------------------


def test_a_renewal_of_one_that_is_ending_waits_and_is_told_that_it_is_lost(claims):
    claim = claims.claim(claims.session("a"))
    claims.commits.hold = True
    claims.world.advance(60 + TINY_S)
    answer = []
    claims.referee.renew("a", [claim.id], lambda found, lost: answer.append((found, lost)))
    claims.world.run_until_idle()
    assert not answer
    claims.commits.release()
    claims.world.run_until_idle()
    assert answer == [([], [claim.id])]
    claims.check_empty()


def test_an_end_that_cannot_be_committed_is_tried_again_unless_it_was_renewed(claims):
    renewed, other = claims.claim(claims.session("a")), claims.claim(claims.session("b"), "name:b")
    claims.store.read_only = "the disk is full"
    claims.world.advance(60 + TINY_S)
    assert claims.renew("a", renewed.id) == ([renewed.id], [])
    claims.world.advance(5 * RETRY_S)
    assert stands(claims, renewed)
    assert stands(claims, other)
    claims.store.read_only = ""
    claims.world.advance(RETRY_S)
    assert stands(claims, renewed)
    assert not stands(claims, other)
    claims.world.advance(60 - 6 * RETRY_S - TINY_S)
    assert stands(claims, renewed)
    claims.world.advance(RETRY_S)
    assert not stands(claims, renewed)


def test_one_that_is_passed_on_while_its_end_is_on_its_way_has_its_full_time(claims):
    """The new session was granted a claim, which the end of the old one's time must not take from it."""
    claim = claims.claim(claims.session("a"))
    claims.commits.hold = True
    claims.begin_register(claims.instances["a"], id="b", replaces="a")
    claims.world.advance(60 + TINY_S)
    assert claims.referee.holding.is_ending(claim.id), "behind the batch that passes it on"
    claims.commits.release()
    claims.world.run_until_idle()
    held = claims.referee.view.get(claim.id)
    assert held is not None
    assert (held.claim.session, held.claim.token) == ("b", claim.token)
    claims.world.advance(60 - TINY_S)
    assert stands(claims, claim)
    claims.world.advance(2 * TINY_S)
    assert not stands(claims, claim)
    claims.close("b")
    claims.check_empty()


def test_one_that_is_orphaned_while_its_end_is_on_its_way_keeps_others_out_for_the_delay(claims):
    claim = claims.claim(claims.session("a"))
    claims.commits.hold = True
    claims.die("a")
    claims.world.advance(60 + TINY_S)
    claims.commits.release()
    claims.world.run_until_idle()
    assert claims.referee.view.get(claim.id).claim.state == "orphaned"
    claims.world.advance(LOCK_DELAY_S - TINY_S)
    assert stands(claims, claim)
    claims.world.advance(2 * TINY_S)
    assert not stands(claims, claim)


def test_a_renewal_that_waited_does_not_give_an_orphan_the_time_of_a_claim(claims):
    claim = claims.claim(claims.session("a"), idle_hold_s=1800.0)
    claims.commits.hold = True
    claims.die("a")
    claims.world.advance(1800 + TINY_S)
    claims.referee.renew("a", [claim.id], lambda *_: None)
    claims.commits.release()
    claims.world.advance(LOCK_DELAY_S + 1)
    assert not stands(claims, claim)


def test_one_asked_for_again_while_its_release_is_on_its_way_is_a_new_one(claims):
    """The answer must not name a claim that ends in the next moment."""
    claim = claims.claim(claims.session("a"))
    claims.commits.hold = True
    released = claims.ask(claims.referee.release, "a", [claim.id])
    answer = claims.ask_claim("a")
    claims.commits.release()
    claims.world.run_until_idle()
    assert released == [[claim.id]]
    assert answer[0].id != claim.id
    assert claims.left_s(answer[0].claim) == pytest.approx(60)


def test_a_release_that_fails_leaves_the_claim_its_time(claims):
    claim = claims.claim(claims.session("a"))
    claims.store.read_only = "the disk is full"
    assert code_of(claims.release, claim) == "read_only"
    claims.store.read_only = ""
    assert claims.renew("a", claim.id) == ([claim.id], [])
    claims.world.advance(60 + TINY_S)
    assert not stands(claims, claim)
    claims.check_empty()


# -- who is next -------------------------------------------------------------------------------------------------------


def test_who_asked_first_is_first_and_who_overlaps_somebody_ahead_waits_behind_it(claims):
    first = claims.claim(claims.session("a"), "path:src/**")
    answers = {}
    for id, target in (("b", "path:src/x.py"), ("c", "path:src/*.py"), ("d", "path:src/x.py"), ("e", "path:src/y/z")):
        answers[id] = claims.ask_claim(claims.session(id), target, wait_s=100)
    assert code_of(claims.claim, claims.session("f"), "path:**") == "claimed"
    claims.release(first)
    assert [id for id, answer in answers.items() if answer] == ["b", "e"]
    claims.release(answers["b"][0].claim)
    assert [id for id, answer in answers.items() if answer] == ["b", "c", "e"]
    claims.release(answers["c"][0].claim)
    assert answers["d"][0].claim.session == "d"
    for id in "de":
        claims.release(answers[id][0].claim)
    claims.check_empty()


def test_waiting_ends_in_its_time_and_who_is_behind_goes_on(claims):
    claim = claims.claim(claims.session("a"), shared=True)
    excluded = claims.ask_claim(claims.session("b"), wait_s=5)
    shared = claims.ask_claim(claims.session("c"), shared=True, wait_s=60)
    claims.world.advance(5 - TINY_S)
    assert not excluded
    assert not shared
    claims.world.advance(2 * TINY_S)
    assert isinstance(excluded[0], Claimed)
    assert shared[0].claim.session == "c"
    assert stands(claims, claim)


def test_who_waits_for_what_it_holds_itself_does_not_wait(claims):
    one = claims.claim(claims.session("a"), "path:src/**")
    other = claims.claim("a", "path:src/x.py")
    assert other.token > one.token
    assert code_of(claims.claim, claims.session("b"), "path:src/x.py") == "claimed"
    claims.release(one)
    assert code_of(claims.claim, "b", "path:src/x.py") == "claimed"
    claims.release(other)
    assert claims.claim("b", "path:src/x.py")


def test_whoever_waits_twice_for_the_same_is_not_in_its_own_way(claims):
    claim = claims.claim(claims.session("a"))
    answers = [claims.ask_claim(claims.session("b"), wait_s=100) for _ in range(2)]
    claims.release(claim)
    assert all(answers)
    for id in {answer[0].id for answer in answers}:
        claims.release(claims.referee.view.get(id).claim)
    claims.check_empty()


def test_two_worktrees_and_two_projects_are_beside_one_another_and_the_machine_is_one(claims):
    claims.claim(claims.session("a"), "path:x", "name:n", worktree="/one", project="p")
    claims.claim(claims.session("b"), "path:x", worktree="/two", project="p")
    claims.claim("b", "path:x", "name:n", worktree="/one", project="q")
    claims.claim("a", "machine:port/5432", project="p")
    assert code_of(claims.claim, "b", "machine:port/5432", project="q") == "claimed"


def test_many_who_are_ready_at_once_and_refused_at_once_are_all_answered(claims):
    """Each refusal makes the next one ready: a chain that must not be a recursion."""
    claim = claims.claim(claims.session("a"))
    ids = [claims.session(f"s{number}") for number in range(4)]
    answers = [claims.ask_claim(ids[n % 4], shared=True, wait_s=1000, by=n) for n in range(CLAIM_WAITERS_MAX)]
    with pytest.raises(Overloaded, match="wait already"):
        claims.claim(claims.session("late"), shared=True, wait_s=10)
    claims.commits.hold = True
    claims.ask(claims.referee.release, "a", [claim.id])
    claims.world.run_until_idle()
    claims.fill()
    claims.commits.release()
    claims.world.run_until_idle()
    assert [answer[0].code for answer in answers] == ["read_only"] * CLAIM_WAITERS_MAX
    claims.check_empty()


# -- connections that go away ------------------------------------------------------------------------------------------


def test_a_connection_that_goes_away_gives_up_its_place(claims):
    claim = claims.claim(claims.session("a"))
    gone, next_one = object(), object()
    left = claims.ask_claim(claims.session("b"), wait_s=100, by=gone)
    stays = claims.ask_claim(claims.session("c"), wait_s=100, by=next_one)
    claims.referee.granting.left(gone)
    claims.release(claim)
    assert not left
    assert stays[0].claim.session == "c"
    claims.release(stays[0].claim)
    claims.check_empty()


@pytest.mark.parametrize("full", [False, True])
def test_a_claim_whose_asker_went_away_during_the_grant_is_given_back(claims, full):
    gone = object()
    claims.session("a")
    claims.commits.hold = True
    answer = claims.ask_claim("a", by=gone)
    claims.referee.granting.left(gone)
    if full:
        claims.fill()
    claims.commits.release()
    claims.world.run_until_idle()
    if full:
        assert len(claims.referee.view) == 1
        claims.empty()
        claims.world.advance(RETRY_S + TINY_S)
    assert not answer
    claims.check_empty()


def test_who_comes_back_and_asks_again_has_it_and_keeps_it(claims):
    """Repeating a call whose answer was lost is safe, also while what it asked for first is being given back."""
    gone = object()
    claims.session("a")
    claims.commits.hold = True
    claims.ask_claim("a", by=gone)
    claims.referee.granting.left(gone)
    claims.fill()
    claims.commits.release()
    claims.world.run_until_idle()
    claims.empty()
    claim = claims.claim("a")
    claims.world.advance(10 * RETRY_S)
    assert stands(claims, claim)
    assert len(claims.referee.view) == 1


def test_a_refusal_for_a_limit_leaves_nothing_behind(claims):
    claims.session("a")
    for number in range(CLAIMS_SESSION_MAX):
        claims.claim("a", f"name:{number}")
    for number in range(10):
        assert code_of(claims.claim, "a", project=f"project-{number}") == "overloaded"
    assert claims.referee.granting._places == {}
    claims.close("a")
    claims.check_empty()


# -- sessions that end -------------------------------------------------------------------------------------------------


def test_a_closed_session_frees_at_once_and_a_crashed_one_after_the_delay(claims):
    claims.claim(claims.session("a"))
    answer = claims.ask_claim(claims.session("b"), wait_s=100)
    claims.close("a")
    assert answer[0].claim.session == "b"
    claims.die("b")
    claims.world.run_until_idle()
    (orphan,) = claims.standing().values()
    assert (orphan.claim.state, orphan.claim.token) == ("orphaned", answer[0].claim.token)
    last = claims.ask_claim(claims.session("c"), wait_s=100)
    claims.world.advance(LOCK_DELAY_S - TINY_S)
    assert not last
    claims.world.advance(2 * TINY_S)
    assert last[0].claim.token > orphan.claim.token


def test_the_batch_that_ends_a_session_orphans_its_claims(claims):
    claim = claims.claim(claims.session("a"))
    claims.die("a")
    claims.world.run_until_idle()
    ended = claims.history[-1]
    assert {change.id[2] for change in ended.changes} == {"a", claim.id}


def test_who_waited_when_its_session_ended_is_told_so(claims):
    claim = claims.claim(claims.session("a"))
    answer = claims.ask_claim(claims.session("b"), wait_s=100)
    claims.die("b")
    claims.world.run_until_idle()
    assert answer[0].code == "session_ended"
    claims.release(claim)
    claims.check_empty()


def test_a_grant_on_its_way_when_its_session_ends_is_refused_or_orphaned(claims):
    for id in "ab":
        claims.session(id)
    claims.commits.hold = True
    answer = claims.ask_claim("a")
    claims.ask(claims.registry.close, "a", "")
    behind = claims.ask_claim("b", wait_s=100)
    claims.commits.release()
    claims.world.advance(1)
    assert answer
    assert behind[0].claim.session == "b"
    assert [each.claim.session for each in claims.standing().values()] == ["b"]


def test_an_adopted_claim_goes_ahead_of_all_who_wait_with_a_larger_token_and_its_full_time(claims):
    claim = claims.claim(claims.session("a"))
    waits = claims.ask_claim(claims.session("b"), wait_s=1000)
    claims.die("a")
    claims.world.advance(LOCK_DELAY_S - 1)
    adopted = claims.adopt(claim, claims.session("c"))
    assert adopted.token > claim.token
    assert adopted.adopted_from == claim.id
    claims.world.advance(60 - TINY_S)
    assert stands(claims, adopted)
    assert not waits
    assert code_of(claims.adopt, adopted, "b") == "claimed"
    claims.world.advance(2 * TINY_S)
    assert waits[0].claim.token > adopted.token
    claims.release(waits[0].claim)
    claims.check_empty()


def test_who_waits_for_what_it_adopts_does_not_wait_for_itself(claims):
    claim = claims.claim(claims.session("a"), "path:src/**")
    waits = claims.ask_claim(claims.session("b"), "path:src/x.py", wait_s=1000)
    claims.die("a")
    claims.world.run_until_idle()
    claims.adopt(claim, "b")
    assert waits[0].claim.session == "b"


def test_who_waits_for_what_passes_on_to_it_does_not_wait_for_itself(claims):
    claims.claim(claims.session("a"), "path:src/**")
    instance = claims.instances["a"]
    claims.register(instance, id="b")
    waits = claims.ask_claim("b", "path:src/x.py", wait_s=1000)
    claims.register(instance, id="b", replaces="a")
    assert waits[0].claim.session == "b"


def test_a_session_that_comes_back_is_not_granted_what_it_left_while_others_may_adopt_it(claims):
    """Else whoever adopts it holds it beside the session that came back."""
    claim = claims.claim(claims.session("a"), "path:src/**")
    claims.die("a")
    claims.world.run_until_idle()
    claims.session("a", pid=999)
    assert code_of(claims.claim, "a", "path:src/x.py") == "claimed"
    claims.adopt(claim, claims.session("b"))
    assert code_of(claims.claim, "a", "path:src/x.py") == "claimed"


def test_what_a_session_leaves_is_orphaned_in_batches_that_fit(claims):
    claims.session("a")
    for number in range(20):
        claims.claim("a", *(f"name:{number}/{n}/{'x' * 490}" for n in range(64)))
    claims.die("a")
    claims.world.run_until_idle()
    assert {each.claim.state for each in claims.standing().values()} == {"orphaned"}
    for committed in claims.history:
        assert sum(len(change.value) for change in committed.changes) <= 960 * 1024


@pytest.mark.parametrize("end", ["death", "release"])
def test_all_of_what_a_session_has_ends_however_much_passed_on_to_it(claims, end):
    for id, count in (("a", 40), ("b", CLAIMS_SESSION_MAX)):
        claims.session(id, pid=500)
        for number in range(count):
            claims.claim(id, f"name:{id}{number}")
    claims.register(claims.instances["b"], id="b", replaces="a")
    ids = [held.id for held in claims.referee.view.of_session("b")]
    assert len(ids) == CLAIMS_SESSION_MAX + 40
    if end == "release":
        assert sorted(claims.wait(claims.ask(claims.referee.release, "b", ids))) == sorted(ids)
    else:
        claims.die("b")
        claims.world.run_until_idle()
        assert {each.claim.state for each in claims.standing().values()} == {"orphaned"}
        claims.world.advance(LOCK_DELAY_S + 1)
    assert all(len(committed.changes) <= 128 for committed in claims.history)
    claims.check_empty()


# -- fencing -----------------------------------------------------------------------------------------------------------


def test_a_fence_holds_for_the_session_that_has_the_claim_while_it_stands(claims):
    claim = claims.claim(claims.session("a"))
    claims.session("b")
    assert claims.referee.fence(claim.token, "a").value == claim.token
    for session in ("b", ""):
        with pytest.raises(NotAllowed, match="is of session a"):
            claims.referee.fence(claim.token, session)
    for token in (claim.token + 1, -1, 2**63):
        with pytest.raises(Fenced):
            claims.referee.fence(token, "a")


def test_the_token_of_an_orphan_and_of_what_was_adopted_is_refused(claims):
    claim = claims.claim(claims.session("a"))
    claims.die("a")
    claims.world.run_until_idle()
    claims.session("a", pid=999)
    with pytest.raises(Fenced):
        claims.referee.fence(claim.token, "a")
    adopted = claims.adopt(claim, "a")
    with pytest.raises(Fenced):
        claims.referee.fence(claim.token, "a")
    assert claims.referee.fence(adopted.token, "a")


# -- hostile targets ---------------------------------------------------------------------------------------------------


def test_claims_built_to_take_long_are_compared_in_steps_that_do_not(claims):
    """64 globs against 64, each of which takes as long as a glob may: one comparison of all would take minutes."""
    letters = [chr(0x4E00 + number) for number in range(160)]
    claims.claim(claims.session("a"), *(f"path:{n}/{''.join(letters)}?" for n in range(64)))
    wanted = Claim(id="", session="b", worktree="/w", targets=tuple(f"path:?*/*{'?' * 150}{n}z*" for n in range(64)))
    claims.session("b")
    steps = []
    step = claims.referee.granting._compare

    def counted(place, ask):
        steps.append(ask.id)
        if len(steps) < 5:
            step(place, ask)

    claims.referee.granting._compare = counted
    claims.referee.acquire(wanted, "c", 0.0, lambda _: None)
    claims.world.run_until_idle()
    assert len(steps) == 5, "it would go on"


def test_what_is_being_compared_is_let_go_with_its_connection(claims):
    letters = "".join(chr(0x4E00 + number) for number in range(160))
    claims.claim(claims.session("a"), *(f"path:{n}/{letters}?" for n in range(64)))
    gone = object()
    targets = [f"path:?*/*{'?' * 150}{n}z*" for n in range(64)]
    answer = claims.ask_claim(claims.session("b"), *targets, by=gone)
    claims.referee.granting.left(gone)
    claims.world.run_until_idle()
    assert not answer
    claims.close("a")
    claims.check_empty()
