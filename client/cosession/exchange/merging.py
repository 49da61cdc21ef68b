"""A put that is merged: what the caller changed since a revision, over whatever stands now.

Rule: pure. The base and the caller's value stay what they are; what stands is taken anew in every round.
"""

from __future__ import annotations

from typing import Any

from msgspec import msgpack

from cosession.differences import ABSENT
from cosession.errors import Conflict, InvalidRequest
from cosession.exchange.verbs import encoded
from cosession.model import Entry
from cosession.threeway import merged

THREE_WAY = "three-way"


class Merging:
    """One put with `merge`. `base`: the value that the caller changed, ABSENT where it was to be the first."""

    def __init__(self, key: str, base: Any, value: Any) -> None:
        self._key = key
        self._base = base
        self._mine = msgpack.decode(encoded(value))  # as JSON data, like the others

    def over(self, entry: Entry | None) -> Any:
        """The value to write over what stands; raises Conflict, with `paths`, for what both sides changed."""
        value, paths = merged(self._base, self._mine, entry.value if entry else ABSENT)
        if value is ABSENT:
            paths = [""]
        if paths:
            raise Conflict(
                f"cannot merge into {self._key!r}: others changed {_named(paths)} as well; look at what stands and "
                "decide anew",
                data={"current": entry, "paths": paths},
            )
        return value


def without_base(key: str, revision: int, met: Conflict) -> Conflict:
    """The conflict of a merge whose base is no longer kept."""
    return Conflict(
        f"cannot merge into {key!r}: its version of revision {revision} is no longer kept, so nobody can tell what you "
        "changed; read it again and decide anew",
        data=met.data,
    )


def check_merge(merge: str, expect_revision: int | None, request_id: str) -> None:
    """Raises InvalidRequest for what does not go together."""
    if merge != THREE_WAY:
        raise InvalidRequest(f"cannot merge {merge!r}: there is {THREE_WAY!r}")
    if expect_revision is None or request_id:
        raise InvalidRequest(
            "cannot merge without expect_revision, the revision that you changed, or with a request_id; a merge is "
            "several requests"
        )


def _named(paths: list[str]) -> str:
    shown = ", ".join(path or "the whole value" for path in paths[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5} more"  # noqa: PLR2004
