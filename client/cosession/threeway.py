"""Two changes of one JSON value made into one: `mine` and `theirs`, both made from `base`.

A member of an object that one side changed is taken from that side; one that both changed the same is taken once;
objects that both changed are merged member by member. A deletion against an unchanged member is a deletion, a deletion
against a change is a conflict. Lists and scalars are atoms: two changes of one are a conflict. Where there was nothing,
two objects are merged as if there had been an empty one.

Rule: pure, over JSON data; light, since the command line uses it too. Nothing is in the result that no side had.
"""

from __future__ import annotations

from cosession.differences import ABSENT, member, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def merged(base: Any, mine: Any, theirs: Any) -> tuple[Any, list[str]]:
    """The merged value and the JSON pointers of the conflicts, in the order of the members; any may be ABSENT.

    At a conflict the value is `mine`; the caller decides whether that may stand.
    """
    conflicts: list[str] = []
    return _merged("", base, mine, theirs, conflicts), conflicts


def _merged(path: str, base: Any, mine: Any, theirs: Any, conflicts: list[str]) -> Any:
    if same(mine, theirs) or same(theirs, base):
        return mine
    if same(mine, base):
        return theirs
    if isinstance(mine, dict) and isinstance(theirs, dict) and (base is ABSENT or isinstance(base, dict)):
        before: dict[str, Any] = base if isinstance(base, dict) else {}
        found = {}
        for name in [*theirs, *(name for name in mine if name not in theirs)]:
            was, ours, other = before.get(name, ABSENT), mine.get(name, ABSENT), theirs.get(name, ABSENT)
            value = _merged(member(path, name), was, ours, other, conflicts)
            if value is not ABSENT:
                found[name] = value
        return found
    conflicts.append(path)
    return mine
