"""The check of the log: errors of the last day, in the daemon's own file, and in the journal where a unit runs it.

Rule: what was logged is foreign text: it is counted by its event and shown in few characters; only the end of a log is
read.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cosession import commands, paths
from cosession.doctor.engine import OK, WARNING, Ground, Seen
from cosession.errors import CosessionError

#: More errors than that in a day are worth a warning.
ERRORS_WARN: Final = 10
DAY_S: Final = 86_400.0
#: Of each file the end is read; a day of errors is less.
TAIL_BYTES: Final = 4 * 1024 * 1024
_LEVELS: Final = ("error", "critical")
_EVENT_CHARS_MAX: Final = 60
_JOURNAL_S: Final = 5.0
_UNIT: Final = "cosessiond.service"
#: The field in which the daemon leaves an event as the JSON line that it would write to a file.
_PREFIX: Final = "COSESSION_"
_WHOLE: Final = f"{_PREFIX}JSON"


def errors(ground: Ground) -> Seen:
    """How many, and which most often."""
    lines, where = _lines(ground)
    found = Counter(counted(lines, datetime.now(UTC) - timedelta(seconds=DAY_S)))
    number = sum(found.values())
    if not number:
        return Seen(OK, f"no error in the last day{where}")
    often = ", ".join(f"{count} x {event!r}" for event, count in found.most_common(3))
    evidence = f"{number} errors in the last day{where}: {often}"
    if number > ERRORS_WARN:
        return Seen(WARNING, evidence, "read them: cosession logs -n 200")
    return Seen(OK, evidence)


def counted(lines: Iterable[bytes], since: datetime) -> Iterable[str]:
    """The event of each line that is an error of ours and not older."""
    for line in lines:
        try:
            said = json.loads(line)
            at = datetime.fromisoformat(said["timestamp"])
            if said["level"] in _LEVELS and at >= since:
                yield str(said["event"])[:_EVENT_CHARS_MAX]
        except (ValueError, KeyError, TypeError, RecursionError):  # no line of ours, or one that was cut
            continue


def _lines(ground: Ground) -> tuple[list[bytes], str]:
    """The lines of the newest logs, and a word on where they were."""
    path = Path(paths.log_directory(ground.env)) / "daemon.log"
    lines = [*tail(path.with_name(path.name + ".1")), *tail(path)]
    is_unit = Path(paths.service_manifest(ground.env)).exists()
    journal = _journal(ground) if is_unit or not lines else []
    places = [str(path)] * bool(lines) + ["the journal"] * bool(journal)
    return [*lines, *journal], f" in {' and '.join(places)}" if places else "; there is no log yet"


def tail(path: Path, size: int = TAIL_BYTES) -> list[bytes]:
    """The last whole lines of a file; none when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return []
    with os.fdopen(descriptor, "rb") as file:
        end = os.fstat(descriptor).st_size
        file.seek(max(end - size, 0))
        lines = file.read(size).split(b"\n")
    return lines[1:] if end > size else lines


def _journal(ground: Ground) -> list[bytes]:
    """What the unit of the daemon wrote in the last day, where there is a journal."""
    if not shutil.which("journalctl", path=ground.env.get("PATH")):
        return []
    since = f"--since=@{time.time() - DAY_S:.0f}"
    output = ("--output=cat", f"--output-fields={_WHOLE}")
    command = ("journalctl", "--user", "--no-pager", *output, f"--unit={_UNIT}", since)
    try:
        return commands.run(command, timeout_s=_JOURNAL_S, env=ground.env).out.encode().split(b"\n")
    except CosessionError:  # it says nothing of a daemon that does not run under it
        return []
