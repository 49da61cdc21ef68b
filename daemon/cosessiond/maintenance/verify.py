"""verify: backups are read from end to end, their restore is rehearsed, and they are held against their manifests.

The daemon has its own copies proved by it as well, before they get a name (`--attached --partial`): in a process of
their own they take nobody's turn, where in a thread each commit would wait for them at the interpreter's lock.

Rule: changes nothing, and needs no lock: a backup under its final name is only ever removed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any, Final

import msgspec

from cosession.errors import ConfigError, CosessionError, InvalidRequest
from cosessiond.maintenance.task import Act, Task
from cosessiond.store.backup import BackupDirectory, Found, is_name
from cosessiond.store.engine import StoreBroken
from cosessiond.store.proving import differs, prove
from cosessiond.store.verifying import Facts

#: Whoever serves is in more of a hurry.
NICE: Final = 10
_PARENT_GONE: Final = 141


def verify(task: Task) -> dict[str, Any]:
    """The named backups, all of them without a name; or the facts of one that is being made."""
    if task.flag("--attached"):
        threading.Thread(target=_end_with_input, daemon=True).start()
        with contextlib.suppress(OSError):
            os.nice(NICE)
    with contextlib.closing(BackupDirectory(task.state)) as directory:
        if task.flag("--partial"):
            return {"facts": msgspec.to_builtins(_partial(task, directory))}
        found = {each.name: each for each in directory.found()}
        for name in task.words:
            if name not in found:
                raise CosessionError(
                    f"cannot verify {name!r}: there is no such backup; see: cosession backup list", code="not_found"
                )
        names = task.words or list(found)
        return {"backups": [_verified(task, directory, found[name]) for name in names]}


def _end_with_input() -> None:
    """Whoever started this has gone when it can write no more."""
    while os.read(0, 1):
        pass
    os._exit(_PARENT_GONE)


def _partial(task: Task, directory: BackupDirectory) -> Facts:
    name = task.words[0] if len(task.words) == 1 else ""
    if not is_name(name):
        raise InvalidRequest("cannot verify: --partial takes the name of one backup")
    return prove(directory.partial(name), lambda done, total: task.progress(name, done, total))


def _verified(task: Task, directory: BackupDirectory, found: Found) -> dict[str, Any]:
    """What came of one; `wrong` is "" when all is well."""
    wrong = {"no_manifest": "its manifest is missing or damaged", "no_database": "its database is missing"}.get(
        found.state, ""
    )
    if found.manifest is not None:
        try:
            facts = prove(directory.database(found.name), lambda done, total: task.progress(found.name, done, total))
            wrong = differs(found.manifest, facts)
        except (StoreBroken, ConfigError) as error:
            wrong = str(error)
        except FileNotFoundError:
            wrong = "it was removed meanwhile"
        except OSError as error:
            raise CosessionError(f"cannot read {found.name}: {error.strerror}", code="io_error") from error
    return {"name": found.name, "wrong": wrong}


VERIFY: Final = Act(verify, words=(0, 1_000), options={"--partial": False, "--attached": False}, changes=False)
