"""What a client adds to a recovery: what has become of commits and files since the checkpoint, and all of it as a
document to read.

The document lies in `recoveries/` of the state directory, of which the newest few are kept.

Rule: standard library only; takes and gives plain data as the protocol shows it. What the dead session wrote is quoted
text: nothing of it is believed or run.
"""

# pathlib costs more to import than this module to run.
# ruff: noqa: PTH103, PTH108, PTH118, PTH208
from __future__ import annotations

import os
from time import gmtime, monotonic, strftime

from cosession import gitfacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

DIRECTORY: Final = "recoveries"
DOCUMENTS_KEPT: Final = 50
_LINES_MAX: Final = 200
_TEXT_MAX: Final = 4_096


def stale(checkpoint: dict[str, Any] | None, directory: str = ".") -> dict[str, Any]:
    """What differs now from what a checkpoint says: `head` and `branch` as (was, is), `files` that are not as they
    were, each with `why` and `by`, and a `note` of what could not be found out.
    """
    git = (checkpoint or {}).get("git") or {}
    files = [*git.get("dirty", ()), *(checkpoint or {}).get("files", ())]
    if not git and not files:
        return {"head": None, "branch": None, "files": [], "note": "the checkpoint has no git facts and no files"}
    ends_s = monotonic() + gitfacts.DEADLINE_S
    present = gitfacts.collect(directory, gitfacts.DEADLINE_S)
    worktree = present.get("worktree", "")
    note = present.get("note", "") if present else "this is no git worktree"
    if git.get("worktree") and worktree and git["worktree"] != worktree:
        note = note or f"it was made in {git['worktree']}, this is {worktree}"
    moved = {name: _moved(git, present, name) if present else None for name in ("head", "branch")}
    known = {each["path"]: each for each in files if each.get("sha256") or each.get("note") == "deleted"}
    root = worktree or os.path.abspath(directory)  # noqa: PTH100
    now = gitfacts.hashes(root, known, ends_s) if known else []
    by = gitfacts.writers(worktree, git.get("head", ""), ends_s) if moved["head"] else {}
    changed = [
        {"path": each["path"], "why": _why(known[each["path"]], each), "by": by.get(each["path"], "")}
        for each in now
        if _why(known[each["path"]], each)
    ]
    return {**moved, "files": changed, "note": note}


def _moved(git: dict[str, Any], present: dict[str, Any], name: str) -> list[str] | None:
    was, found = git.get(name, ""), present.get(name, "")
    return [was, found] if git and was != found else None


def _why(was: dict[str, Any], found: dict[str, Any]) -> str:
    """What has become of a file, "" when it is as it was."""
    if was.get("sha256", "") and found.get("sha256", "") == was["sha256"]:
        return ""
    if not was.get("sha256") and found.get("note") == "deleted":
        return ""
    return str(found.get("note") or ("changed" if was.get("sha256") else "is there again"))


def document(reply: dict[str, Any], staleness: dict[str, Any]) -> str:
    """A recovery in Markdown."""
    dead, heir = reply["session"], reply.get("by")
    checkpoint = reply.get("checkpoint") or {}
    name = dead.get("name") or dead["id"]
    lines = [f"# Recovery of session {_text(name)}", ""]
    lines += [f"- session `{dead['id']}`, {dead['state']}: {_text(dead.get('reason', ''))}"]
    lines += [f"- taken over by `{heir['id']}`" if heir else "- a plan: nothing was changed"]
    lines += [f"- checkpoint: {reply['standing']}", *(f"  - {_text(line)}" for line in reply.get("evidence", ()))]
    for title, key in (("Task", "task"), ("Next step", "next_step")):
        if checkpoint.get(key):
            lines += ["", f"## {title}", "", *_quoted(checkpoint[key])]
    for title, key in (("Done", "done"), ("Pending", "pending"), ("Failed approaches", "failed")):
        lines += _section(title, (_text(each) for each in checkpoint.get(key, ())))
    lines += _section("Decisions", (_decision(each) for each in checkpoint.get("decisions", ())))
    lines += _section("What went stale", _stale_lines(staleness, reply))
    lines += _section("Claims", (f"{', '.join(each['targets'])}: token {each['token']}" for each in reply["claims"]))
    lines += _section("Claims lost", (f"{', '.join(each['targets'])}: {each['why']}" for each in reply["lost"]))
    lines += _section("Ephemeral entries", (f"`{each['key']}`: {each['state']}" for each in reply["ephemeral"]))
    lines += _section("It wrote after the checkpoint", (_entry(each) for each in reply["later"]))
    lines += ["", f"Unread letters: {reply['letters']}.", ""]
    return "\n".join(lines)


def _stale_lines(staleness: dict[str, Any], reply: dict[str, Any]) -> list[str]:
    lines = []
    for name in ("head", "branch"):
        if staleness.get(name):
            was, found = staleness[name]
            lines.append(f"{name.upper() if name == 'head' else name} moved from `{was or '-'}` to `{found or '-'}`")
    for each in staleness.get("files", ()):
        by = f", by {each['by']}" if each["by"] else ", by nobody known (not committed)"
        lines.append(f"file `{_text(each['path'])}`: {each['why']}{by}")
    lines += [_entry(each) for each in reply["changes"]]
    if reply.get("more"):
        lines.append("and more entries than are listed, or than the log still has")
    if staleness.get("note"):
        lines.append(_text(staleness["note"]))
    return lines


def _entry(change: dict[str, Any]) -> str:
    by = change.get("name") or change.get("session") or "nobody in particular"
    return f"entry `{_text(change['key'])}`: {change['kind']} at revision {change['revision']} by {_text(by)}"


def _decision(each: dict[str, Any]) -> str:
    about = [
        (name, each.get(key))
        for name, key in (
            ("because", "rationale"),
            ("instead of", "alternatives"),
            ("at the price of", "trade_offs"),
            ("checked by", "validation"),
        )
    ]
    said = "; ".join(f"{name} {_text(', '.join(v) if isinstance(v, (list, tuple)) else v)}" for name, v in about if v)
    return _text(each["choice"]) + (f" ({said})" if said else "")


def _section(title: str, items: Iterable[str]) -> list[str]:
    found = list(items)
    if not found:
        return []
    more = [f"- and {len(found) - _LINES_MAX} more"] if len(found) > _LINES_MAX else []
    return ["", f"## {title}", "", *(f"- {each}" for each in found[:_LINES_MAX]), *more]


def _quoted(text: str) -> list[str]:
    return [f"> {line}" for line in text[:_TEXT_MAX].splitlines() or [""]]


def _text(text: str) -> str:
    """One line, whatever it holds."""
    return " ".join("".join(each if each.isprintable() else " " for each in text[:_TEXT_MAX]).split())


def write(state_directory: str, session: str, text: str) -> str:
    """Write a document; its path. Raises OSError."""
    place = os.path.join(state_directory, DIRECTORY)
    os.makedirs(place, 0o700, exist_ok=True)
    names = sorted(name for name in os.listdir(place) if name.endswith(".md"))
    for name in names[: max(0, len(names) + 1 - DOCUMENTS_KEPT)]:
        os.unlink(os.path.join(place, name))
    safe = "".join(each if each.isalnum() or each in "-_." else "_" for each in session)
    path = os.path.join(place, f"{strftime('%Y%m%d-%H%M%S', gmtime())}-{os.getpid()}-{safe}.md")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path
