"""Watches of both clients against a real daemon: snapshots, changes, and reconnects without a gap or a repeat."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest
from msgspec import msgpack

from cosession import Change, Closed, CosessionError, TimedOut, Unreachable, aio, sync
from cosession.messages.watches import WatchEvent, WatchReply
from cosession.model import Entry

SILENCE_S = 0.3


async def until_silent(watch):
    """Everything that comes before nothing comes for a moment, as (kind, key, value)."""
    found = []
    while True:
        try:
            item = await watch.next(SILENCE_S)
        except TimedOut:
            return found
        found.append((item.kind, item.key, item.value))


def test_a_snapshot_then_changes(use):
    async def body(client):
        await client.put("p/a", 1)
        await client.put("p/b", 2)
        await client.put("q/a", 3)
        async with client.watch("p/") as watch:
            assert await until_silent(watch) == [("put", "p/a", 1), ("put", "p/b", 2)]
            assert watch.synced
            await client.put("p/c", 4)
            await client.put("q/c", 5)
            await client.delete("p/a")
            assert await until_silent(watch) == [("put", "p/c", 4), ("delete", "p/a", None)]
            assert watch.revision <= client.revision
            assert watch.epoch == client.epoch

    use(body)


def test_iterating(use):
    async def body(client):
        await client.put("p/a", 1)
        found = []
        async with client.watch("p/", timeout_s=5) as watch:
            async for change in watch:
                found.append(change.value)
                if change.value == 3:
                    break
                await client.put("p/a", change.value + 1)
        assert found == [1, 2, 3]
        assert isinstance(change, Change)
        assert change.mod_revision > 0

    use(body)


def test_without_a_snapshot(use):
    async def body(client):
        await client.put("a", 1)
        watch = await client.watch(snapshot=False)
        await client.put("a", 2)
        assert await until_silent(watch) == [("put", "a", 2)]

    use(body)


def test_of_one_key(use):
    async def body(client):
        watch = await client.watch(key="a")
        await client.put("ab", 1)
        await client.put("a", 2)
        assert await until_silent(watch) == [("put", "a", 2)]

    use(body)


def test_from_a_revision(use):
    async def body(client):
        await client.put("a", 1)
        second = await client.put("a", 2)
        await client.put("b", 3)
        watch = await client.watch(start_revision=second.mod_revision, epoch=client.epoch)
        assert await until_silent(watch) == [("put", "a", 2), ("put", "b", 3)]
        await client.put("c", 4)
        later = await client.watch(start_revision=watch.revision + 1, epoch=watch.epoch)
        assert await until_silent(later) == [("put", "c", 4)]

    use(body)


@pytest.mark.parametrize(
    ("start", "epoch", "code"), [(1_000_000, "", "future_revision"), (1, "00000000000000000000000000", "epoch_changed")]
)
def test_a_position_that_is_not_there(use, start, epoch, code):
    async def body(client):
        await client.put("a", 1)
        with pytest.raises(CosessionError) as caught:
            await client.watch(start_revision=start, epoch=epoch)
        assert caught.value.code == code

    use(body)


def test_batches_come_whole_and_in_order(use):
    async def body(client):
        watch = await client.watch(snapshot=False)
        for n in range(20):
            await client.txn(then=[{"op": "put", "key": f"k{i}", "value": n} for i in range(5)])
        found = [await watch.next(5) for _ in range(100)]
        assert [change.value for change in found] == [n for n in range(20) for _ in range(5)]
        revisions = [change.mod_revision for change in found]
        assert revisions == sorted(revisions)
        assert len(set(revisions)) == 20

    use(body)


def test_silence_times_out_and_the_watch_goes_on(use):
    async def body(client):
        async with client.watch(timeout_s=0.1) as watch:
            for n in range(3):
                began = time.monotonic()
                with pytest.raises(TimedOut):
                    await watch.__anext__()
                assert 0.1 <= time.monotonic() - began < 1
                await client.put("a", n)
                assert (await watch.__anext__()).value == n

    use(body)


def test_closing_ends_the_iteration(use):
    async def body(client):
        watch = await client.watch()
        await watch.close()
        await watch.close()
        async for _ in watch:
            pytest.fail("a closed watch yields nothing")
        with pytest.raises(Closed):
            await watch.next()

    use(body)


def test_closing_it_from_elsewhere_wakes_the_consumer(daemon, run):
    ended = threading.Event()

    def consume(watch):
        for _ in watch:
            pass
        ended.set()

    with sync.connect(daemon.socket) as client:
        watch = client.watch()
        thread = threading.Thread(target=consume, args=(watch,))
        thread.start()
        time.sleep(0.1)
        watch.close()
        assert ended.wait(3)
        thread.join()

    async def body():
        async with aio.connect(daemon.socket) as client:
            watch = await client.watch()
            task = asyncio.create_task(until_ended(watch))
            await asyncio.sleep(0.1)
            await watch.close()
            await asyncio.wait_for(task, 3)

    async def until_ended(watch):
        async for _ in watch:
            pass

    run(body())


def test_cancelling_a_consumer_loses_nothing(daemon, run):
    async def body():
        async with aio.connect(daemon.socket) as client:
            watch = await client.watch(snapshot=False)
            found = []
            for n in range(100):
                await client.put("a", n)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.0005 * (n % 5)):
                        while True:
                            found.append((await watch.next()).value)
            while len(found) < 100:
                found.append((await watch.next(5)).value)
            assert found == list(range(100))

    run(body())


def test_closing_the_client_ends_its_watches(use):
    async def body(client):
        watch = await client.watch()
        await client.close()
        async for _ in watch:
            pytest.fail("a closed watch yields nothing")

    use(body)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_across_a_restart(use, daemon, how):
    async def body(client):
        await client.put("a", 1)
        watch = await client.watch()
        assert await until_silent(watch) == [("put", "a", 1)]
        await client.put("a", 2)
        getattr(daemon, how)()
        daemon.start()
        await client.put("a", 3)
        await client.put("a", 4)
        assert await until_silent(watch) == [("put", "a", 2), ("put", "a", 3), ("put", "a", 4)]

    use(body)


def test_no_gap_and_no_repeat_while_the_daemon_is_killed_again_and_again(connect, run, daemon):
    """One writes, one watches, one kills: the watch sees every committed change once, in order."""
    total, kills = 400, 6
    stop = threading.Event()

    def write():
        with sync.connect(daemon.socket, timeout_s=30) as client:
            for n in range(total):
                client.put(f"k/{n % 7}", n)
        stop.set()

    def kill_now_and_then():
        for _ in range(kills):  # bounded: on a busy machine a daemon gets little done between two kills
            if stop.wait(0.2):
                return
            daemon.kill()
            time.sleep(0.05)
            daemon.start()

    async def body():
        async with connect(daemon.socket, timeout_s=30) as client, client.watch("k/", snapshot=False) as watch:
            threads = [threading.Thread(target=write), threading.Thread(target=kill_now_and_then)]
            for thread in threads:
                thread.start()
            try:
                seen = []
                while len(seen) < total:
                    change = await watch.next(30)
                    seen.append((change.mod_revision, change.value))
                with pytest.raises(TimedOut):
                    await watch.next(SILENCE_S)
            finally:
                for thread in threads:
                    await asyncio.to_thread(thread.join)
        assert [value for _, value in seen] == list(range(total))
        revisions = [revision for revision, _ in seen]
        assert revisions == sorted(set(revisions))

    run(body())


def test_a_timeout_while_the_daemon_is_away(use, daemon):
    async def body(client):
        watch = await client.watch(snapshot=False)
        daemon.kill()
        began = time.monotonic()
        with pytest.raises(TimedOut, match="the daemon is away"):
            await watch.next(0.3)
        assert time.monotonic() - began < 2
        daemon.start()
        await client.put("a", 1)
        assert (await watch.next(5)).value == 1

    use(body)


def test_a_daemon_that_stays_away(use, daemon, monkeypatch):
    for flavour in ("sync", "aio"):
        monkeypatch.setattr(f"cosession.{flavour}.watch.RECONNECT_S", 0.3)

    async def body(client):
        watch = await client.watch(snapshot=False)
        daemon.kill()
        with pytest.raises(Unreachable, match="cannot watch"):
            await watch.next(30)
        daemon.start()
        await client.ping()

    use(body)


def test_an_expiry_and_the_fields_of_a_change(use):
    async def body(client):
        watch = await client.watch()
        entry = await client.put("a", 1, ttl_s=0.2)
        put = await watch.next(5)
        assert (put.kind, put.version, put.create_revision) == ("put", 1, entry.create_revision)
        end = await watch.next(5)
        assert (end.kind, end.key, end.value, end.version, end.create_revision) == (
            "expire", "a", None, 0, entry.create_revision,
        )  # fmt: skip
        assert end.mod_revision > put.mod_revision

    use(body)


def test_a_slow_consumer_of_much(use):
    """More than the buffers between hold: nothing is lost."""

    async def body(client):
        watch = await client.watch(snapshot=False)
        for n in range(300):
            await client.put("big", [n, "x" * 20_000])
        assert [(await watch.next(10)).value[0] for _ in range(300)] == list(range(300))

    use(body)


def test_watching_sessions(use):
    async def body(client):
        watch = await client.watch(space="$sessions", snapshot=False, project="global")
        async with client.session(name="otter", heartbeat_s=0, project="global"):
            assert (await watch.next(5)).value["name"] == "otter"
        states = [(await watch.next(5)).value["state"]]
        assert states[-1] == "closed"

    use(body)


class TestInterruptedSnapshot:
    """Against a scripted daemon: the connection is lost in the middle of a snapshot."""

    def part(self, revision, *keys):
        entries = [Entry(key=key, value=key, version=1, create_revision=1, mod_revision=1) for key in keys]
        return msgpack.encode(WatchEvent(kind="snapshot", revision=revision, entries=entries))

    def end(self, revision):
        return msgpack.encode(WatchEvent(kind="snapshot_end", revision=revision))

    def sending(self, *events, hang_up=False):
        def action(daemon, connection, protocol, call):
            protocol.reply(call, WatchReply(revision=7, watch=1, epoch=daemon.epoch))
            for body in events:
                protocol.event(1, body)
            connection.sendall(protocol.data_to_send())
            if hang_up:
                connection.shutdown(1)

        return action

    def test_it_is_taken_again_behind_a_reset(self, connect, run, scripted):
        scripted.script += [
            self.sending(self.part(10, "a", "b"), hang_up=True),
            self.sending(self.part(12, "b"), self.end(12), hang_up=True),
            self.sending(),
        ]

        async def body():
            async with connect(scripted.path) as client:
                watch = await client.watch()
                items = [await watch.next(5) for _ in range(4)]
                assert [(item.kind, item.key, item.mod_revision) for item in items] == [
                    ("put", "a", 1), ("put", "b", 1), ("reset", "", 12), ("put", "b", 1),
                ]  # fmt: skip
                with pytest.raises(TimedOut):
                    await watch.next(SILENCE_S)

        run(body())
        assert [call.start_revision for call in scripted.calls] == [0, 0, 13]

    def test_an_end_that_says_another_epoch_takes_a_new_snapshot(self, connect, run, scripted):
        over = msgpack.encode(WatchEvent(kind="end", revision=10, code="epoch_changed", message="restored"))
        scripted.script += [
            self.sending(self.part(10, "a"), self.end(10), over),
            self.sending(self.part(99, "b"), self.end(99)),
        ]

        async def body():
            async with connect(scripted.path) as client:
                watch = await client.watch()
                items = [await watch.next(5) for _ in range(3)]
                assert [(item.kind, item.key) for item in items] == [("put", "a"), ("reset", ""), ("put", "b")]

        run(body())
