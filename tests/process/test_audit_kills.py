"""A kill leaves a batch and its audit record both or neither; and the judge of that sees a daemon that does not."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from cosession import sync
from cosession.errors import CosessionError
from cosession.messages.sessions import Close, Register
from durability.loop import ScriptedDaemon
from harness import private_home
from process.audit_sabotage import SABOTAGES

SCRIPT: Final = Path(__file__).with_name("audit_sabotage.py")
SESSIONS: Final = 5
KILLS: Final = 4
#: How long the daemon lives each time; a seeded bug is given several lives, one kill at the right moment shows it.
LIFE_S: Final = 0.25
ROUNDS: Final = 6

#: What the judge must say of each seeded bug, and nothing else.
CAUGHT: Final = {"record_first": "record without its batch", "batch_first": "batch without its record"}


class Report(NamedTuple):
    """What was found after the kills. `judged`: versions of session records, each of which wants its verdict."""

    violations: dict[str, int]
    judged: int


def killed(sabotage: str) -> Report:
    """Let sessions come and go while the daemon is killed again and again, then judge."""
    with private_home() as home:
        daemon = ScriptedDaemon(home, command=[sys.executable, str(SCRIPT), sabotage])
        with closing(daemon):
            daemon.start()
            _live_through(daemon)
            return judged(daemon)


def _live_through(daemon: ScriptedDaemon) -> None:
    stop = threading.Event()

    def live_and_die() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with suppress(CosessionError, OSError), sync.connect(daemon.socket, timeout_s=2) as client:
                client.call(Register(id=f"s{number % SESSIONS}"))
                client.call(Close(session=f"s{number % SESSIONS}"))

    thread = threading.Thread(target=live_and_die)
    thread.start()
    try:
        for _ in range(KILLS):
            stop.wait(LIFE_S)
            daemon.kill()
            daemon.start()
    finally:
        stop.set()
        thread.join()


def judged(daemon: ScriptedDaemon) -> Report:
    """Hold the verdicts against the versions of the session records, each by session, state and time."""
    written: Counter[tuple[str, str, float]] = Counter()
    with sync.connect(daemon.socket) as client:
        told = Counter((each.session, each.outcome, each.time) for each in client.audit(kind="verdict", limit=1_000))
        place = {"space": "$sessions", "project": "global"}
        records = [client.get(f"s{number}", **place) for number in range(SESSIONS)]
        left = sum(record.version for record in records if record)
        with client.watch("", **place, start_revision=1, epoch=client.status().epoch) as changes:
            while left:
                each = next(changes)
                written[each.key, each.value["state"], each.time] += 1
                left -= 1
    found = {
        "record without its batch": (told - written).total(),
        "batch without its record": (written - told).total(),
    }
    return Report({kind: count for kind, count in found.items() if count}, written.total())


def test_after_any_kill_there_is_one_verdict_for_each_version_of_a_session_record():
    report = killed("none")
    assert report.violations == {}
    assert report.judged > 8


@pytest.mark.parametrize("bug", CAUGHT)
def test_the_judge_catches_a_daemon_that_writes_the(bug):
    reports = []
    for _ in range(ROUNDS):
        reports.append(killed(bug))
        if set(reports[-1].violations) == {CAUGHT[bug]}:
            return
    pytest.fail(f"{bug} was not seen as {CAUGHT[bug]}: {reports}")


def test_every_seeded_bug_is_one_that_must_be_caught():
    assert set(CAUGHT) == set(SABOTAGES) - {"none"}
