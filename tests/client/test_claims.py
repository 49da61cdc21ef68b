"""Claims of both clients against a real daemon: granted, refused, waited for, fenced, lost, orphaned, passed on."""

# A session and what it claims are two things: they stand in two lines. Waiting for another thread is done by looking.
# ruff: noqa: SIM117, ASYNC110
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from cosession import Claimed, CosessionError, Fenced, InvalidRequest, NotAllowed, sync
from cosession.messages.claims import Acquire, Check, Explain, List, Release, Renew
from cosession.targets import Place


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository to claim files of, as the working directory."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def standing(client, **names):
    return (await client.call(List(**names))).claims


def test_a_claim_is_granted_with_a_token_and_released_with_its_block(use, tree):
    async def body(client):
        async with client.session(name="otter", heartbeat_s=0) as session:
            async with session.claim("src/a.py", "name:release", purpose="refactor") as claim:
                (found,) = await standing(client)
                assert found.claim.id == claim.id
                assert set(found.claim.targets) == {"path:src/a.py", "name:release"}
                assert (found.claim.worktree, found.claim.purpose) == (str(tree.resolve()), "refactor")
                assert (found.name, found.session_state) == ("otter", "active")
                assert claim.token == found.claim.token > 0
                assert 1_700 < found.claim.expires_in_s <= 1_800
            assert await standing(client) == []

    use(body)


def test_another_session_is_refused_and_told_who_why_and_how_long(use, connect, daemon, tree):
    async def body(client):
        async with connect(daemon.socket) as other, client.session(name="otter", agent="claude", heartbeat_s=0) as mine:
            async with other.session(name="heron", heartbeat_s=0) as theirs, mine.claim("src/**", purpose="refactor"):
                with pytest.raises(
                    Claimed, match=r"session otter \(claude, active\) holds path:src/\*\*.*refactor.*; "
                ):
                    await theirs.claim("src/a.py")
                (blocker,) = (
                    await other.call(
                        Check(
                            targets=["path:src/a.py"],
                            worktree=str(tree.resolve()),
                            project=other.project,
                            session=theirs.id,
                        )
                    )
                ).blockers
                assert blocker.overlaps == (("path:src/a.py", "path:src/**"),)
                async with theirs.claim("README.md") as free:
                    assert free.token > 0

    use(body)


def test_shared_claims_stand_beside_one_another_and_keep_exclusive_ones_out(use, connect, daemon):
    async def body(client):
        async with connect(daemon.socket) as other, client.session(heartbeat_s=0) as mine:
            async with other.session(heartbeat_s=0) as theirs:
                async with mine.claim("name:src", shared=True), theirs.claim("name:src", shared=True):
                    with pytest.raises(Claimed):
                        await theirs.claim("name:src")

    use(body)


def test_the_same_claim_again_is_renewed_and_stays_one(use, tree):
    async def body(client):
        async with client.session(heartbeat_s=0) as session, session.claim("src/a.py") as claim:
            request = Acquire(targets=["path:src/a.py"], worktree=str(tree.resolve()), project=client.project)
            reply = await client.call(request)
            assert (reply.renewed, reply.claim.id, reply.claim.token) == (True, claim.id, claim.token)

    use(body)


def test_nobody_cannot_claim(use):
    async def body(client):
        with pytest.raises(NotAllowed, match="for nobody"):
            await client.call(Acquire(targets=["name:x"]))

    use(body)


def test_a_write_with_the_token_of_a_claim_that_stands_is_committed_and_refused_afterwards(use):
    async def body(client):
        async with client.session(heartbeat_s=0) as session:
            claim = await session.claim("name:build")
            assert (await client.put("build/lock", 1, fence=claim.token)).value == 1
            await client.merge("build/state", {"a": 1}, fence=claim.token)
            await client.txn(then=[{"op": "put", "key": "a", "value": 1}], fence=claim.token)
            await claim.release()
            for write in (
                client.put("build/lock", 2, fence=claim.token),
                client.delete("build/lock", fence=claim.token),
                client.add("build/n", fence=claim.token),
                client.append("build/l", 1, fence=claim.token),
                client.txn(then=[{"op": "put", "key": "a", "value": 2}], fence=claim.token),
            ):
                with pytest.raises(Fenced, match=r"cannot write: .*; claim again"):
                    await write
            assert (await client.get("build/lock")).value == 1

    use(body)


def test_the_token_of_another_session_is_not_to_be_used(use, connect, daemon):
    async def body(client):
        async with connect(daemon.socket) as other, client.session(heartbeat_s=0) as mine:
            async with other.session(heartbeat_s=0), mine.claim("name:build") as claim:
                with pytest.raises(NotAllowed, match="is of session"):
                    await other.put("build/lock", 1, fence=claim.token)

    use(body)


def test_tokens_grow_with_every_grant(use):
    async def body(client):
        tokens = []
        async with client.session(heartbeat_s=0) as session:
            for _ in range(5):
                async with session.claim("name:build") as claim:
                    tokens.append(claim.token)
        assert tokens == sorted(set(tokens))

    use(body)


