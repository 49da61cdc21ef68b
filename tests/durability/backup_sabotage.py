"""A daemon whose backups have one seeded bug, for the judge of `backupkill` to see: `python backup_sabotage.py NAME`.

Each patches the installed daemon in its own process, before it starts, as those of `durability.sabotage` do.

Rule: `damaged` and `hung` are no bugs of the daemon but of the disk, and a daemon without a bug copes with them: it
publishes nothing, and ends when it is told to.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from cosessiond import app
from cosessiond.__main__ import main as serve
from cosessiond.backups import vault
from cosessiond.backups.vault import Copied, Vault
from cosessiond.process.durable import sync_directory
from cosessiond.store import copying
from cosessiond.store.backup import DATABASE, PARTIAL, BackupDirectory, Manifest
from cosessiond.store.copying import Copying
from cosessiond.store.engine import StoreBroken
from cosessiond.store.migrations import SCHEMA

#: What `backupkill` fills its values with: a byte of it is of a row, and not of a page that is free.
_FILLING: Final = b"x" * 64
#: Between the two names, so that a kill hits it soon.
BETWEEN_S: Final = 0.05
HUNG_S: Final = 3600.0


def none() -> None:
    """No bug."""


def damaged() -> None:
    """A byte of each copy is another when it has been copied."""
    finish = Copying.finish

    def finish_badly(self: Copying) -> None:
        finish(self)
        with self._path.open("r+b") as file:
            file.seek(file.read().index(_FILLING))
            file.write(b"y")

    Copying.finish = finish_badly  # type: ignore[method-assign]


def hung() -> None:
    """The last sync of a copy does not come back."""
    copying.sync = lambda _: time.sleep(HUNG_S)  # type: ignore[assignment]
    app.DRAIN_S, vault.CLOSE_S = 1.0, 0.2  # type: ignore[misc]


def named_before_proved() -> None:
    """P10: a copy gets its name first, and is proved then; what is damaged is dropped again."""
    damaged()

    def publish(self: Vault, copied: Copied, tell: Any) -> str:
        copied.copy.finish()
        content = self.directory.partial(copied.partial).read_bytes()
        stood = copied.position
        manifest = Manifest(
            epoch=stood.epoch,
            revision=stood.revision,
            entries=copied.entries,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            schema=SCHEMA,
            version=self._version,
            time_ms=copied.time_ms,
            reason=copied.reason,
            verified=True,
            chain_hash=stood.chain_hash.hex(),
            state_hash=stood.state_hash.hex(),
        )
        name = self.directory.free_name(stood.revision, copied.time_ms, copied.reason)
        self.directory.publish(copied.partial, name, manifest)
        if wrong := self._prover.wrong(name, tell):
            self.directory.drop(name)
            raise StoreBroken(wrong)
        return name

    Vault._publish = publish  # type: ignore[method-assign]


def named_before_its_manifest() -> None:
    """P10: the database gets its final name, and what it is called by is written then."""

    def publish(self: BackupDirectory, partial: str, name: str, manifest: Manifest) -> None:
        place = self.descriptor
        os.rename(f"{partial}{PARTIAL}", f"{name}{DATABASE}", src_dir_fd=place, dst_dir_fd=place)
        time.sleep(BETWEEN_S)
        self.write_manifest(name, manifest)
        sync_directory(place)

    BackupDirectory.publish = publish  # type: ignore[method-assign]


#: By name; what the judge must say stands in test_backupkill.py.
SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    each.__name__: each for each in (none, damaged, hung, named_before_proved, named_before_its_manifest)
}


if __name__ == "__main__":
    os.umask(0o077)
    SABOTAGES[sys.argv[1]]()
    sys.exit(serve([]))
