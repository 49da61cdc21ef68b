"""Looking at the world: what a look says of each kind of process, and how soon and how cheaply a death is noticed."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from cosession.model import Instance
from cosessiond.clock import LoopTimers, SystemClock
from cosessiond.sessions import probes, procs
from cosessiond.sessions.probes import POLL_S, POLL_SLICE, DiskProbe, ProcessWatch, probe_checkpoint, probe_process
from cosessiond.sessions.verdict import ProcessSignal
from cosessiond.store.leases import Deadlines
from sessions.processes import instance_of
from virtual import VirtualClock, World

linux = pytest.mark.skipif(not procs.LINUX, reason="pidfd is of Linux")
HERE = Instance(boot_id="b", pid=10, start_time=100)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


# One look.


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (procs.ProcessFacts(10, 1, 100, zombie=False), "alive"),
        (procs.ProcessFacts(10, 1, 101, zombie=False), "reused"),
        (procs.ProcessFacts(10, 1, 99, zombie=False), "reused"),
        (procs.ProcessFacts(10, 1, 100, zombie=True), "zombie"),
        (procs.ProcessFacts(10, 1, 101, zombie=True), "zombie"),
        (None, "gone"),
    ],
)
def test_what_a_look_says(found, kind):
    signal = probe_process(HERE, VirtualClock(), boot="b", facts_of=lambda _: found)
    assert signal.kind == kind
    assert "pid 10" in signal.evidence
    assert "start" in signal.evidence


def test_a_look_where_nobody_can_tell():
    def forbidden(_pid):
        raise procs.CannotJudge("process 10 exists but cannot be read")

    assert probe_process(HERE, VirtualClock(), boot="b", facts_of=forbidden).kind == "not_judgeable"
    foreign = replace(HERE, judgeable=False)
    assert probe_process(foreign, VirtualClock(), boot="other", facts_of=forbidden).kind == "not_judgeable"


def test_a_process_of_another_boot_is_over_without_looking():
    def never(_pid):
        raise AssertionError

    assert probe_process(HERE, VirtualClock(), boot="c", facts_of=never).kind == "rebooted"


def test_a_real_process_alive_zombie_gone_and_reused(sleeper):
    clock = SystemClock()
    instance = instance_of(sleeper.pid)
    alive = probe_process(instance, clock)
    assert alive.kind == "alive"
    assert 0 < alive.cost_ms < 100
    assert probe_process(replace(instance, start_time=instance.start_time - 1), clock).kind == "reused"
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert probe_process(instance, clock).kind == "zombie"
    sleeper.wait()
    assert probe_process(instance, clock).kind == "gone"


def test_free_space(tmp_path):
    clock = SystemClock()
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    roomy = DiskProbe(str(tmp_path), clock, enough_bytes=1)()
    assert roomy.enough
    assert roomy.free_bytes == pytest.approx(free, rel=0.1)
    full = DiskProbe(str(tmp_path), clock, enough_bytes=2**62)()
    assert not full.enough
    assert "MiB free" in full.evidence
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert DiskProbe(descriptor, clock, enough_bytes=1)().enough
    os.close(descriptor)
    closed = DiskProbe(descriptor, clock)()
    assert (closed.free_bytes, closed.enough) == (-1, False)
    assert "cannot be read" in closed.evidence


def test_no_checkpoints_yet():
    assert probe_checkpoint("s", VirtualClock()).kind == "none"


# Being told, by the kernel.


class Loop:
    """A `ProcessWatch` on a real asyncio loop, and what it told."""

    def __init__(self, **options):
        loop = asyncio.get_running_loop()
        self.clock = SystemClock()
        self.deadlines = Deadlines(self.clock, LoopTimers(loop))
        self.told = []
        self.more = asyncio.Event()
        self.watch = ProcessWatch(
            self.clock, self.deadlines, add_reader=loop.add_reader, remove_reader=loop.remove_reader, **options
        )

    def begin(self, instance, **options):
        return self.watch.watch(instance, self.tell, **options)

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
        assert loop.watch.counts() == {"pidfds": 1, "polled": 0}
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
        assert loop.watch.counts() == {"pidfds": 0, "polled": 0}
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
            assert loop.watch.counts()["pidfds"] == 1
            for watching in watches[:3]:
                watching.cancel()
                watching.cancel()
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
        assert loop.watch.counts()["pidfds"] == 1
        for watching in watches[::2]:
            watching.cancel()
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
    "options", [{"open_pidfd": partial(refuse, errno.EMFILE)}, {"pidfds_max": 0}, {"open_pidfd": None}]
)
def test_without_a_descriptor_to_spare_it_is_polled(sleeper, monkeypatch, options):
    monkeypatch.setattr(probes, "POLL_S", 0.05)

    async def run():
        loop = Loop(**options)
        before = descriptors()
        loop.begin(instance_of(sleeper.pid))
        assert loop.watch.counts() == {"pidfds": 0, "polled": 1}
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
        watch = ProcessWatch(
            clock, deadlines, add_reader=partial(refuse, errno.ENOSPC), remove_reader=loop.remove_reader
        )
        watching = watch.watch(instance_of(sleeper.pid), print)
        assert watch.counts() == {"pidfds": 0, "polled": 1}
        assert descriptors() == before
        watching.cancel()
        assert watch.counts() == {"pidfds": 0, "polled": 0}
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
        self.watch = ProcessWatch(
            self.world.clock, self.deadlines, add_reader=print, remove_reader=print, open_pidfd=None, look=self.look
        )

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
    for watching in watches:
        watching.cancel()
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


@linux
def test_what_watching_costs(sleeper):
    """A look is a few system calls: far below what 20 sessions a second could notice."""
    instance, clock = instance_of(sleeper.pid), SystemClock()
    began = time.perf_counter()
    for _ in range(200):
        assert probe_process(instance, clock).kind == "alive"
    assert (time.perf_counter() - began) / 200 < 0.002
    assert Path("/proc/self/fd").exists()