def test_who_waits_gets_it_in_the_order_of_asking(daemon):
    order = []

    def wait(name, begun):
        with sync.connect(daemon.socket) as client, client.session(name=name, heartbeat_s=0) as session:
            begun.set()
            with session.claim("name:build", wait_s=60):
                order.append(name)

    with sync.connect(daemon.socket) as client, client.session(heartbeat_s=0) as session:
        claim = session.claim("name:build").__enter__()
        threads = []
        for number, name in enumerate(["first", "second", "third"], start=1):
            begun = threading.Event()
            threads.append(threading.Thread(target=wait, args=(name, begun)))
            threads[-1].start()
            begun.wait()
            while sum(each.waits_s >= 0 for each in client.call(List()).claims) < number:
                pass
        claim.release()
        for thread in threads:
            thread.join()
    assert order == ["first", "second", "third"]


def test_who_does_not_wait_does_not_pass_those_who_do(use, connect, daemon):
    async def body(client):
        async with connect(daemon.socket) as second, connect(daemon.socket) as third:
            mine = await client.session(heartbeat_s=0)
            claim = await mine.claim("name:a")
            waits = await second.session(heartbeat_s=0)
            late = await third.session(heartbeat_s=0)
            with sync.connect(daemon.socket) as looker:
                thread = threading.Thread(target=_claim_in_thread, args=(daemon.socket, waits.id))
                thread.start()
                while not any(each.waits_s >= 0 for each in looker.call(List()).claims):
                    await asyncio.sleep(0.01)
                with pytest.raises(Claimed, match="waits ahead"):
                    await late.claim("name:b")
                await claim.release()
                await asyncio.to_thread(thread.join)

    use(body)


def _claim_in_thread(socket, session):
    with sync.connect(socket) as client:
        request = Acquire(targets=["name:a", "name:b"], session=session, project=client.project, wait_s=60)
        client.call(request, timeout_s=60)
        client.call(Release(all=True, session=session))


def test_waiting_ends_in_time_with_the_refusal(use, connect, daemon):
    async def body(client):
        async with connect(daemon.socket) as other, client.session(heartbeat_s=0) as mine:
            async with other.session(heartbeat_s=0) as theirs, mine.claim("name:a"):
                with pytest.raises(Claimed):
                    await theirs.claim("name:a", wait_s=0.1)

    use(body)


def test_a_claim_ends_by_time_and_the_program_is_told(use):
    async def body(client):
        told = []
        async with client.session(heartbeat_s=0) as session:
            claim = await session.claim("name:a", ttl_s=1, idle_hold_s=0, on_lost=told.append)
            (found,) = await standing(client)
            assert 0 < found.claim.expires_in_s <= 1
            await client.call(Release(ids=[claim.id], session=session.id))
            with pytest.raises(Claimed):
                await claim.renew()
            assert claim.lost
            assert len(told) == 1

    use(body)


def test_renewals_in_the_background_keep_it(use):
    async def body(client):
        async with client.session(heartbeat_s=0) as session:
            claim = await session.claim("name:a", ttl_s=1, idle_hold_s=0)
            for _ in range(2):
                record = claim.record
                while claim.record is record:
                    await asyncio.sleep(0.01)
            assert [each.claim.id for each in await standing(client)] == [claim.id]
            assert claim.lost == ""

    use(body)


def test_without_renewal_it_expires(use, daemon):
    async def body(client):
        async with client.session(heartbeat_s=0) as session:
            asked = Acquire(targets=["name:a"], session=session.id, ttl_s=1, idle_hold_s=0, automatic=True)
            claim = (await client.call(asked)).claim
            with sync.connect(daemon.socket) as looker:
                while looker.call(List()).claims:
                    await asyncio.sleep(0.05)
            renewed = await client.call(Renew(ids=[claim.id], session=session.id))
            assert (renewed.claims, renewed.lost) == ([], [claim.id]), "a renewal that comes too late is told so"
            with pytest.raises(Fenced):
                await client.put("k", 1, fence=claim.token)

    use(body)


def test_a_closed_session_releases_what_it_held(use):
    async def body(client):
        session = await client.session(heartbeat_s=0)
        await session.claim("name:a")
        await session.close()
        assert await standing(client) == []

    use(body)


HOLDER = """
import sys, time, cosession
client = cosession.connect(sys.argv[1])
session = client.session(name="holder", id=sys.argv[2]).__enter__()
claim = session.claim("name:a", purpose="to die").__enter__()
print(claim.token, flush=True)
time.sleep(600)
"""


