"""Install and uninstall: what would be written, writing it, taking exactly that away again.

The manifest is written before the first file and removed after the last, so that what was broken off at any moment can
be finished by either.

Rule: a file that is not in the manifest is not ours; a file of ours that was changed since is not removed unasked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct, structs

from cosession.errors import ConfigError, CosessionError
from cosession.service import manifest as manifests
from cosession.service.manifest import Manifest, Written
from cosession.service.place import Place
from cosession.service.supervisor import Supervisor

_FILE_MODE: Final = 0o644
_BYTES_MAX: Final = 64 * 1024

Change = Literal["new", "changed", "same"]


class Plan(Struct, frozen=True, kw_only=True):
    """What an installation would write, by path, and what of the one before it would go."""

    manager: Literal["systemd", "launchd"]
    files: dict[str, bytes]
    changes: dict[str, Change]
    obsolete: tuple[str, ...]
    steps: tuple[str, ...]
    confined: bool

    @property
    def is_needed(self) -> bool:
        """Whether anything would be another afterwards."""
        return bool(self.obsolete) or set(self.changes.values()) != {"same"}


def plan(place: Place, supervisor: Supervisor, *, confined: bool, force: bool) -> Plan:
    """What `install` would do. Raises ConfigError when something of somebody else is in the way and not `force`."""
    files = supervisor.files(place, confined=confined)
    before = None
    with contextlib.suppress(ConfigError):  # a damaged manifest is written anew
        before = manifests.read(place.state)
    ours = {each.path for each in before.files} if before else set()
    changes: dict[str, Change] = {}
    for path, content in files.items():
        found = _content(path)
        changes[path] = "new" if found is None else "same" if found == content else "changed"
        if changes[path] == "changed" and path not in ours and not force:
            raise ConfigError(
                f"cannot install: {path} is there and was not written by `cosession service install`; "
                "move it away, or replace it with --force",
                data={"path": path},
            )
    return Plan(
        manager=supervisor.kind,
        files=files,
        changes=changes,
        obsolete=tuple(sorted(path for path in ours - set(files) if not Path(path).is_symlink())),
        steps=tuple(supervisor.steps()),
        confined=confined,
    )


def write(plan: Plan, place: Place) -> Manifest:
    """Write what is planned; the manifest first."""
    before = None
    with contextlib.suppress(ConfigError):
        before = manifests.read(place.state)
    made = dict.fromkeys(before.directories) if before else {}
    made.update(dict.fromkeys(_missing_directories([*plan.files])))
    manifest = Manifest(
        manager=plan.manager,
        version=place.version,
        interpreter=place.interpreter,
        socket=place.socket,
        files=tuple(manifests.written(Path(path), content) for path, content in plan.files.items()),
        directories=tuple(made),
        confined=plan.confined,
    )
    manifests.write(place.state, manifest)
    for directory in made:
        Path(directory).mkdir(mode=0o755, exist_ok=True)
    for path, content in plan.files.items():
        manifests.replace(Path(path), content, _FILE_MODE)
    for path in plan.obsolete:
        Path(path).unlink(missing_ok=True)
    return manifest


def note_links(place: Place, manifest: Manifest, links: Sequence[str]) -> Manifest:
    """The links that the service manager made for us are ours as well."""
    found = tuple(Written(path=link, target=os.readlink(link)) for link in links)  # noqa: PTH115 - as text
    made = {os.path.dirname(link): None for link in links}  # noqa: PTH120
    directories = dict.fromkeys((*manifest.directories, *made))
    noted = structs.replace(manifest, files=(*manifest.files, *found), directories=tuple(directories))
    manifests.write(place.state, noted)
    return noted


def changed(manifest: Manifest) -> list[str]:
    """The files of a manifest that are not as they were written, or have gone."""
    return [each.path for each in manifest.files if manifests.state_of(each) != "as written"]


def refuse_changed(manifest: Manifest) -> None:
    """Raises CosessionError when a file that would be removed is not as it was written."""
    found = [each.path for each in manifest.files if manifests.state_of(each) == "changed"]
    if found:
        raise ConfigError(
            f"cannot uninstall: {', '.join(found)} was changed after it was written; keep a copy, then use --force",
            data={"changed": found},
        )


def remove(manifest: Manifest, place: Place) -> list[str]:
    """Remove exactly what the manifest lists, and the directories that were made for it when they are empty; what was
    removed. Raises CosessionError for what is left.
    """
    removed: list[str] = []
    for each in manifest.files:
        with contextlib.suppress(FileNotFoundError):
            Path(each.path).unlink()
            removed.append(each.path)
    for directory in sorted(manifest.directories, key=len, reverse=True):
        with contextlib.suppress(OSError):  # not empty: somebody else has something there
            Path(directory).rmdir()
            removed.append(directory)
    left = [each.path for each in manifest.files if os.path.lexists(each.path)]
    if left:
        raise CosessionError(f"cannot uninstall: {', '.join(left)} is still there; remove it by hand", code="io_error")
    manifests.remove(place.state)
    return removed


def _missing_directories(files: Sequence[str]) -> list[str]:
    """The directories that must be made for these files, outermost first."""
    found: dict[str, None] = {}
    for file in files:
        missing = [parent for parent in Path(file).parents if not parent.exists()]
        found.update((str(each), None) for each in reversed(missing))
    return list(found)


def _content(path: str) -> bytes | None:
    """What a file holds, None when there is none."""
    try:
        with Path(path).open("rb") as file:
            return file.read(_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; move it away", data={"path": path}) from None
