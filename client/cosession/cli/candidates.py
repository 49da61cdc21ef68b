"""What the daemon knows that a word could become: keys, sessions, projects.

Rule: a question asked while somebody types: it never starts a daemon, is over after 300 ms, brings 200 candidates at
most, and whatever goes wrong means that there are none.
"""

from __future__ import annotations

import os

from cosession import paths
from cosession.cli.line import Line
from cosession.cli.options import Given
from cosession.cli.scope import project_of_command
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: What the word becomes, and a word about it.
    Candidate = tuple[str, str]

WAIT_S = 0.3
CANDIDATES_MAX = 200
#: Behind every key that begins as the text before it: the last character there is.
_BEHIND = "\U0010ffff"


def keys(given: Given, prefix: str, is_word: Callable[[str], bool]) -> list[Candidate]:
    """Keys that begin with `prefix` and can stand as a word; where there are too many, how they go on up to a slash."""
    try:
        line = _line(given)
        project = project_of_command(given)
        page, more = _page(line, project, prefix, "")
        found = [key for key in page if is_word(key)]
        if more:
            found = [key for key in _segments(line, project, prefix, page) if is_word(key)]
            found += _others(line, project, prefix, found)
    except CosessionError:
        return []
    return [(key, "") for key in found]


def _segments(line: Line, project: str, prefix: str, page: list[str]) -> list[str]:
    """The first keys and directories right under `prefix`; a directory is passed over, however much is in it."""
    found: list[str] = []
    while page and len(found) < CANDIDATES_MAX:
        slash = page[0].find("/", len(prefix))
        name = page[0][: slash + 1] if slash >= 0 else page[0]
        found.append(name)
        is_directory = slash >= 0
        page = [key for key in page[1:] if not (is_directory and key.startswith(name))]
        if not page:
            page, _ = _page(line, project, prefix, name + (_BEHIND if is_directory else ""))
    return found


def _others(line: Line, project: str, prefix: str, found: list[str]) -> list[str]:
    """A key behind all that begin like `found`: a shell types what all candidates share, and these may be cut off."""
    if len(found) < CANDIDATES_MAX // 2:
        return []
    shared = found[0]
    while not found[-1].startswith(shared):
        shared = shared[:-1]
    return _page(line, project, prefix, shared + _BEHIND)[0][:1]


def _page(line: Line, project: str, prefix: str, after: str) -> tuple[list[str], bool]:
    """The next keys, and whether there are more."""
    params = {"prefix": prefix, "after": after, "limit": CANDIDATES_MAX, "project": project, "keys_only": True}
    page = line.ask("range", params)
    return [entry["key"] for entry in page["entries"]], page["more"]


def sessions(given: Given, *, ended: bool) -> list[Candidate]:
    """Names and ids of the living sessions, and of the `ended` ones where they will do."""
    found: dict[str, str] = {}
    for each in _sessions(given, ended=ended):
        about = " ".join(filter(None, (each["state"], each["agent"], each["project"])))
        found.setdefault(each["name"], f"{about} {each['id']}")
        found.setdefault(each["id"], f"{each['name']} {about}".strip())
    found.pop("", None)
    return list(found.items())


def projects(given: Given) -> list[Candidate]:
    """Every project that a session worked in, and the one of the working directory."""
    try:
        here = project_of_command(given)
    except CosessionError:
        here = ""
    found = dict.fromkeys([here, *(each["project"] for each in _sessions(given, ended=True))], "")
    found.pop("", None)
    return list(found.items())


def backups() -> list[Candidate]:
    """The backups that lie there, newest first, whether or not a daemon runs."""
    try:
        names = os.listdir(f"{paths.state_directory()}/backups")  # noqa: PTH208 - on the fast path
    except (OSError, CosessionError):
        return []
    return [(name.removesuffix(".db"), "") for name in sorted(names, reverse=True) if name.endswith(".db")]


def claims(given: Given) -> list[Candidate]:
    """The claims that stand, by id."""
    try:
        reply = _line(given).ask("claim.list", {"limit": CANDIDATES_MAX})
    except CosessionError:
        return []
    found = [each["claim"] for each in reply["claims"] if each["waits_s"] < 0]
    return [(each["id"], f"{each['token']} {' '.join(each['targets'])}"[:80]) for each in found]


def _sessions(given: Given, *, ended: bool) -> list[dict[str, Any]]:
    try:
        reply = _line(given).ask("session.list", {"all": ended, "limit": CANDIDATES_MAX})
    except CosessionError:
        return []
    found: list[dict[str, Any]] = reply["sessions"]
    return found


def _line(given: Given) -> Line:
    return Line(given, spawn=False, timeout_s=WAIT_S)
