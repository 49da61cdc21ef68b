"""What is made of kept versions: differences and attributions, and which version stands for a revision.

Rule: pure; from what the daemon answered to what the caller gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cosession.blame import UNKNOWN, attributed, below, kind_of
from cosession.differences import ABSENT, difference
from cosession.errors import Compacted, CosessionError
from cosession.model import Attribution, Difference, Version

#: An entry, the revision it was asked for at (0: now), and its value or ABSENT.
Side = tuple[str, int, Any]


def last_change(key: str, newest: Sequence[Version]) -> tuple[Any, Any]:
    """The values before and after the newest of these versions, of which there are two where two are kept."""
    if not newest:
        raise _absent(key)
    after, before = newest[0], newest[1] if len(newest) > 1 else None
    if before is None and after.version > 1:
        raise Compacted(f"cannot compare {key!r} with the version before: it is no longer kept")
    return value_of(before) if before else ABSENT, value_of(after)


def compared(one: Side, other: Side) -> tuple[Any, Any]:
    """The two values; raises not_found where there is nothing to compare."""
    for key, revision, value in (one, other):
        if value is ABSENT and (not revision or (one[2] is ABSENT and other[2] is ABSENT)):
            raise _absent(key, revision)
    return one[2], other[2]


def value_of(version: Version) -> Any:
    """The value of a version, ABSENT for an end. Raises Compacted where it was purged."""
    if version.purged:
        raise Compacted(
            f"cannot compare with revision {version.mod_revision}: its value was purged; choose another revision",
            data={"purged_revision": version.mod_revision},
        )
    return version.value if version.kind == "put" else ABSENT


def value_kept(newest_by_then: Sequence[Version], gone: Compacted) -> Any:
    """The value at a revision below the log window, from the newest version by then; raises `gone` without one."""
    if not newest_by_then:
        raise gone
    return value_of(newest_by_then[0])


def differences(old: Any, new: Any) -> list[Difference]:
    """`difference` as the library hands it out."""
    return [Difference(op=op, path=path, old=before, new=after) for op, path, before, after in difference(old, new)]


def attributions(key: str, path: str, versions: Sequence[Version]) -> list[Attribution]:
    """Who wrote what of the newest of `versions`, below `path`; raises not_found when there is nothing."""
    leaves = attributed(
        [kind_of(version.kind, purged=version.purged) for version in versions],
        [version.value for version in versions],
        [version.version for version in versions],
    )
    if not leaves:
        raise _absent(key)
    found = [_attribution(*leaf, versions) for leaf in leaves if below(leaf[0], path)]
    if not found:
        raise CosessionError(
            f"cannot find {path!r} in {key!r}: no part of its value is there; it is a JSON pointer like /a/b",
            code="not_found",
            data={"key": key, "path": path},
        )
    return found


def _attribution(path: str, value: Any, index: int, versions: Sequence[Version]) -> Attribution:
    oldest = versions[-1].mod_revision
    if index == UNKNOWN:
        return Attribution(path=path, value=value, oldest_revision=oldest)
    version = versions[index]
    return Attribution(
        path=path,
        value=value,
        mod_revision=version.mod_revision,
        session=version.session,
        instance=version.instance,
        operation=version.operation,
        request_id=version.request_id,
        time=version.time,
        oldest_revision=oldest,
    )


def _absent(key: str, revision: int = 0) -> CosessionError:
    when = f" at revision {revision}" if revision else ""
    return CosessionError(
        f"cannot find {key!r}: there is no such entry{when}; see: cosession ls",
        code="not_found",
        data={"key": key},
    )
