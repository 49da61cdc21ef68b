"""A real daemon keeps its audit to a lower limit, records another user at the door, and rests while a call waits."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from cosession import sync
from cosession.model import AuditRecord
from harness import Daemon
from rawclient import Pack
from server.daemons import configure, eventually, rests

SESSIONS: Final = 250
BYTES_MAX: Final = 65_536
NOBODY: Final = 65_534


def recorded(daemon: Daemon) -> list[AuditRecord]:
    """All records, oldest first."""
    with sync.connect(daemon.socket) as client:
        found = client.audit(limit=1_000)
    return found[::-1]


def test_a_lower_limit_cuts_the_oldest_and_says_how_many(daemon):
    with Pack(daemon.socket) as peer:
        for index in range(SESSIONS):
            peer.post("session.register", id=f"{index:04}" + "s" * 96)
        assert {answer.kind for answer in peer.take(SESSIONS)} == {"reply"}
    before = recorded(daemon)
    configure(daemon.home, audit_bytes_max=BYTES_MAX)
    assert [each.id for each in recorded(daemon)] == [each.id for each in before], "it applies at a restart"
    daemon.restart()
    with sync.connect(daemon.socket) as client, client.follow_audit(after=0) as trail:
        eventually(lambda: client.status().audit_cut > 0, "the oldest are cut")
        cut = client.status().audit_cut
        first = trail.next(5.0)
        assert (first.id, trail.cut) == (cut + 1, cut), "a follower is told of the gap"
        last = client.audit(limit=1)[0].id
        kept = [first, *(trail.next(5.0) for _ in range(cut + 1, last))]
    lately = [each.operation for each in kept[len(before) - cut :]]
    assert [each for each in lately if each != "configure"] == ["stop", "backup", "start"]  # it may have seen the file
    assert kept[: len(before) - cut] == before[cut:], "what is kept is as it was"
    # Each has the same texts but for its facts and a number; so the bound says how many there are, but for a few.
    size = 64 + len("verdict") + 100 + 100 + len("session.register") + len("active")
    assert BYTES_MAX / 2 < size * len(kept) < BYTES_MAX
    with sync.connect(daemon.socket) as client:
        status = client.status()
    assert (status.audit_records, status.audit_cut) == (len(kept), cut)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_at_the_door_is_refused_and_recorded(daemon):
    for path, mode in ((daemon.home, 0o711), (daemon.socket.parent, 0o711), (daemon.socket, 0o666)):
        path.chmod(mode)  # as a careless user does; without it nobody else comes as far as the door
    code = (
        "import os, socket, sys\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])\n"
        "print(os.getpid(), s.makefile().readline())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(daemon.socket)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pid, _, said = done.stdout.partition(" ")
    assert "not_allowed" in said
    eventually(lambda: len(recorded(daemon)) > 1, "it is recorded")
    record = recorded(daemon)[-1]
    assert (record.kind, record.operation, record.outcome) == ("denial", "connect", "not_allowed")
    assert (record.instance, record.session, record.subject) == (pid, "", "")
    assert record.facts == {"uid": NOBODY}


@pytest.mark.skipif(sys.platform != "linux", reason="wake-ups are counted by /proc")
def test_a_daemon_rests_while_a_call_waits(daemon):
    with Pack(daemon.socket) as peer:
        last = peer.reply("audit", limit=1)["last"]
        peer.post("audit", after=last, wait_s=30.0)
        rests(daemon)
        assert peer.poll(0.01) is None, "it still waits"
