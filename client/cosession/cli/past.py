"""The value of an entry as it was, for the verbs that compare.

Rule: what the log window has passed is looked for in the history, where the newest versions are always kept.
"""

from __future__ import annotations

from cosession.differences import ABSENT
from cosession.errors import Compacted, CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cosession.cli.line import Line


def value_at(line: Line, at: dict[str, Any], revision: int) -> Any:
    """The value at a revision (0: now), ABSENT where there was none. Raises Compacted when it is no longer kept."""
    try:
        entry = line.ask("get", {**at, "at_revision": revision})["entry"]
    except Compacted:
        kept = line.ask("history", {**at, "limit": 1, "before_revision": revision + 1})["versions"]
        if not kept:
            raise
        return value_of(kept[0])
    return entry["value"] if entry else ABSENT


def value_of(version: dict[str, Any]) -> Any:
    """The value of a version, ABSENT for an end. Raises Compacted where it was purged."""
    if version.get("purged"):
        revision = version["mod_revision"]
        raise Compacted(
            f"cannot compare with revision {revision}: its value was purged; choose another revision",
            data={"purged_revision": revision},
        )
    return version["value"] if version["kind"] == "put" else ABSENT


def no_such_entry(verb: str, line: Line, at: dict[str, Any], revision: int = 0) -> CosessionError:
    """The error for an entry that is not there, with the nearest that is."""
    from cosession.cli.near import near_key

    guess = near_key(line, at)
    when = f" at revision {revision}" if revision else ""
    return CosessionError(
        f"cannot {verb} {at['key']!r}: project {at['project']!r} has none of it{when}{guess}; see: cosession ls",
        code="not_found",
        data={"key": at["key"], "project": at["project"]},
    )
