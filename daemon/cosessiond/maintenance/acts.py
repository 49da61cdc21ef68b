"""The table of acts, by the word that calls for each; a module is loaded when its act is called for.

Rule: a row for each module of an act, and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cosessiond.maintenance.task import Act

#: Where each act is (`module:NAME`) and what `cosessiond --help` says of it.
ACTS: Final[dict[str, tuple[str, str]]] = {
    "salvage": ("cosessiond.maintenance.salvage:SALVAGE", "what can be proved of a damaged store, as a new one"),
    "verify": ("cosessiond.maintenance.verify:VERIFY", "are the backups whole: all of them, or the named"),
    "inspect": ("cosessiond.maintenance.restore:INSPECT", "what a backup holds, by name or path"),
    "export": ("cosessiond.maintenance.export:EXPORT", "what a backup holds, as JSON lines"),
    "rescue": ("cosessiond.maintenance.rescue:RESCUE", "the newest store that is whole into place"),
    "restore": ("cosessiond.maintenance.restore:RESTORE", "put a backup in the place of the store"),
}


def load(name: str) -> Act:
    """The act called for by `name`."""
    module, _, attribute = ACTS[name][0].partition(":")
    __import__(module)
    act: Act = getattr(sys.modules[module], attribute)
    return act


def run(name: str, arguments: Sequence[str]) -> int:
    """Run it to the end; returns the exit code."""
    from cosessiond.maintenance import frame

    return frame.main(name, load(name), arguments)
