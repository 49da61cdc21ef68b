"""Which backup is meant: by name, by path, or the newest; and what to say when it is not to be used.

Rule: a name leads into `backups/` and nowhere else; a path is the user's own and leads where it leads.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cosession.errors import CosessionError, InvalidRequest
from cosessiond.maintenance.files import size_of
from cosessiond.store import marks
from cosessiond.store.backup import DATABASE, DIRECTORY, BackupDirectory, Manifest, is_name
from cosessiond.store.migrations import SCHEMA


class Chosen(NamedTuple):
    """One backup: its name ("" for a file elsewhere), its file, and what is known of it."""

    name: str
    path: Path
    manifest: Manifest | None


def choose(state: Path, words: list[str], *, latest: bool) -> Chosen:
    """The backup that `words` names, or the newest valid one that this version can read.

    Raises CosessionError not_found when there is none, InvalidRequest for what is neither name nor path, damaged.
    """
    if bool(words) == latest:
        raise InvalidRequest("cannot choose a backup: give its name or path, or --latest; see: cosession backup list")
    backups = BackupDirectory(state)
    try:
        found = backups.found()
    finally:
        backups.close()
    if latest:
        valid = [each for each in found if each.state == "valid" and each.manifest and each.manifest.schema <= SCHEMA]
        if not valid:
            raise CosessionError(
                f"cannot choose a backup: there is no valid one in {backups.path}; name a file by its path, "
                "or see what can be saved: cosession rescue --dry-run",
                code="not_found",
            )
        return Chosen(valid[-1].name, backups.database(valid[-1].name), valid[-1].manifest)
    (word,) = words
    if "/" in word:
        return _elsewhere(Path(word))
    name = word.removesuffix(DATABASE)
    if not is_name(name):
        raise InvalidRequest(f"cannot use {word!r} as the name of a backup; see: cosession backup list")
    for each in found:
        if each.name == name and each.state != "no_database":
            return Chosen(name, backups.database(name), each.manifest)
    raise CosessionError(f"cannot find the backup {name}; see: cosession backup list", code="not_found")


def _elsewhere(path: Path) -> Chosen:
    if not path.is_file():
        raise CosessionError(f"cannot find a backup at {path}; see: cosession backup list", code="not_found")
    if size_of(Path(f"{path}-wal")):
        raise CosessionError(
            f"cannot use {path} as a backup: {path.name}-wal lies beside it, so it is not complete by itself; "
            "stop the daemon it belongs to and copy it then, or take one of its backups",
            code="invalid_params",
        )
    return Chosen("", path, None)


def refuse(chosen: Chosen, why: str, state: Path) -> CosessionError:
    """The error for a backup that is not what it should be, with those that may be."""
    backups = BackupDirectory(state)
    try:
        others = [each.name for each in backups.valid() if each.name != chosen.name]
    finally:
        backups.close()
    remedy = f"use another, the newest is {others[-1]}" if others else "there is no other, see: cosession rescue"
    return CosessionError(
        f"cannot use the backup {chosen.name or chosen.path}: {_without_remedy(why)}; {remedy}",
        code="damaged",
        data={"backup": chosen.name or str(chosen.path), "others": others[::-1]},
    )


def _without_remedy(why: str) -> str:
    return why.rpartition("; ")[0] or why


def known_revisions(state: Path) -> list[int]:
    """Every revision that anything beside the store tells of: a new epoch begins above them."""
    known: list[int] = []
    if (state / DIRECTORY).exists():  # it is not made for a look
        backups = BackupDirectory(state)
        try:
            known = [each.manifest.revision for each in backups.found() if each.manifest]
        finally:
            backups.close()
    mark = marks.read(state)
    return [*known, mark.revision, mark.claimed_revision] if isinstance(mark, marks.Mark) else known
