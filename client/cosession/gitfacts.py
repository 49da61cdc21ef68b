"""Where a git worktree stands, and hashes of files: what a checkpoint remembers and a recovery compares.

A repository is untrusted: its configuration may name programs for git to run. So git is asked two questions only, with
everything switched off by which a repository gets a program run (file system monitor, hooks, filters, external diffs,
transports, the pager), and with none of the caller's GIT_ variables. It has a deadline; so has the hashing, which is
done in a thread that is left alone when a file does not answer (a dead mount).

Rule: standard library only; nothing is written, and whatever cannot be found out is said in `note`, never raised.
"""

# pathlib costs more to import than this module to run.
# ruff: noqa: PTH118
from __future__ import annotations

import os
import stat
from time import monotonic

from cosession.project import worktree_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

#: Of all of it, in seconds.
DEADLINE_S: Final = 3.0
#: `messages.limits.CHECKPOINT_FILES_MAX`, which is not light, is 500.
FILES_MAX: Final = 200
FILE_BYTES_MAX: Final = 16 * 1024 * 1024
ALL_BYTES_MAX: Final = 128 * 1024 * 1024
OUTPUT_BYTES_MAX: Final = 1024 * 1024
FILTERS_MAX: Final = 64
_CHUNK: Final = 256 * 1024
_SAFE: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.untrackedCache=false",
    "diff.external=",
    "protocol.allow=never",
    "submodule.recurse=false",
    "log.showSignature=false",
)


def collect(directory: str = ".", deadline_s: float = DEADLINE_S) -> dict[str, Any]:
    """The fields of `model.GitFacts`; {} outside of a worktree."""
    worktree = worktree_of(directory)
    if not worktree:
        return {}
    ends_s = monotonic() + deadline_s
    facts: dict[str, Any] = {"worktree": os.fsencode(worktree).decode(errors="replace")}
    try:
        output, cut = _status(worktree, ends_s)
    except _Unknown as error:
        return {**facts, "note": str(error)}
    paths = _take(output, facts)
    facts["more"] = max(0, len(paths) - FILES_MAX)
    facts["dirty"] = hashes(worktree, paths[:FILES_MAX], ends_s)
    if cut:
        facts["note"] = "there is more than could be listed"
    return facts


def hashes(root: str, paths: Iterable[str], ends_s: float = 0.0) -> list[dict[str, Any]]:
    """The fields of a `model.FileFact` for each path, relative to `root`, in order; `ends_s` on the monotonic clock."""
    import threading

    names = list(paths)
    found: dict[str, dict[str, Any]] = {}
    left = [ALL_BYTES_MAX]

    def work() -> None:
        for path in names:
            found[path] = _fact(root, path, left)

    thread = threading.Thread(target=work, daemon=True, name="cosession hashing")
    thread.start()
    thread.join(max(0.05, (ends_s or monotonic() + DEADLINE_S) - monotonic()))
    done = dict(found)
    return [done.get(path) or {"path": _shown(path), "note": "could not be read in time"} for path in names]