def holder(daemon, id):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, daemon.socket, id], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_the_claims_of_a_killed_session_are_orphaned_at_once_and_still_keep_others_out(daemon):
    process, token = holder(daemon, "holder-1")
    with process, sync.connect(daemon.socket) as client, client.session(heartbeat_s=0) as session:
        os.kill(process.pid, signal.SIGKILL)
        while client.call(List()).claims[0].claim.state != "orphaned":
            pass
        (found,) = client.call(List()).claims
        assert (found.claim.token, found.session_state) == (token, "crashed")
        assert 0 < found.claim.expires_in_s <= 15
        with pytest.raises(Claimed, match=r"left name:a.*recover"):
            session.claim("name:a").__enter__()


def test_claims_pass_on_to_the_session_that_replaces_theirs(use):
    async def body(client):
        old = await client.session(heartbeat_s=0, id="old-1")
        claim = await old.claim("name:a")
        await client.session(heartbeat_s=0, id="new-1", replaces="old-1")
        (found,) = await standing(client)
        assert (found.claim.session, found.claim.token, found.claim.state) == ("new-1", claim.token, "held")

    use(body)


def test_claims_stand_after_a_restart_of_the_daemon(daemon):
    with sync.connect(daemon.socket) as client, client.session(heartbeat_s=0) as session:
        claim = session.claim("name:a").__enter__()
        daemon.kill()
        daemon.start()
        (found,) = client.call(List()).claims
        assert (found.claim.token, found.claim.state) == (claim.token, "held")
        assert client.put("k", 1, fence=claim.token).version == 1


def test_force_releases_what_another_holds_and_is_written_down(use, connect, daemon):
    async def body(client):
        async with connect(daemon.socket) as other, client.session(heartbeat_s=0) as mine:
            claim = await mine.claim("name:a")
            async with other.session(heartbeat_s=0) as theirs:
                with pytest.raises(NotAllowed, match="or force it"):
                    await other.call(Release(ids=[claim.id], session=theirs.id))
                reply = await other.call(Release(ids=[claim.id], session=theirs.id, force=True))
                assert reply.released == [claim.id]
                with pytest.raises(Fenced):
                    await client.put("k", 1, fence=claim.token)
            records = await client.audit(kind="admin")
            assert any((each.operation, each.outcome) == ("claim.release", "forced") for each in records)

    use(body)


def test_explain_says_what_holds_for_a_claim(use):
    async def body(client):
        async with client.session(heartbeat_s=0) as session, session.claim("name:a") as claim:
            for text in (claim.id, str(claim.token)):
                reply = await client.call(Explain(claim=text))
                assert reply.standing.claim.id == claim.id
                assert any("1800 s after the last activity" in line for line in reply.lines)
            with pytest.raises(CosessionError) as caught:
                await client.call(Explain(claim="nothing"))
            assert caught.value.code == "not_found"

    use(body)


@pytest.mark.parametrize(
    "request_",
    [
        Acquire(targets=[]),
        Acquire(targets=["src/a.py"]),
        Acquire(targets=["path:/etc/passwd"], worktree="/w"),
        Acquire(targets=["path:../x"], worktree="/w"),
        Acquire(targets=["path:a"], worktree="w"),
        Acquire(targets=["path:[a"], worktree="/w"),
        Acquire(targets=["name:a\x1b"]),
        Acquire(targets=["name:a", "machine:b"]),
        Acquire(targets=[f"name:{n}" for n in range(65)]),
        Acquire(targets=[f"path:{n}/**" for n in range(65)], worktree="/w"),
        Acquire(targets=["path:" + "*a" * 300], worktree="/w"),
        Acquire(targets=["name:" + "x" * 600]),
        Acquire(targets=["name:a"], ttl_s=float("inf")),
        Acquire(targets=["name:a"], wait_s=-1),
        Acquire(targets=["name:a"], purpose="x" * 5_000),
    ],
)
def test_what_cannot_be_claimed_is_refused_with_cause_and_remedy(use, request_):
    async def body(client):
        async with client.session(heartbeat_s=0):
            with pytest.raises(CosessionError, match=r"cannot .*: .*") as caught:
                await client.call(request_)
            assert caught.value.code in {"invalid_params", "too_large"}
            assert await standing(client) == []

    use(body)


def test_targets_are_resolved_against_the_worktree(tree):
    place = Place(".")
    assert place.target("src/a.py") == "path:src/a.py"
    assert place.target("src") == "path:src/**"
    assert place.target(".") == "path:**"
    assert place.target("src/*.py") == "path:src/*.py"
    assert place.target("src/../src/new.py") == "path:src/new.py"
    assert Place("src").target("a.py") == "path:src/a.py"
    assert Place("src").target("../*.md") == "path:*.md"
    (tree / "odd[1].txt").write_text("")
    assert place.target("odd[1].txt") == "path:odd[[]1].txt"
    (tree / "link").symlink_to("src")
    assert place.target("link/a.py") == "path:src/a.py"
    (tree / "out").symlink_to("/etc")
    for outside in ("/etc/passwd", "../x", "out/passwd", "../*"):
        with pytest.raises(InvalidRequest, match="outside"):
            place.target(outside)
    assert place.target("name:branch/x") == "name:branch/x"
