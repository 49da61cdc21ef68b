"""Which project a directory belongs to, and which worktree and branch: facts about git, read without git.

A project is a repository and its name the real path of its git common directory, so that all worktrees of a
repository are one project and two clones are two. What belongs to none is `global`.

What lies in a directory is untrusted: a tree unpacked from somewhere may hold any `.git` file. So only `.git`, `HEAD`,
`commondir` and `gitdir` are read, as regular files of at most 4 KiB, never waiting (a FIFO is no file); what they name
must look like a git directory; and no tree can borrow the repository of another: a linked worktree must be named back
by its git directory, which lies under `worktrees/` of the common one, and a git directory that is some other tree's own
`.git` is refused. (A worktree moved by hand is therefore `global` until `git worktree repair`.)

Rule: standard library only and light; nothing is executed and nothing is written.
"""

# pathlib costs more to import than this module to run.
# ruff: noqa: PTH110, PTH112, PTH113, PTH116, PTH118, PTH119, PTH120, PTH121
from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

GLOBAL: Final = "global"
FILE_BYTES_MAX: Final = 4096
#: What the protocol takes as the name of a project (`messages.limits.PROJECT_BYTES_MAX`, which is not light).
NAME_BYTES_MAX: Final = 1024
BRANCH_BYTES_MAX: Final = 256


def project_of(directory: str = ".", env: Mapping[str, str] = os.environ) -> str:
    """The project of `directory`: `$COSESSION_PROJECT` where that is set, else the real path of the git common
    directory above it, else "global".

    A path that is no UTF-8, or over 1,024 bytes, is named by its hash ("path-sha256:...").
    """
    chosen = env.get("COSESSION_PROJECT", "")
    if chosen:
        return chosen
    _, git_directory = _find(directory)
    common = _common_of(git_directory) if git_directory else ""
    return _name_of(common) if common else GLOBAL


def project_meant(named: str) -> str:
    """The project that `named` stands for: a path to a directory in a repository is that repository's project, as on
    the command line, so that nobody works beside the others by naming it otherwise; anything else is a name.
    """
    if "/" not in named and named not in (".", ".."):
        return named
    found = project_of(named, {}) if os.path.isdir(named) else GLOBAL
    return named if found == GLOBAL else found


def worktree_of(directory: str = ".") -> str:
    """The real path of the top of the worktree that `directory` is in, "" when it is in none."""
    return _find(directory)[0]


def git_directory_of(directory: str = ".") -> str:
    """The git directory of the worktree that `directory` is in, "" when it is in none: where HEAD and the index are."""
    return _find(directory)[1]


def branch_of(directory: str = ".") -> str:
    """The branch that is checked out in the worktree of `directory`, "" for a detached HEAD or outside of any."""
    _, git_directory = _find(directory)
    head = _read(os.path.join(git_directory, "HEAD")) if git_directory else ""
    name = head.strip().removeprefix("ref: refs/heads/")
    if name == head.strip() or name == ".invalid":  # no branch, or a repository with reftables: HEAD says nothing
        return ""
    return name if name.isprintable() and 0 < len(name.encode()) <= BRANCH_BYTES_MAX else ""


def _find(directory: str) -> tuple[str, str]:
    """(top of the worktree, its git directory) of the nearest repository at or above; ("", "") for none.

    A `.git` that cannot be believed ends the search: what lies above it is not the repository of this tree either.
    """
    try:
        real = _real(directory)
    except (OSError, ValueError):
        return "", ""
    for place in _upwards(real):
        dot_git = os.path.join(place, ".git")
        try:
            kind = os.stat(dot_git).st_mode
        except (OSError, ValueError):
            if _is_git_directory(place):
                return "", place  # inside a bare repository, or inside a git directory
            continue
        target = _real(dot_git) if stat.S_ISDIR(kind) else _named_in(dot_git, "gitdir: ")
        return (place, target) if _belongs(target, dot_git) else ("", "")
    return "", ""


def _belongs(target: str, dot_git: str) -> bool:
    """Whether `target` is the git directory of the tree with this `.git`: a directory, a link to one, or a file."""
    if not target or not _is_git_directory(target):
        return False
    if os.path.exists(os.path.join(target, "commondir")):
        back = _named_in(os.path.join(target, "gitdir"), "")
        return bool(back) and _same(back, dot_git)
    return os.path.basename(target) != ".git" or _same(os.path.dirname(target), os.path.dirname(dot_git))


def _common_of(git_directory: str) -> str:
    """The directory that all worktrees of the repository share."""
    pointer = os.path.join(git_directory, "commondir")
    if not os.path.exists(pointer):
        return git_directory
    common = _named_in(pointer, "")
    if os.path.dirname(git_directory) != os.path.join(common, "worktrees"):
        return ""
    return common if _is_git_directory(common) else ""


def _named_in(path: str, prefix: str) -> str:
    """The real path that a one-line file names after `prefix`, relative to where the file lies; "" when it has none."""
    text = _read(path)
    named = text.removeprefix(prefix).strip("\r\n")
    if not named or (prefix and not text.startswith(prefix)) or "\n" in named or "\0" in named:
        return ""
    try:
        return _real(os.path.join(os.path.dirname(path), named))
    except (OSError, ValueError):
        return ""


def _is_git_directory(path: str) -> bool:
    """Whether `path` looks like one: HEAD, and objects and refs either here or in the common directory."""
    if not _read(os.path.join(path, "HEAD")):
        return False
    if os.path.isfile(os.path.join(path, "commondir")):
        return True
    return os.path.isdir(os.path.join(path, "objects")) and os.path.isdir(os.path.join(path, "refs"))


def _read(path: str) -> str:
    """The text of a small regular file, "" when it is anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        data = os.read(descriptor, FILE_BYTES_MAX + 1)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return os.fsdecode(data) if len(data) <= FILE_BYTES_MAX else ""


def _upwards(path: str) -> Iterator[str]:
    """`path` and the directories above it."""
    yield path
    while (above := os.path.dirname(path)) != path:
        path = above
        yield path


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _real(path: str) -> str:
    """The real path; on macOS with the letter case the file system keeps, since there `Repo` and `repo` are one."""
    real = os.path.realpath(path)
    if sys.platform == "darwin":
        import fcntl

        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return real
        try:
            return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")) or real
        except OSError:
            return real
        finally:
            os.close(descriptor)
    return real


def _name_of(path: str) -> str:
    try:
        if len(path.encode()) <= NAME_BYTES_MAX:
            return path
    except UnicodeEncodeError:
        pass
    import hashlib

    return "path-sha256:" + hashlib.sha256(os.fsencode(path)).hexdigest()
