"""One question to a service manager through its command.

Rule: it finds the service manager of this user, also where no login has said where that is, and it has an end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from cosession import commands
from cosession.errors import TimedOut

#: What a service manager answers at once when it answers at all.
QUICK_S: Final = 10.0


class Answer(Struct, frozen=True):
    """How a command ended and what it said."""

    code: int
    output: str
    error: str

    @property
    def said(self) -> str:
        """The first line of the error, else of the output, for a message: what follows is advice."""
        lines = (self.error.strip() or self.output.strip()).splitlines()
        return " ".join(lines[0].split()) if lines else f"it ended with {self.code}"


def ask(*command: str, timeout_s: float = QUICK_S, env: Mapping[str, str] = os.environ) -> Answer:
    """Run `command` and hear it out. Raises TimedOut, and CosessionError `not_found` when there is no such command."""
    try:
        done = commands.run(command, timeout_s=timeout_s, env=_environment(env))
    except TimedOut:
        raise TimedOut(
            f"cannot go on: the service manager has not answered `{' '.join(command)}` within {timeout_s:g} s; "
            "see whether it runs, then try again",
            data={"command": list(command)},
        ) from None
    return Answer(done.code, done.out, done.err)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """With what finds the user's service manager where a login did not set it (su, cron), and plain English answers."""
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    told = {**env, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "XDG_RUNTIME_DIR": runtime}
    told.setdefault("DBUS_SESSION_BUS_ADDRESS", f"unix:path={runtime}/bus")
    return told
