"""Having a copy proved: a small one here and now, a large one by a process of its own.

Proving is Python over every row. In a thread of the daemon it would share the interpreter's lock with the commits,
each of which gives that lock up and waits for it again several times; in another process, and a patient one, it takes
nobody's turn. That process costs a tenth of a second, which is why what is done sooner is done here.

Rule: only the facts come back, or why the copy cannot be trusted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from msgspec import ValidationError, convert

from cosession.errors import CosessionError
from cosessiond.store.backup import PARTIAL
from cosessiond.store.proving import prove
from cosessiond.store.verifying import Facts, Tell

#: A copy of so many bytes is proved within 10 ms.
HERE_BYTES_MAX: Final = 512 * 1024


class Prover:
    """Proves one copy at a time; `stop` from any thread ends what is under way."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def facts(self, path: Path, tell: Tell) -> Facts:
        """Of the copy at `path`. Raises StoreBroken, ConfigError, CosessionError, OSError."""
        if path.stat().st_size <= HERE_BYTES_MAX:
            return prove(path, tell)
        found = self._ask(["--partial", path.name.removesuffix(PARTIAL)], tell).get("facts")
        try:
            return convert(found, Facts)
        except ValidationError as error:
            raise CosessionError(
                f"cannot prove {path}: the process that reads it says {error}", code="internal"
            ) from error

    def wrong(self, name: str, tell: Tell) -> str:
        """What is wrong with a finished backup, "" when nothing is. Raises CosessionError, OSError."""
        (found,) = self._ask(["--", name], tell)["backups"]
        return str(found["wrong"])

    def stop(self) -> None:
        """Whatever is being proved, or will be, is not."""
        self._is_stopped = True
        child = self._child
        if child is not None:
            child.kill()

    def _ask(self, words: list[str], tell: Tell) -> dict[str, Any]:
        command = [sys.executable, *_flags(), "-m", "cosessiond", "verify", "--attached", *words]
        # It ends with its standard input, so that none outlives the daemon.
        with subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            self._child = child
            if self._is_stopped:
                child.kill()
            last = _heard(child, tell)
        self._child = None
        if "result" in last:
            result: dict[str, Any] = last["result"]
            return result
        if "error" in last:
            error = last["error"]
            raise CosessionError(error["message"], code=error["code"], data=error["data"])
        raise CosessionError(
            f"cannot prove a copy: the process that reads it ended with {child.returncode}", code="internal"
        )


def _heard(child: subprocess.Popen[bytes], tell: Tell) -> dict[str, Any]:
    """The last word of the child; progress is passed on."""
    assert child.stdout is not None, "it is a pipe"
    said: dict[str, Any] = {}
    for line in child.stdout:
        said = json.loads(line)
        if "progress" in said:
            tell(said["progress"]["done"], said["progress"]["total"])
    return said


def _flags() -> list[str]:
    """The daemon's own way of finding what it imports."""
    if sys.flags.isolated:
        return ["-I"]
    return ["-P"] if sys.flags.safe_path else []
