"""Backups under kill -9: a daemon that is killed again and again while it makes them, and what lies there afterwards.

    python tests/durability/backupkill.py --count 300

Each cycle asks for a backup, writes on meanwhile, and kills the daemon a random while later. Whatever has a final name
then must be whole, verified and a prefix of the log; after the next start nothing half made may be left.

Rule: everything random comes from the seed; what is found wrong is returned as sentences.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msgspec import Struct

from cosession.errors import ConfigError
from cosessiond.store.backup import BackupDirectory
from cosessiond.store.engine import StoreBroken
from cosessiond.store.proving import differs, prove
from cosessiond.store.sqlite import SqliteEngine
from harness import Daemon, private_home
from rawclient import Ended, Pack

#: What the store holds: more than is proved within the daemon itself, so that the process for that is killed as well.
ENTRIES = 300
VALUE = "x" * 4_000


class Found(Struct):
    """What came of a loop: backups published in all, those found wrong, and how many kills left a part behind."""

    cycles: int = 0
    published: int = 0
    parts: int = 0
    wrong: list[str] = []


def loop(home: Path, count: int, seed: int) -> Found:
    """So many kills."""
    draw, found, seen = random.Random(seed), Found(), set[str]()
    daemon = Daemon(home)
    with Pack(daemon.start().socket) as peer:
        for number in range(ENTRIES):
            peer.reply("put", key=f"k{number}", value=VALUE)
    daemon.kill()
    acked = ENTRIES
    for _ in range(count):
        daemon.start()
        found.wrong += [f"a start has left {name}" for name in parts(home)]
        with contextlib.suppress(OSError, Ended), Pack(daemon.socket) as peer:
            peer.reply("backup.now", wait_s=0)
            for number in range(draw.randrange(0, 200)):
                acked = max(acked, peer.reply("put", key=f"k{number}", value=number)["revision"])
        daemon.kill()
        found.cycles += 1
        found.parts += bool(parts(home))
        found.wrong += judge(home, acked, seen)
    found.published = len(seen)
    return found


def parts(home: Path) -> list[str]:
    """What is there without a final name."""
    return [path.name for path in (home / "state" / "backups").iterdir() if "partial" in path.name]


def judge(home: Path, acked: int, seen: set[str]) -> list[str]:
    """What is wrong with the backups that lie there and were not looked at before."""
    wrong = []
    with contextlib.closing(BackupDirectory(home / "state")) as directory:
        for each in directory.found():
            if each.state == "no_database" or each.name in seen:
                continue  # a manifest alone is what a kill between the two names leaves
            seen.add(each.name)
            if each.manifest is None or each.state != "valid":
                wrong.append(f"{each.name} has its name and is {each.state}")
                continue
            path = directory.database(each.name)
            try:
                facts = prove(path)
            except (StoreBroken, ConfigError) as error:
                wrong.append(f"{each.name}: {error}")
                continue
            if said := differs(each.manifest, facts):
                wrong.append(f"{each.name}: {said}")
            entries = list(SqliteEngine.rehearse(path).entries())
            if len(entries) != ENTRIES or max(entry.mod_revision for entry in entries) > facts.revision:
                wrong.append(f"{each.name}: not what the log says at {facts.revision}")
            if facts.revision < ENTRIES:
                wrong.append(f"{each.name}: ends at {facts.revision}, acknowledged was {acked}")
    return wrong


def main() -> int:
    """The long form: prints what was reached."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    with private_home() as home:
        found = loop(home, given.count, given.seed)
    print(
        f"seed {given.seed}: {found.cycles} kills, {found.parts} left a part, {found.published} backups published, "
        f"{len(found.wrong)} invalid"
    )
    for line in found.wrong[:20]:
        print(line)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    os.environ.pop("COSESSION_HOME", None)
    sys.exit(main())
