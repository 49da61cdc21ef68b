"""Checks before an action in a repository: what git says, who may write, room, locks, and the claims of others.

Rule: git is asked with everything off that a repository could have run, and with no lock taken.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from cosession import commands
from cosession.doctor import processes
from cosession.doctor.engine import CRITICAL, FAILURE, OK, WARNING, Ground, Seen
from cosession.doctor.room import DISK_WARNS, Volume
from cosession.errors import CosessionError
from cosession.messages.limits import CLAIM_TARGETS_MAX
from cosession.project import git_directory_of, worktree_of
from cosession.targets import Place

#: How long git may take.
GIT_S: Final = 10.0
#: With less room on the disk of the worktree nothing should be begun.
FREE_BYTES_MIN: Final = 64 * 1024 * 1024
#: Questions of CLAIM_TARGETS_MAX files each.
QUESTIONS_MAX: Final = 16
#: What git leaves while it is in the middle of something.
_UNDER_WAY: Final = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or `git am`",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisection",
}


class Tree(NamedTuple):
    """What `git status` says. Paths are relative to the root of the worktree."""

    branch: str
    ahead: int
    behind: int
    staged: list[str]
    changed: list[str]
    unmerged: list[str]
    untracked: list[str]

    @property
    def touched(self) -> list[str]:
        """What a commit of all that is known to git would change."""
        return list(dict.fromkeys([*self.staged, *self.changed, *self.unmerged]))


def git(ground: Ground) -> Seen:
    """Is something under way or unresolved, and where is HEAD?"""
    if not worktree_of(ground.directory):
        return Seen(OK, "no repository is here")
    tree = asked(ground)
    if tree.unmerged:
        return Seen(
            CRITICAL,
            f"{len(tree.unmerged)} files are not merged, {tree.unmerged[0]} among them",
            "resolve them and `git add` each, or `git merge --abort`",
        )
    under_way = next((what for name, what in _UNDER_WAY.items() if (_git(ground) / name).exists()), "")
    counts = f"{len(tree.staged)} staged, {len(tree.changed)} changed, {len(tree.untracked)} untracked"
    if under_way:
        return Seen(FAILURE, f"{under_way} is under way; {counts}", "finish it or break it off, see: git status")
    if not tree.branch:
        return Seen(WARNING, f"HEAD is on no branch; {counts}", "commits would belong to none: git switch -c NAME")
    where = f"on {tree.branch}, {counts}"
    if tree.behind:
        return Seen(
            WARNING, f"{where}; {tree.behind} commits behind its upstream", "take them first: git pull --rebase"
        )
    return Seen(OK, where + (f"; {tree.ahead} commits ahead" if tree.ahead else ""))


def rights(ground: Ground) -> Seen:
    """May files, index and refs be written?"""
    root = worktree_of(ground.directory)
    places = [Path(root), _git(ground), _git(ground) / "index"] if root else [Path(ground.directory).resolve()]
    closed = [str(place) for place in places if place.exists() and not os.access(place, os.W_OK)]
    if closed:
        return Seen(
            CRITICAL, f"not to be written: {', '.join(closed)}", f"see to its owner and mode: ls -ld {closed[0]}"
        )
    return Seen(OK, f"{places[0]} can be written")


def room(ground: Ground) -> Seen:
    """Is there room for work?"""
    volume = Volume(Path(worktree_of(ground.directory) or ground.directory).resolve())
    if volume.free_bytes < FREE_BYTES_MIN:
        return Seen(CRITICAL, str(volume), "free space before anything is written here")
    if volume.used > DISK_WARNS:
        return Seen(WARNING, f"{volume}, which is over {DISK_WARNS:.0f} %", "free space")
    return Seen(OK, str(volume))


def lock(ground: Ground) -> Seen:
    """Is another git at work here, and is the lock of the daemon as it should be?"""
    path = _git(ground) / "index.lock"
    if worktree_of(ground.directory) and path.exists():
        age_s = time.time() - path.stat().st_mtime
        return Seen(
            FAILURE,
            f"{path} is there, {age_s:.0f} s old: another git is at work, or one died",
            f"wait for it; when none runs (pgrep -x git): rm {path}",
        )
    return processes.lock(ground)


def claims(ground: Ground) -> Seen:
    """Does another session hold what was changed here?"""
    root = worktree_of(ground.directory)
    if not root:
        return Seen(OK, "no repository is here, so nothing was changed")
    touched = asked(ground).touched
    if not touched:
        return Seen(OK, "nothing was changed that somebody could hold")
    if ground.status is None:
        return Seen(
            WARNING, f"{len(touched)} files were changed, and nobody could be asked whose they are", "cosession start"
        )
    limit = CLAIM_TARGETS_MAX * QUESTIONS_MAX
    blockers = _blockers(ground, root, touched[:limit])
    if blockers:
        more = f" (and {len(blockers) - 1} more claims)" if len(blockers) > 1 else ""
        return Seen(CRITICAL, _said(blockers[0]) + more, _advice(blockers[0]))
    if len(touched) > limit:
        return Seen(WARNING, f"{len(touched)} files were changed, of which {limit} were asked about", "commit in parts")
    return Seen(OK, f"none is in the way of the {len(touched)} files changed here")


def asked(ground: Ground) -> Tree:
    """What git says of the worktree. Raises CosessionError."""
    # What a repository's own configuration could have run: a file system monitor and hooks.
    quiet = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks")
    command = ("git", *quiet, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal")
    env = {**ground.env, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    done = commands.run(command, timeout_s=GIT_S, env=env, directory=worktree_of(ground.directory))
    if done.code:
        said = (done.err.strip() or f"it ended with {done.code}").splitlines()[0]
        raise CosessionError(f"cannot ask git: {said}; see: git status", code="io_error")
    return parsed(done.out)


def parsed(text: str) -> Tree:
    """`git status --porcelain=v2 --branch -z`, see git-status(1)."""
    tree = Tree("", 0, 0, [], [], [], [])
    branch, ahead, behind = "", 0, 0
    rest = iter(text.split("\0"))
    for line in rest:
        kind, _, told = line.partition(" ")
        if kind == "#":
            name, _, value = told.partition(" ")
            if name == "branch.head":
                branch = "" if value == "(detached)" else value
            elif name == "branch.ab":
                ahead, behind = (abs(int(part)) for part in value.split())
        elif kind in ("1", "2"):
            # XY sub mH mI mW hH hI [score] path
            path = told.split(" ", 7 if kind == "1" else 8)[-1]
            if told[0] != ".":
                tree.staged.append(path)
            if told[1] != ".":
                tree.changed.append(path)
            if kind == "2":
                next(rest, "")  # what it was called before
        elif kind == "u":
            tree.unmerged.append(told.split(" ", 9)[-1])
        elif kind == "?":
            tree.untracked.append(told)
    return tree._replace(branch=branch, ahead=ahead, behind=behind)


def _git(ground: Ground) -> Path:
    return Path(git_directory_of(ground.directory) or "/nonexistent")


def _blockers(ground: Ground, root: str, paths: list[str]) -> list[dict[str, Any]]:
    """The claims of others that stand in the way, each once. Claims that only wait are nobody's yet."""
    place = Place(root)
    by_id: dict[str, dict[str, Any]] = {}
    about = {
        "worktree": place.worktree,
        "project": ground.project,
        **({"session": ground.session} if ground.session else {}),
    }
    for at in range(0, len(paths), CLAIM_TARGETS_MAX):
        targets = place.targets(os.path.join(root, path) for path in paths[at : at + CLAIM_TARGETS_MAX])  # noqa: PTH118 - text
        reply = ground.ask("claim.check", {"targets": targets, **about})
        by_id |= {each["claim"]["id"]: each for each in reply["blockers"] if not each["waiting"]}
    return list(by_id.values())


def _said(blocker: dict[str, Any]) -> str:
    claim = blocker["claim"]
    wanted, held = (blocker["overlaps"] or [["", claim["targets"][0]]])[0]
    who = blocker["name"] or claim["session"]
    purpose = f", for {claim['purpose']!r}" if claim["purpose"] else ""
    return f"{wanted.removeprefix('path:') or held} was changed, and {who} holds {held}{purpose}"


def _advice(blocker: dict[str, Any]) -> str:
    wanted = (blocker["overlaps"] or [["", ""]])[0][0].removeprefix("path:")
    about = f"cosession explain claim {blocker['claim']['id']}"
    return f"ask them, or wait: cosession claim {wanted or 'TARGET'} --wait 60; see: {about}"
