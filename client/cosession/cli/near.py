"""Did you mean: the key nearest to one that is not there.

Rule: after a failure only, one question of one page, and its own failure says nothing: the exit code stays that of the
key that was not found.
"""

from __future__ import annotations

from cosession.cli.options import did_you_mean
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cosession.cli.line import Line

#: Keys under the same parent that are looked at.
KEYS_MAX = 200


def near_key(line: Line, params: dict[str, Any]) -> str:
    """`, did you mean ...?` for the nearest key under the parent of `params["key"]`, or nothing."""
    key: str = params["key"]
    parent = key[: key.rfind("/") + 1]
    asked = {"prefix": parent, "limit": KEYS_MAX, "keys_only": True, "project": params["project"]}
    try:
        entries = line.ask("range", {**asked, "at_revision": params.get("at_revision", 0)})["entries"]
    except CosessionError:
        return ""
    # Without the parent, which all have: a long one would make everything under it look alike.
    guess = did_you_mean(key[len(parent) :], [entry["key"][len(parent) :] for entry in entries])
    return guess.replace("did you mean ", f"did you mean {parent}") if guess else ""