def writers(worktree: str, since: str, ends_s: float) -> dict[str, str]:
    """Of each path that commits behind `since` have changed: the newest of them, as "hash author"."""
    if not since.isalnum() or not worktree:
        return {}
    question = ["log", "-z", "--format=%x01%h %an", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv"]
    try:
        output, _ = _git(worktree, [*_SAFE], [*question, "--max-count=1000", f"{since}..HEAD", "--"], ends_s)
    except _Unknown:
        return {}
    found: dict[str, str] = {}
    commit = ""
    for field in output.replace(b"\n", b"\0").split(b"\0"):
        if field.startswith(b"\x01"):
            commit = _shown(os.fsdecode(field[1:]))
        elif field:
            found.setdefault(_shown(os.fsdecode(field)), commit)
    return found


class _Unknown(Exception):
    """Why nothing can be said."""


def _status(worktree: str, ends_s: float) -> tuple[bytes, bool]:
    """What git says of the worktree, and whether it said more than that."""
    safe = [*_SAFE]
    names, _ = _git(worktree, safe, ["config", "--null", "--name-only", "--get-regexp", r"^filter\."], ends_s, absent=1)
    filters = sorted({name.decode(errors="surrogateescape").rpartition(".")[0] for name in names.split(b"\0") if name})
    if len(filters) > FILTERS_MAX or any("=" in name for name in filters):
        raise _Unknown("its configuration has filters that cannot be switched off")
    for name in filters:
        safe += [f"{name}.clean=", f"{name}.smudge=", f"{name}.process=", f"{name}.required=false"]
    question = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--no-renames"]
    return _git(worktree, safe, [*question, "--ignore-submodules=all"], ends_s)


def _git(worktree: str, safe: list[str], words: list[str], ends_s: float, absent: int = 0) -> tuple[bytes, bool]:
    """The output of git, and whether it was cut. Exit code `absent` says that there is nothing. Raises _Unknown."""
    import select
    import signal
    import subprocess

    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    options = [part for each in safe for part in ("-c", each)]
    try:
        process = subprocess.Popen(  # noqa: S603
            ["git", "--no-pager", "-C", worktree, *options, *words],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _Unknown(f"git cannot be run: {error}") from None
    assert process.stdout is not None, "it is a pipe"
    output = bytearray()
    cut = False
    try:
        while len(output) <= OUTPUT_BYTES_MAX:
            if not select.select([process.stdout], [], [], max(0.0, ends_s - monotonic()))[0]:
                raise _Unknown("git did not answer in time")
            piece = os.read(process.stdout.fileno(), _CHUNK)
            if not piece:
                break
            output += piece
        else:
            cut = True
        if not cut and process.wait(max(0.05, ends_s - monotonic())) not in (0, absent):
            raise _Unknown("git refused: run git status there to see why")
    except subprocess.TimeoutExpired:
        raise _Unknown("git did not end in time") from None
    finally:
        process.stdout.close()
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(0.2)
            except (OSError, subprocess.TimeoutExpired):
                pass  # it hangs in the kernel: nobody waits for it
    return bytes(output[:OUTPUT_BYTES_MAX]), cut


def _take(output: bytes, facts: dict[str, Any]) -> list[str]:
    """Fill in head and branch from `git status --porcelain=v2 -z`; the paths that are dirty."""
    paths: list[str] = []
    records = output.split(b"\0")[:-1]
    for record in records:
        text = os.fsdecode(record)
        if text.startswith("# branch.oid ") and not text.endswith("(initial)"):
            facts["head"] = text.split(" ")[2]
        elif text.startswith("# branch.head ") and not text.endswith("(detached)"):
            facts["branch"] = _shown(text.split(" ", 2)[2])
        elif text[:2] in ("1 ", "u "):
            paths.append(text.split(" ", 8 if text[0] == "1" else 10)[-1])
        elif text.startswith("? "):
            paths.append(text[2:])
    return paths


def _fact(root: str, path: str, left: list[int]) -> dict[str, Any]:
    import hashlib

    fact: dict[str, Any] = {"path": _shown(path)}
    try:
        descriptor = os.open(
            os.path.join(root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )
    except FileNotFoundError:
        return {**fact, "note": "deleted"}
    except (OSError, ValueError) as error:
        return {**fact, "note": f"cannot be read: {getattr(error, 'strerror', None) or error}"}
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return {**fact, "note": "no plain file"}
        fact["size_bytes"] = found.st_size
        if found.st_size > min(FILE_BYTES_MAX, left[0]):
            return {**fact, "note": "too large to hash"}
        left[0] -= found.st_size
        digest = hashlib.sha256()
        size = 0
        while size <= FILE_BYTES_MAX and (piece := os.read(descriptor, _CHUNK)):
            digest.update(piece)
            size += len(piece)
        return {**fact, "size_bytes": size, "sha256": digest.hexdigest()}
    except OSError as error:
        return {**fact, "note": f"cannot be read: {error.strerror}"}
    finally:
        os.close(descriptor)


def _shown(path: str) -> str:
    """A path as it can be told: what is no UTF-8 in it is replaced."""
    return os.fsencode(path).decode(errors="replace")
