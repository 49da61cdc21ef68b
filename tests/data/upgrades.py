"""A migration broken off at a chosen system call, and what must be true after the next start.

Rule: the content is compared whole, over the socket, with what the fixture is known to hold; nothing is sampled there.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Final

from cosessiond.maintenance import swap
from cosessiond.store.backup import BackupDirectory
from cosessiond.store.migrations import SCHEMA
from cosessiond.store.proving import prove
from data import states
from durability.link import open_when_ready
from durability.loop import ScriptedDaemon
from harness import private_home
from process import killing
from process.starting import environment

#: What a released version may have left: each is a migration, and one killed has its newest writes in the log alone.
OLDER: Final = [each for each in states.STORES if each.schema < SCHEMA]
COMMAND: Final = (sys.executable, "-m", "cosessiond")
#: From here on the migration is over, and what follows is every start's.
SERVES: Final = "bind("


def content(socket: Path, expected: states.Expected, store: states.Committed) -> list[str]:
    """What a served store holds that it should not, or has not that it should have."""
    wrong = []
    with open_when_ready(socket) as link:
        hello = link.hello(epoch=expected.epoch, seen_revision=expected.revision)
        if hello.epoch != expected.epoch:
            wrong.append(f"it is in epoch {hello.epoch}")
        if states.listed(link, expected.revision) != expected.entries:
            wrong.append("the entries are others")
        histories = states.histories(link, expected.revision, expected.log)
        audit = states.audited(link)[: len(expected.audit)]
    found, wanted = states.alike(store, histories, expected.histories)
    if found != wanted:
        wrong.append("the histories are others")
    if audit != expected.audit:
        wrong.append("the audit is another")
    if states.logged(socket, expected.revision, like=expected.log) != expected.log:
        wrong.append("the log is another")
    return wrong


def kept(state: Path, expected: states.Expected, schema: int) -> list[str]:
    """What is wrong with the backups: there must be one before the migration, and whatever has a name must be whole."""
    backups = BackupDirectory(state)
    wrong, named = [], []
    try:
        for each in backups.found():
            if each.state != "valid" or each.manifest is None:
                wrong.append(f"{each.name} is {each.state}")
                continue
            facts = prove(backups.database(each.name))
            if each.manifest.reason == "migration":
                named.append(each.name)
                if (facts.schema, facts.epoch, facts.revision) != (schema, expected.epoch, expected.revision):
                    wrong.append(f"{each.name} holds revision {facts.revision} of schema {facts.schema}")
                if facts.state_hash != expected.state_hash and not expected.settled:
                    wrong.append(f"{each.name} has another state hash")
    finally:
        backups.close()
    if len(named) != 1:
        wrong.append(f"there are {len(named)} backups of before the migration: {named}")
    left = {path.name for path in state.iterdir()} & {swap.STAGED, swap.JOURNAL}
    return wrong + [f"{name} is left over" for name in left]


@cache
def migrating_points(store: states.Committed) -> list[killing.Point]:
    """The system calls by which a start that migrates changes something, until it serves."""
    with private_home() as home:
        states.copy_store(store.place, home / "state")
        return killing.points(COMMAND, environment(home), home, until=SERVES)


def killed(store: states.Committed, point: killing.Point) -> tuple[bool, list[str]]:
    """Kill a migrating start there; whether it came so far, and what is wrong with the store after the next start."""
    expected = store.load()
    with private_home() as home:
        states.copy_store(store.place, home / "state")
        is_killed = killing.killed(COMMAND, environment(home), point)
        daemon = ScriptedDaemon(home, forked=True)
        try:
            daemon.start()
            wrong = content(daemon.socket, expected, store)
            wrong += kept(home / "state", expected, store.schema)
        except AssertionError as error:  # it does not start
            wrong = [str(error)]
        finally:
            if daemon.running:
                daemon.kill()
    return is_killed, wrong
