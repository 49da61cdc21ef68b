"""Being told when a process ends: how soon and how cheaply, through real pidfds, through a kqueue as documented, and by
polling. The same rules hold for all three.
"""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from cosession.model import Instance
from cosessiond.clock import LoopTimers, SystemClock
from cosessiond.sessions import procs, watching
from cosessiond.sessions.pidfd import Pidfds
from cosessiond.sessions.verdict import ProcessSignal
from cosessiond.sessions.watching import POLL_S, POLL_SLICE, ProcessWatch, system_notifier
from cosessiond.store.leases import Deadlines
from sessions.processes import instance_of
from virtual import World

linux = pytest.mark.skipif(not procs.LINUX, reason="pidfd is of Linux")
HERE = Instance(boot_id="b", pid=10, start_time=100)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


# Being told, by the kernel.


class Loop:
    """A `ProcessWatch` on a real asyncio loop, and what it told."""

    def __init__(self, notifier=system_notifier):
        loop = asyncio.get_running_loop()
        self.clock = SystemClock()
        self.deadlines = Deadlines(self.clock, LoopTimers(loop))
        self.told = []
        self.more = asyncio.Event()
        self.watch = ProcessWatch(self.clock, self.deadlines, notifier(loop.add_reader, loop.remove_reader))

    def begin(self, instance):
        return self.watch.watch(instance, self.tell)

    def tell(self, notice):
        self.told.append(notice)
        self.more.set()

    async def until_told(self, count=1, timeout_s=10.0):
        async with asyncio.timeout(timeout_s):
            while len(self.told) < count:
                self.more.clear()
                await self.more.wait()


@linux
def test_a_sigkill_is_noticed_through_the_pidfd_within_100_ms(sleeper):
    async def run():
        loop = Loop()
        before = descriptors()
        instance = instance_of(sleeper.pid)
        loop.begin(instance)
        assert loop.watch.counts() == {"told": 1, "polled": 0}
        await asyncio.sleep(0.02)
        assert loop.told == []
        killed_s = loop.clock.monotonic()
        sleeper.kill()
        await loop.until_told()
        (notice,) = loop.told
        assert notice.instance == instance
        assert 0 <= notice.noticed_s - killed_s < 0.1
        assert notice.evidence == f"pidfd readable: pid {instance.pid} (start {instance.start_time}) exited"
        assert descriptors() == before
        assert loop.watch.counts() == {"told": 0, "polled": 0}
        assert len(loop.deadlines) == 0

    asyncio.run(run())


@linux
def test_no_descriptor_is_left_behind(sleeper):
    """Cancelled, cancelled twice, shared, dead before, dead after: a hundred times, then count."""

    async def run():
        loop = Loop()
        instance = instance_of(sleeper.pid)
        over = replace(instance, start_time=instance.start_time - 1)
        before = descriptors()
        for _ in range(100):
            watches = [loop.begin(instance), loop.begin(instance), loop.begin(over), loop.begin(over)]
            assert loop.watch.counts()["told"] == 1
            for each in watches[:3]:
                each.cancel()
                each.cancel()
            loop.begin(instance).cancel()
        assert descriptors() == before
        await loop.until_told(100)
        assert {notice.signal.kind for notice in loop.told} == {"reused"}
        assert len(loop.deadlines) == 0

    asyncio.run(run())


@linux
def test_all_sessions_of_a_process_are_told_and_share_one_descriptor(sleeper):
    async def run():
        loop = Loop()
        instance = instance_of(sleeper.pid)
        watches = [loop.begin(instance) for _ in range(50)]
        assert loop.watch.counts()["told"] == 1
        for each in watches[::2]:
            each.cancel()
        sleeper.kill()
        await loop.until_told(25)
        await asyncio.sleep(0.01)
        assert len(loop.told) == 25

    asyncio.run(run())


@linux
def test_a_process_that_is_over_before_the_watch_is_told_later_and_never_inside_it(sleeper):
    async def run():
        loop = Loop()
        instance = instance_of(sleeper.pid)
        sleeper.kill()
        sleeper.wait()
        before = descriptors()
        loop.begin(instance)
        loop.begin(instance).cancel()
        assert loop.told == []
        await loop.until_told()
        assert loop.told[0].signal.kind == "gone"
        assert descriptors() == before
        loop.begin(instance).cancel()
        await asyncio.sleep(0.01)
        assert len(loop.told) == 1

    asyncio.run(run())


@linux
def test_a_reused_pid_is_seen_between_opening_and_watching(sleeper):
    """The pidfd opens, but the process behind the pid is another one: told as over, and the descriptor closed."""

    async def run():
        loop = Loop()
        real = instance_of(sleeper.pid)
        before = descriptors()
        loop.begin(replace(real, start_time=real.start_time - 7))
        assert descriptors() == before
        await loop.until_told()
        assert loop.told[0].signal.kind == "reused"

    asyncio.run(run())


def test_an_instance_that_cannot_be_judged_costs_nothing():
    async def run():
        loop = Loop()
        before = descriptors()
        watching = loop.begin(replace(HERE, judgeable=False))
        assert descriptors() == before
        assert len(loop.deadlines) == 0
        watching.cancel()

    asyncio.run(run())


