"""Why not, and drills, of both clients against one daemon: what is in the way, what was denied, who is told."""

# A session and what it claims are two things: they stand in two lines. Waiting for another thread is done by looking.
# ruff: noqa: SIM117, ASYNC110
from __future__ import annotations

import asyncio

import pytest

from cosession import Claimed, CosessionError, NotAllowed
from cosession.messages.claims import List
from cosession.messages.sessions import WhyNot
from harness import Daemon, private_home


@pytest.fixture(scope="module")
def daemon():
    """One for all, since every test names sessions and claims of its own."""
    with private_home() as home, Daemon(home) as running:
        yield running


@pytest.fixture
def name(request):
    """A name that no other test has claimed."""
    return f"name:{request.node.name}"


async def denied(client, count, *targets, **names):
    """The denials, when so many are written down."""
    while len(found := (await client.why_not(*targets, **names)).denials) < count:
        await asyncio.sleep(0.01)
    return found


def test_why_not_says_who_is_in_the_way_what_to_do_and_what_was_denied(use, connect, daemon, name):
    async def body(client):
        async with connect(daemon.socket) as other, client.session(name="otter", agent="claude", heartbeat_s=0) as mine:
            async with other.session(heartbeat_s=0) as theirs, mine.claim(name, purpose="refactor"):
                assert (await other.why_not(f"{name}/free")).free
                for _ in range(2):
                    with pytest.raises(Claimed):
                        await theirs.claim(name)
                found = await denied(other, 2, name)
                assert {(each.session, each.subject, each.outcome) for each in found} == {(theirs.id, name, "claimed")}
                assert {each.facts["holder"] for each in found} == {mine.id}
                reply = await other.why_not(name, session=theirs.id)
                (blocker,) = reply.blockers
                assert (reply.free, reply.count, reply.more) == (False, 1, False)
                assert (blocker.name, blocker.agent, blocker.session_state) == ("otter", "claude", "active")
                assert blocker.claim.purpose == "refactor"
                assert 0 < blocker.claim.expires_in_s <= 1_800
                assert "ask the holder to release it" in reply.remedy
            assert (await client.why_not(name)).free

    use(body)


def test_denials_are_those_about_a_target_and_those_of_who_asks(use, connect, daemon, request):
    async def body(client):
        tree = f"path:{request.node.name.replace('[', '-').replace(']', '')}"
        async with connect(daemon.socket) as other, client.session(heartbeat_s=0) as mine:
            async with other.session(heartbeat_s=0) as theirs:
                async with mine.claim(f"{tree}/**", directory="/"):
                    with pytest.raises(Claimed):
                        await theirs.claim(f"{tree}/a.py", directory="/")
                with pytest.raises(CosessionError):
                    await other.put("k", 1, fence=2**40, session=theirs.id)
                with pytest.raises(NotAllowed):
                    await other.simulate_crash(mine.id)
                await denied(other, 2, f"{tree}/*.py", directory="/", session=theirs.id)
                about = (await client.why_not(f"{tree}/*.py", directory="/", session=mine.id)).denials
                assert f"{tree}/a.py" in {each.subject for each in about}, "an overlap is enough"
                elsewhere = (await client.why_not(f"{tree}x", directory="/", session="")).denials
                assert f"{tree}/a.py" not in {each.subject for each in elsewhere}
                to_them = (await client.why_not(f"{tree}x", directory="/", session=theirs.id)).denials
                assert {each.outcome for each in to_them} == {"claimed", "fenced"}

    use(body)


@pytest.mark.parametrize(
    "request_",
    [
        WhyNot(targets=[]),
        WhyNot(targets=["path:../x"], worktree="/w"),
        WhyNot(targets=["path:a"]),
        WhyNot(targets=[f"path:{n}/**" for n in range(65)], worktree="/w"),
    ],
)
def test_what_cannot_be_claimed_is_refused_here_too(use, request_):
    async def body(client):
        with pytest.raises(CosessionError, match=r"cannot .*: .*") as caught:
            await client.call(request_)
        assert caught.value.code in {"invalid_params", "too_large"}

    use(body)


def test_a_drill_goes_the_way_of_a_crash_for_all_who_watch(use, connect, daemon, name):
    async def body(client):
        lost = []
        async with connect(daemon.socket) as other:
            plain = await client.session(heartbeat_s=0)
            with pytest.raises(NotAllowed, match="drills=True"):
                await other.simulate_crash(plain.id)
            mine = await client.session(name=f"under {name}", heartbeat_s=0.1, drills=True)
            claim = await mine.claim(name, on_lost=lost.append)
            await client.put("presence/drill", 1, ephemeral=True, session=mine.id)
            record = await other.simulate_crash(mine.id)
            assert (record.state, record.drilled) == ("crashed", True)
            assert await other.get("presence/drill") is None
            (held,) = [each for each in (await other.call(List())).claims if each.claim.id == claim.id]
            assert (held.claim.state, held.session_state) == ("orphaned", "crashed")
            async with other.session(heartbeat_s=0) as theirs:
                with pytest.raises(Claimed, match="recover"):
                    await theirs.claim(name)
            while not (mine.ended and lost):
                await asyncio.sleep(0.01)
            assert "crashed" in mine.ended
            assert [each.id for each in lost] == [claim.id]
            with pytest.raises(CosessionError) as caught:
                await client.put("k", 1, session=mine.id)
            assert caught.value.code == "session_ended"
            again = await client.session(id=mine.id, heartbeat_s=0)
            assert (again.record.state, again.record.drilled) == ("active", False)
            records = await client.audit(session=mine.id, kind="verdict")
            assert [each.facts.get("drill", False) for each in records] == [False, True, False]
            while not [
                each
                for each in await client.audit(kind="admin")
                if (each.operation, each.subject) == ("session.simulate_crash", mine.id)
            ]:
                await asyncio.sleep(0.01)

    use(body)
