"""`cosession put --merge three-way` once the entry is no longer as expected; `exchange.merging` for the command line.

Rule: loaded only when there is something to merge; what stands is taken anew in every round, the base is not.
"""

from __future__ import annotations

from cosession.cli.contended import write_in_rounds
from cosession.cli.past import value_at
from cosession.differences import ABSENT
from cosession.errors import Compacted, Conflict
from cosession.threeway import merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cosession.cli.line import Line
    from cosession.cli.options import Given


def merged_put(given: Given, line: Line, params: dict[str, Any], mine: Any, met: Conflict) -> dict[str, Any]:
    """The reply to the put of the merged value, with that `value`; raises Conflict with `paths`."""
    key = params["key"]
    base = _base(line, {"key": key, "project": params["project"]}, params["expect_revision"], met)

    def over(entry: dict[str, Any] | None) -> Any:
        value, paths = merged(base, mine, entry["value"] if entry else ABSENT)
        if value is ABSENT:
            paths = [""]
        if paths:
            named = ", ".join(path or "the whole value" for path in paths)
            raise Conflict(
                f"cannot merge into {key!r}: others changed {named} as well; look at what stands and decide anew",
                data={"current": entry, "paths": paths},
            )
        return value

    value, reply = write_in_rounds(given, line, params, over, met)
    return {**reply, "value": value}


def _base(line: Line, at: dict[str, Any], revision: int, met: Conflict) -> Any:
    if not revision:
        return ABSENT
    try:
        return value_at(line, at, revision)
    except Compacted:
        raise Conflict(
            f"cannot merge into {at['key']!r}: its version of revision {revision} is no longer kept, so nobody can "
            "tell what you changed; read it again and decide anew",
            data=met.data,
        ) from None