# The floor.


def refuse(code, *_):
    raise OSError(code, os.strerror(code))


@linux
@pytest.mark.parametrize(
    "notifier",
    [
        partial(Pidfds, partial(refuse, errno.EMFILE)),
        partial(Pidfds, getattr(os, "pidfd_open", None), pidfds_max=0),
        lambda *_: None,
    ],
    ids=["EMFILE", "all used", "none"],
)
def test_without_a_descriptor_to_spare_it_is_polled(sleeper, monkeypatch, notifier):
    monkeypatch.setattr(watching, "POLL_S", 0.05)

    async def run():
        loop = Loop(notifier)
        before = descriptors()
        loop.begin(instance_of(sleeper.pid))
        assert loop.watch.counts() == {"told": 0, "polled": 1}
        assert len(loop.deadlines) == 1
        await asyncio.sleep(0.12)
        assert loop.told == []
        sleeper.kill()
        await loop.until_told(timeout_s=2)
        assert loop.told[0].signal.kind in ("zombie", "gone")
        assert len(loop.deadlines) == 0
        assert descriptors() == before

    asyncio.run(run())


@linux
def test_a_loop_that_takes_no_more_descriptors_leads_to_polling(sleeper):
    async def run():
        loop = asyncio.get_running_loop()
        clock = SystemClock()
        deadlines = Deadlines(clock, LoopTimers(loop))
        before = descriptors()
        watch = ProcessWatch(clock, deadlines, system_notifier(partial(refuse, errno.ENOSPC), loop.remove_reader))
        standing = watch.watch(instance_of(sleeper.pid), print)
        assert watch.counts() == {"told": 0, "polled": 1}
        assert descriptors() == before
        standing.cancel()
        assert watch.counts() == {"told": 0, "polled": 0}
        assert len(deadlines) == 0

    asyncio.run(run())


class Polled:
    """A polling `ProcessWatch` in a virtual world, whose processes are over when their pid is in `dead`."""

    def __init__(self, seed=1):
        self.world = World(seed)
        self.deadlines = Deadlines(self.world.clock, self.world)
        self.dead = set()
        self.looks = []
        self.told = []
        self.watch = ProcessWatch(self.world.clock, self.deadlines, None, look=self.look)

    def look(self, instance, _clock):
        self.looks.append(instance.pid)
        return ProcessSignal("gone" if instance.pid in self.dead else "alive", f"pid {instance.pid}")

    def begin(self, pid, on_death=None):
        return self.watch.watch(Instance(boot_id="b", pid=pid, start_time=1), on_death or self.told.append)


def test_one_pass_polls_all_every_two_seconds_and_only_while_there_are_any():
    polled = Polled()
    watches = [polled.begin(pid) for pid in range(1, 1001)]
    assert len(polled.deadlines) == 1
    polled.looks.clear()
    polled.world.advance(1.9)
    assert polled.looks == []
    polled.world.advance(0.2)
    assert sorted(polled.looks) == list(range(1, 1001))
    polled.dead = {3, 500, 999}
    polled.world.advance(POLL_S + 0.1)
    assert sorted(notice.instance.pid for notice in polled.told) == [3, 500, 999]
    assert polled.watch.counts()["polled"] == 997
    for each in watches:
        each.cancel()
    assert len(polled.deadlines) == 0
    polled.looks.clear()
    polled.world.advance(60)
    assert polled.looks == []


def test_a_pass_over_many_lets_the_loop_breathe():
    polled = Polled()
    for pid in range(3 * POLL_SLICE):
        polled.begin(pid + 1)
    polled.world.advance(POLL_S - 0.001)
    polled.looks.clear()
    polled.world.advance(0.001)
    assert len(polled.looks) == POLL_SLICE
    polled.world.advance(0.02)
    assert len(polled.looks) == 3 * POLL_SLICE


@pytest.mark.parametrize("seed", range(30))
def test_polling_under_change(seed):
    """Watches come and go, also from inside the notices; each standing watch of a dead process is told exactly once."""
    polled = Polled(seed)
    random = polled.world.random
    standing, told = {}, []

    def on_death(key, notice):
        told.append(key)
        assert notice.instance.pid in polled.dead
        standing.pop(key)
        if standing and random.random() < 0.5:
            other = random.choice(sorted(standing))
            standing.pop(other).cancel()
        if random.random() < 0.5:
            begin()

    def begin():
        pid, key = random.randrange(1, 40), begin.count
        begin.count += 1
        standing[key] = polled.begin(pid, partial(on_death, key))

    begin.count = 0
    for _ in range(300):
        if random.random() < 0.6 or not standing:
            begin()
        elif random.random() < 0.5:
            standing.pop(random.choice(sorted(standing))).cancel()
        else:
            polled.dead.add(random.randrange(1, 40))
            polled.world.advance(random.uniform(0, 1))
    polled.world.advance(2 * POLL_S)
    assert len(set(told)) == len(told)
    living = {watching._target.instance.pid for watching in standing.values()}
    assert living.isdisjoint(polled.dead)
    assert polled.watch.counts()["polled"] == len(living)
