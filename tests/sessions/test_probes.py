"""Looking at the world: what a look says of each kind of process, and of the disk."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from cosession.model import Instance
from cosessiond.clock import SystemClock
from cosessiond.sessions import procs
from cosessiond.sessions.probes import DiskProbe, probe_process
from sessions.processes import instance_of
from virtual import VirtualClock

linux = pytest.mark.skipif(not procs.LINUX, reason="/proc is of Linux")
HERE = Instance(boot_id="b", pid=10, start_time=100)


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


@pytest.mark.parametrize(("then", "now"), [("", "c"), ("b", "")])
@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (procs.ProcessFacts(10, 1, 100, zombie=False), "not_judgeable"),
        (procs.ProcessFacts(10, 1, 101, zombie=False), "reused"),
        (procs.ProcessFacts(10, 1, 100, zombie=True), "zombie"),
        (None, "gone"),
    ],
)
def test_a_boot_whose_id_could_not_be_read_ends_nobody_and_proves_nobody(then, now, found, kind):
    instance = replace(HERE, boot_id=then)
    assert probe_process(instance, VirtualClock(), boot=now, facts_of=lambda _: found).kind == kind


def test_without_any_boot_id_the_start_time_decides():
    found = procs.ProcessFacts(10, 1, 100, zombie=False)
    nameless = replace(HERE, boot_id="")
    assert probe_process(nameless, VirtualClock(), boot="", facts_of=lambda _: found).kind == "alive"


@linux
def test_a_program_that_puts_another_in_its_place_is_still_the_same_process():
    """exec changes neither the pid nor the start time: the session lives on."""
    with subprocess.Popen(["sh", "-c", "read line; exec sleep 60"], stdin=subprocess.PIPE) as process:
        instance = instance_of(process.pid)
        program = Path(f"/proc/{process.pid}/exe")
        before = program.readlink()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        deadline = time.monotonic() + 10
        while program.readlink() == before:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert probe_process(instance, SystemClock()).kind == "alive"
        process.kill()


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


@linux
def test_what_a_look_costs(sleeper):
    """A look is a few system calls: far below what 20 sessions a second could notice."""
    instance, clock = instance_of(sleeper.pid), SystemClock()
    began = time.perf_counter()
    for _ in range(200):
        assert probe_process(instance, clock).kind == "alive"
    assert (time.perf_counter() - began) / 200 < 0.002
