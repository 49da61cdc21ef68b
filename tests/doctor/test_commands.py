"""Foreign programs: their time and their output are bounded, and nothing of them is left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cosession import commands
from cosession.errors import CosessionError, TimedOut
from server.daemons import eventually


def test_what_a_program_says_and_how_it_ends():
    done = commands.run(("sh", "-c", "echo out; echo err >&2; exit 3"), timeout_s=60.0)
    assert done == (3, "out\n", "err\n")
    assert commands.run(("sh", "-c", "kill -9 $$"), timeout_s=60.0).code == -9


def test_a_program_that_never_ends_is_killed_with_all_its_children(tmp_path):
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! >> {pids}; echo $$ >> {pids}; trap '' TERM INT; wait; sleep 600"
    with pytest.raises(TimedOut, match=r"did not end within 0.5 s and was killed"):
        commands.run(("sh", "-c", script), timeout_s=0.5)
    for pid in pids.read_text().split():
        eventually(lambda pid=pid: not alive(pid), f"pid {pid} ends")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False


def test_a_child_that_keeps_the_output_open_holds_up_nobody():
    began = time.monotonic()
    assert commands.run(("sh", "-c", "sleep 600 & echo done"), timeout_s=60.0).out == "done\n"
    assert time.monotonic() - began < 30


def test_output_without_end_is_cut_and_read_on():
    done = commands.run(("sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; exit 7"), timeout_s=60.0)
    assert len(done.out) == commands.SAID_BYTES_MAX
    assert done.code == 7


def test_what_cannot_be_started_is_named(tmp_path):
    with pytest.raises(CosessionError, match="there is no such program"):
        commands.run(("/nonexistent/program",), timeout_s=1.0)
    (tmp_path / "plain").touch()
    with pytest.raises(CosessionError, match="see to its owner and mode"):
        commands.run((str(tmp_path / "plain"),), timeout_s=1.0)
