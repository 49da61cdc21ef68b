"""A ground for one check: a home, what the daemon would say, and who holds the lock; nothing of it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cosession.doctor.engine import Ground
from cosession.errors import CosessionError


class Held(NamedTuple):
    """As the command line's holder."""

    pid: int
    socket: str = "/nowhere"
    act: str = ""


def refuse(*_: Any) -> dict[str, Any]:
    """Nobody is there to be asked."""
    raise CosessionError("cannot look: nobody is there; start it", code="unreachable")


def ground(
    home: Path,
    *,
    status: dict[str, Any] | None = None,
    held: Held | None = None,
    env: dict[str, str] | None = None,
    **more: Any,
) -> Ground:
    """The ground under `home`, whose state directory is made."""
    (home / "state").mkdir(mode=0o700, parents=True, exist_ok=True)
    variables = {"COSESSION_HOME": str(home), "HOME": str(home), "PATH": "/usr/bin:/bin", **(env or {})}
    return Ground(**{"env": variables, "status": status, "ask": refuse, "act": refuse, "living": lambda: held, **more})
