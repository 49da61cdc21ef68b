"""The act `export`: what a backup holds as JSON lines, for people and for other programs.

    {"export": 1, "epoch": ..., "revision": ..., "schema": ...}
    {"entry": {"space", "project", "key", "value", "version", "create_revision", "mod_revision", "session", "time",
               "ttl_s", "ephemeral"}}                        each live entry, by space, project and key
    {"version": {"space", "project", "key", "kind", "value", "version", "create_revision", "mod_revision", "session",
                 "time", "operation", "purged"}}             with --history, by entry, oldest first
    {"end": {"entries": ..., "versions": ...}}               without it the file is not whole

Rule: the same backup gives the same bytes; it is verified first, and nothing of it is held in memory.
"""

from __future__ import annotations

import os
from typing import IO, Any, Final

import msgspec
from msgspec import msgpack

from cosession.errors import InvalidRequest
from cosessiond.maintenance.choosing import choose
from cosessiond.maintenance.restore import told, verified
from cosessiond.maintenance.task import Act, Task
from cosessiond.store.contents import Contents
from cosessiond.store.engine import Entry, VersionRow
from cosessiond.store.hash import is_trace
from cosessiond.store.verifying import Facts

FORMAT: Final = 1
_encode = msgspec.json.encode


def run(task: Task) -> dict[str, Any]:
    """Write it to the open descriptor that the caller names; how much that was."""
    descriptor = task.options.get("--descriptor", "")
    if not descriptor.isdigit():
        raise InvalidRequest("cannot export: --descriptor takes the number of an open file to write to")
    chosen = choose(task.state, task.words, latest=task.flag("--latest"))
    facts = verified(task, chosen)
    with Contents(chosen.path) as contents, os.fdopen(int(descriptor), "wb") as out:
        written = _write(task, contents, facts, out)
    return {"backup": told(chosen, facts), **written}


def _write(task: Task, contents: Contents, facts: Facts, out: IO[bytes]) -> dict[str, int]:
    entries = versions = 0
    head = {"export": FORMAT, "epoch": facts.epoch, "revision": facts.revision, "schema": facts.schema}
    _line(out, head)
    for entry in contents.entries():
        _line(out, {"entry": entry_shown(entry)})
        entries += 1
        task.progress("writing entries", entries, facts.entries)
    if task.flag("--history"):
        for version in contents.versions():
            _line(out, {"version": version_shown(version)})
            versions += 1
            task.progress("writing versions", versions)
    _line(out, {"end": {"entries": entries, "versions": versions}})
    return {"entries": entries, "versions": versions}


def _line(out: IO[bytes], said: dict[str, Any]) -> None:
    out.write(_encode(said) + b"\n")


def entry_shown(entry: Entry) -> dict[str, Any]:
    """A live entry in the words of the protocol."""
    space, project, key = entry.id
    return {
        "space": space,
        "project": project,
        "key": key,
        "value": msgpack.decode(entry.value),
        "version": entry.version,
        "create_revision": entry.create_revision,
        "mod_revision": entry.mod_revision,
        "session": entry.session,
        "time": entry.time_ms / 1000,
        "ttl_s": entry.ttl_ms / 1000,
        "ephemeral": entry.owner,
    }


def version_shown(version: VersionRow) -> dict[str, Any]:
    """A kept version likewise; a deletion has no value, and one that was purged has none any more."""
    space, project, key = version.id
    has_value = version.kind == "put" and not is_trace(version.value)
    return {
        "space": space,
        "project": project,
        "key": key,
        "kind": version.kind,
        "value": msgpack.decode(version.value) if has_value else None,
        "version": version.version,
        "create_revision": version.create_revision,
        "mod_revision": version.mod_revision,
        "session": version.origin.session,
        "time": version.time_ms / 1000,
        "operation": version.origin.operation,
        "purged": is_trace(version.value),
    }


EXPORT: Final = Act(
    run, words=(0, 1), options={"--latest": False, "--history": False, "--descriptor": True}, changes=False
)
