"""Every verb of both clients against a real daemon, and what happens when it goes away and comes back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime as dt
import inspect
import signal
import subprocess
import sys
import threading

import pytest
from msgspec import Raw

import cosession
from cosession import (
    Compacted,
    Conflict,
    CosessionError,
    InvalidRequest,
    NotAllowed,
    TimedOut,
    TooLarge,
    UnknownOutcome,
    Unreachable,
    aio,
    rounds,
    sync,
)
from cosession.messages.store import Put


def test_put_and_get(use):
    async def body(client):
        assert await client.get("plan/next") is None
        entry = await client.put("plan/next", {"step": 1})
        assert (entry.key, entry.value, entry.version) == ("plan/next", {"step": 1}, 1)
        assert entry.create_revision == entry.mod_revision > 0
        assert entry.time > 1.7e9
        assert await client.get("plan/next") == entry
        again = await client.put("plan/next", {"step": 2})
        assert (again.version, again.create_revision) == (2, entry.create_revision)
        assert (await client.get("plan/next", at_revision=entry.mod_revision)).value == {"step": 1}
        assert client.revision >= again.mod_revision

    use(body)


@pytest.mark.parametrize("value", [None, True, -(2**63), 2**63 - 1, 0.5, "ü\n", "", [], {}, [1, [2, {"a": None}]]])
def test_values_come_back_as_they_were(use, value):
    async def body(client):
        await client.put("k", value)
        found = (await client.get("k")).value
        assert found == value
        assert type(found) is type(value)

    use(body)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, b"bytes", {1: 2}])
def test_values_outside_the_domain_are_refused(use, value):
    async def body(client):
        with pytest.raises(InvalidRequest):
            await client.put("k", value)
        assert await client.get("k") is None

    use(body)


def test_too_large(use):
    async def body(client):
        with pytest.raises(TooLarge):
            await client.put("k", "x" * 300_000)
        with pytest.raises(TooLarge):
            await client.put("x" * 600, 1)

    use(body)


def test_compare_and_swap(use):
    async def body(client):
        first = await client.put("k", 1, expect_revision=0)
        second = await client.put("k", 2, expect_revision=first.mod_revision)
        with pytest.raises(Conflict) as caught:
            await client.put("k", 3, expect_revision=first.mod_revision)
        assert caught.value.current == second
        with pytest.raises(Conflict) as caught:
            await client.delete("other", expect_revision=7)
        assert caught.value.current is None
        assert (await client.get("k")).value == 2

    use(body)


def test_delete_and_history(use):
    async def body(client):
        assert await client.delete("k") is None
        await client.put("k", 1)
        await client.put("k", 2)
        written = await client.delete("k")
        assert (written.kind, written.replaced_revision) == ("delete", written.mod_revision - 1)
        assert await client.get("k") is None
        assert [(v.kind, v.value) for v in await client.history("k")] == [("delete", None), ("put", 2), ("put", 1)]
        assert [v.value for v in await client.history("k", limit=1)] == [None]
        assert [v.value for v in await client.history("k", before_revision=written.mod_revision)] == [2, 1]

    use(body)


def test_range(use):
    async def body(client):
        for n in range(5):
            await client.put(f"a/{n}", n)
        await client.put("b/0", "other")
        at = client.revision
        await client.put("a/0", "changed")
        assert [entry.value for entry in await client.range("a/")] == ["changed", 1, 2, 3, 4]
        assert [entry.value for entry in await client.range("a/", at_revision=at)] == [0, 1, 2, 3, 4]
        assert [entry.key for entry in await client.range("a/", limit=2)] == ["a/0", "a/1"]
        assert [entry.value for entry in await client.range("a/", limit=1, keys_only=True)] == [None]
        assert await client.range("nothing/") == []
        assert len(await client.range()) == 6

    use(body)


def test_a_range_of_many_pages_is_of_one_revision(use):
    async def body(client):
        for start in range(0, 2_500, 100):
            await client.txn(then=[{"op": "put", "key": f"k{n:05}", "value": 0} for n in range(start, start + 100)])
        found = await client.range("k")
        assert [entry.key for entry in found] == [f"k{n:05}" for n in range(2_500)]
        assert len(await client.range("k", limit=1_234)) == 1_234

    use(body)


def test_add(use):
    async def body(client):
        assert (await client.add("n")).value == 1
        added = await client.add("n", 2.5)
        assert (added.value, added.version) == (3.5, 2)
        assert await client.get("n") == added
        with pytest.raises(Conflict):
            await client.add("n", expect_revision=0)
        with pytest.raises(CosessionError) as wrong:
            await client.add("n", True)
        assert wrong.value.code == "invalid_params"
        await client.put("n", "text")
        with pytest.raises(CosessionError) as wrong:
            await client.add("n")
        assert wrong.value.code == "wrong_type"
        await client.put("n", 2**63 - 1)
        with pytest.raises(TooLarge):
            await client.add("n")

    use(body)


def test_append(use):
    async def body(client):
        assert (await client.append("l", "a")).length == 1
        appended = await client.append("l", {"b": 1}, [2], request_id="once")
        assert (appended.length, appended.written.version) == (3, 2)
        assert (await client.append("l", {"b": 1}, [2], request_id="once")).repeated
        assert (await client.get("l")).value == ["a", {"b": 1}, [2]]
        with pytest.raises(InvalidRequest):
            await client.append("l")
        await client.txn(then=[{"op": "append", "key": "l", "values": [3]}, {"op": "add", "key": "n", "number": 2}])
        assert ((await client.get("l")).value[-1], (await client.get("n")).value) == (3, 2)

    use(body)


def test_merge(use):
    async def body(client):
        assert (await client.merge("k", {"a": 1})).value == {"a": 1}
        merged = await client.merge("k", {"b": {"c": 2}, "a": None})
        assert merged.value == {"b": {"c": 2}}
        assert await client.get("k") == merged
        with pytest.raises(Conflict):
            await client.merge("k", {}, expect_revision=0)

    use(body)


def test_txn(use):
    async def body(client):
        entry = await client.put("a", 1)
        held = {"kind": "entry", "key": "a", "field": "mod_revision", "value": entry.mod_revision}
        reply = await client.txn(
            compares=[held], then=[{"op": "put", "key": "a", "value": 2}, {"op": "put", "key": "b", "value": 3}]
        )
        assert reply.succeeded
        assert {written.mod_revision for written in reply.written} == {reply.txn_revision}
        other = await client.txn(compares=[held], otherwise=[{"op": "delete", "key": "b"}])
        assert not other.succeeded
        with pytest.raises(Conflict) as caught:
            await client.txn(compares=[held], then=[{"op": "delete", "key": "a"}])
        assert caught.value.current.value == 2
        assert [entry.key for entry in await client.range()] == ["a"]

    use(body)


def test_projects_are_apart(use):
    async def body(client):
        assert client.project == "mine"
        await client.put("k", 1)
        await client.put("k", 2, project="other")
        assert (await client.get("k")).value == 1
        assert (await client.get("k", project="other")).value == 2
        assert await client.get("k", project="global") is None

    use(body, project="mine")


def test_a_lease_of_its_own(use):
    async def body(client):
        assert (await client.put("k", 1, ttl_s=0.2)).ttl_s == 0.2
        assert (await client.get("k")).ttl_s == 0.2
        async with asyncio.timeout(10):  # never early, later is allowed
            while await client.get("k") is not None:  # noqa: ASYNC110  # the daemon tells nobody but watches
                await asyncio.sleep(0.05)

    use(body)


def test_repeating_a_write_by_its_request_id(use):
    async def body(client):
        first = await client.put("k", 1, request_id="mine")
        await client.put("k", 2)
        again = await client.put("k", 1, request_id="mine")
        assert again.mod_revision == first.mod_revision
        assert (await client.get("k")).value == 2
        with pytest.raises(CosessionError) as caught:
            await client.put("k", 3, request_id="mine")
        assert caught.value.code == "request_id_reused"

    use(body)


def test_every_write_carries_a_request_id(use):
    async def body(client):
        await client.put("k", 1)
        await client.merge("k", {"a": 1})
        await client.txn(then=[{"op": "put", "key": "k", "value": 2}])
        await client.delete("k")
        ids = [version.request_id for version in await client.history("k")]
        assert len(set(ids)) == 4
        assert all(len(each) == 26 for each in ids)

    use(body)


def test_update(use):
    async def body(client):
        assert (await client.update("k", lambda value: [value])).value == [None]
        assert (await client.update("k", lambda value: [*value, 2])).value == [None, 2]

    use(body)


def test_update_meets_a_conflict_and_goes_on_from_the_entry_it_brought(use):
    async def body(client):
        seen = []

        async def interfere(n):
            await client.put("k", n)

        await interfere(0)
        meddler = sync.connect(client.socket)

        def fn(value):
            seen.append(value)
            if len(seen) < 3:
                meddler.put("k", len(seen))
            return "mine"

        with meddler:
            assert (await client.update("k", fn)).value == "mine"
        assert seen == [0, 1, 2]

    use(body)


def test_update_gives_up_with_the_conflict(use, monkeypatch):
    """Somebody writes in every single turn, without taking one."""
    monkeypatch.setattr(rounds, "TURNS_IN_VAIN_MAX", 3)

    async def body(client):
        seen = []
        with sync.connect(client.socket) as meddler:

            def fn(value):
                seen.append(value)
                meddler.put("k", len(seen))
                return "mine"

            with pytest.raises(Conflict) as caught:
                await client.update("k", fn)
        assert seen == [None, 1, 2, 3, 4]
        assert caught.value.current.value == 5
        assert (await client.status()).conflicts_pending == 5

    use(body)


def test_status_ping_and_raw_calls(use, daemon):
    async def body(client):
        status = await client.status()
        assert status.pid == daemon.pid == (await client.ping()).pid
        assert status.socket == client.socket
        assert client.epoch == status.epoch
        reply = await client.call(Put(key="k", value=Raw(b"\x01")))
        assert reply.written.key == "k"

    use(body)


def test_refused_requests_leave_the_client_usable(use):
    async def body(client):
        for _ in range(3):
            with pytest.raises(InvalidRequest):
                await client.put("", 1)
            with pytest.raises(NotAllowed):
                await client.put("k", 1, space="$sessions")
        assert await client.get("k") is None

    use(body)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_calls_go_on_after_the_daemon_comes_back(use, daemon, how):
    async def body(client):
        before = await client.put("k", 1)
        getattr(daemon, how)()
        daemon.start()
        assert await client.get("k") == before
        getattr(daemon, how)()
        daemon.start()
        assert (await client.put("k", 2)).version == 2

    use(body)


def test_a_call_waits_for_the_daemon_to_come_back(use, daemon):
    async def body(client):
        await client.put("k", 1)
        daemon.kill()
        timer = threading.Timer(0.5, daemon.start)
        timer.start()
        assert (await client.put("k", 2)).version == 2
        timer.join()

    use(body)


def test_a_daemon_that_hangs_is_not_waited_for(connect, run, daemon):
    async def body():
        async with connect(daemon.socket) as client:
            daemon.signal(signal.SIGSTOP)
            try:
                with pytest.raises(TimedOut):
                    async with connect(daemon.socket, timeout_s=0.3):
                        pass
                with pytest.raises(TimedOut):
                    await client.get("k", timeout_s=0.3)
                with pytest.raises(UnknownOutcome) as caught:
                    await client.put("k", 1, timeout_s=0.3)
            finally:
                daemon.signal(signal.SIGCONT)
            repeated = await client.put("k", 1, request_id=caught.value.data["request_id"])
            assert (repeated.version, len(await client.history("k"))) == (1, 1)

    run(body())


def test_a_call_does_not_wait_for_ever(use, daemon):
    async def body(client):
        daemon.kill()
        with pytest.raises(Unreachable):
            await client.get("k", timeout_s=0.3)
        daemon.start()
        await client.ping()

    use(body)


def count_up(socket, times):
    """Update a counter so often; returns how often it was done, where `update` did not end in what it promises."""
    done = 0
    with sync.connect(socket) as client:
        for _ in range(times):
            with contextlib.suppress(Conflict):
                client.update("counter", lambda value: (value or 0) + 1)
                done += 1
    return done


COUNT_UP = f"""
import contextlib, sys
from cosession import Conflict, sync
{inspect.getsource(count_up)}
print(count_up(sys.argv[1], 40))
"""


def test_update_under_contention_of_processes_loses_nothing(daemon):
    command = [sys.executable, "-c", COUNT_UP, str(daemon.socket)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    done = sum(int(process.communicate(timeout=60)[0]) for process in processes)
    with sync.connect(daemon.socket) as client:
        assert client.get("counter").value == done > 0


def test_update_under_contention_of_threads_loses_nothing(daemon):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        done = sum(pool.map(lambda _: count_up(daemon.socket, 40), range(6)))
    with sync.connect(daemon.socket) as client:
        assert client.get("counter").value == done > 0


def test_update_under_contention_of_tasks_loses_nothing(daemon, run):
    async def count(client):
        try:
            await client.update("counter", lambda value: (value or 0) + 1)
        except Conflict:
            return 0
        return 1

    async def body():
        async with aio.connect(daemon.socket) as client:
            done = sum(await asyncio.gather(*(count(client) for _ in range(40))))
            assert (await client.get("counter")).value == done > 0

    run(body())


def test_writes_through_kills_of_the_daemon_happen_exactly_once(connect, run, daemon):
    """Creations, while the daemon is killed under them: what was answered is there, once, in order."""
    stop = threading.Event()

    def kill_now_and_then():
        while not stop.wait(0.25):
            daemon.kill()
            daemon.start()

    async def body():
        acknowledged = []
        async with connect(daemon.socket, timeout_s=20) as client:
            for n in range(150):
                entry = await client.put(f"k{n}", n, expect_revision=0)
                acknowledged.append(entry)
            for entry in acknowledged:
                assert await client.get(entry.key) == entry
                assert len(await client.history(entry.key)) == 1
        revisions = [entry.mod_revision for entry in acknowledged]
        assert revisions == sorted(set(revisions))

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        run(body())
    finally:
        stop.set()
        killer.join()


def test_the_example_of_the_design(daemon, monkeypatch):
    monkeypatch.setenv("COSESSION_HOME", str(daemon.home))
    with cosession.connect() as client:
        entry = client.put("plan/next", {"step": 1})
        entry = client.get("plan/next")
        client.put("plan/next", {"step": 2}, expect_revision=entry.mod_revision)
        client.update("plan/next", lambda v: {**v, "owner": "a"})
        with client.session(agent="custom", name="otter") as session:
            assert session.name == "otter"
        for change in client.watch("plan/"):
            assert change.value == {"step": 2, "owner": "a"}
            break


def test_what_stood_is_put_back_and_what_must_go_goes(use):
    async def body(client):
        before = await client.put("k/a", 1)
        await client.put("k/a", 2)
        await client.put("k/b", 3)
        planned = await client.revert(prefix="k/", to_revision=before.mod_revision, dry_run=True)
        assert [(each.kind, each.key) for each in planned.written] == [("put", "k/a"), ("delete", "k/b")]
        assert (await client.get("k/a")).value == 2
        assert len((await client.revert("k/a", to_revision=before.mod_revision)).written) == 1
        assert (await client.get("k/a")).value == 1
        with pytest.raises(Conflict):
            await client.revert("k/a", to_revision=before.mod_revision, expect_revision=1)
        assert await client.revision_at(before.time) == before.mod_revision
        assert await client.revision_at(dt.datetime.now(dt.UTC)) == client.revision
        with pytest.raises(Compacted):
            await client.revision_at(0.0)
        purged = await client.purge("k/a")
        assert (purged.purged, purged.backups) == (3, [])
        assert [each.purged for each in await client.history("k/a")] == [False, True, True, True]
        with pytest.raises(Compacted):
            await client.get("k/a", at_revision=before.mod_revision)

    use(body)
