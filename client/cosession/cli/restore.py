"""`cosession backup restore`: the store as a backup has it, with the plan shown first and a way back.

The work is done by an act of the maintenance on the files of the store, while no daemon runs (`cli.child`).

Rule: nothing is stopped before the user has agreed, and whatever goes wrong a daemon that ran before runs again.
"""

from __future__ import annotations

import os

from cosession.cli import asking, child, life, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.progress import Progress
from cosession.cli.render import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LATEST = Option("--latest", "", "the newest valid one, instead of a name")


def run(given: Given) -> int:
    """Restore, and print what is in place now and where the old store lies."""
    words = backup_words(given)
    refuse_socket(given)
    is_running = life.answer(given) is not None
    with Progress(given, "looking at the backup") as bar:
        plan = _plan(given, bar, words, is_running=is_running)
    if given.flag("--dry-run"):
        _show(given, {"restored": False, **plan})
        return 0
    if not given.flag("--json"):
        _show_plan(plan)
    asking.agree(given, "restore it?")
    found = plan["backup"]
    with life.stopped(given, is_running=is_running), Progress(given, "restoring") as bar:
        result = child.act(bar, "restore", found["name"] or found["path"])
    _show(given, {**result, "started": is_running})
    return 0


def backup_words(given: Given) -> list[str]:
    """The words that name a backup to an act: a name, or a path that leads there from anywhere."""
    if bool(given.words) == given.flag("--latest"):
        raise usage_error(given.verb, "give the name or path of a backup, or --latest")
    if given.flag("--latest"):
        return ["--latest"]
    (word,) = given.words
    is_path = "/" in word or os.path.isfile(word)  # noqa: PTH113 - as paths.py does it
    return ["--", os.path.abspath(word) if is_path else word]  # noqa: PTH100 - likewise


def refuse_socket(given: Given) -> None:
    """What works on files goes by the place of the files, which a socket does not tell."""
    if given.text("--socket"):
        raise usage_error(given.verb, "it works on the files of the store; name their place with COSESSION_HOME")


def _plan(given: Given, bar: Progress, words: list[str], *, is_running: bool) -> dict[str, Any]:
    """What a restore would do: exactly where the files can be looked at, else by what the daemon says of itself."""
    if not is_running:
        return child.act(bar, "restore", "--dry-run", *words)
    plan = child.act(bar, "inspect", *words)
    status = Line(given, spawn=False).ask("status", {})
    then = plan["backup"]
    lost = status["revision"] - then["revision"] if status["epoch"] == then["epoch"] else None
    now = {name: status[name] for name in ("epoch", "revision", "entries")}
    return {**plan, "now": now, "trouble": "", "lost": {"revisions": None if lost is None else max(0, lost)}}


def _show(given: Given, result: dict[str, Any]) -> None:
    if given.flag("--json"):
        render.json_line(result)
        return
    if not result["restored"]:
        _show_plan(result)
        return
    rows = [
        ("restored", f"{_name(result)}; the store is at revision {result['revision']}, epoch {result['epoch']}"),
        ("lost", _lost(result)),
    ]
    if result["safety_backup"]:
        rows.append(("way back", f"cosession backup restore {result['safety_backup']}"))
    if result["quarantine"]:
        rows.append(("old store", f"{result['quarantine']} (the newest 3 are kept)"))
    _rows(rows)


def _show_plan(plan: dict[str, Any]) -> None:
    then, now = plan["backup"], plan["now"]
    holds = f"revision {then['revision']}, {count(then['entries'], 'entry')}, schema {then['schema']}"
    rows = [
        ("backup", f"{_name(plan)}: {holds}, {render.size(then['size_bytes'])}; verified"),
        ("now", f"revision {now['revision']}, {count(now['entries'], 'entry')}" if now else _no_store(plan)),
        ("lost", _lost(plan)),
        ("then", "a new epoch: clients begin anew, leases end; the store of now is kept as a backup and in quarantine"),
    ]
    _rows(rows)


def _rows(rows: list[tuple[str, str]]) -> None:
    for name, text in rows:
        render.line(f"{render.paint(f'{name:<9}', 'dim')} {render.escape(text)}")


def _name(plan: dict[str, Any]) -> str:
    name: str = plan["backup"]["name"] or plan["backup"]["path"]
    return name


def _no_store(plan: dict[str, Any]) -> str:
    return f"cannot be read: {plan['trouble']}" if plan["trouble"] else "there is no store"


def _lost(plan: dict[str, Any]) -> str:
    """What the store of now has that will not be there any more."""
    lost = plan["lost"]
    if lost is None:
        return "nobody can tell" if plan["trouble"] else "nothing"
    words = []
    if lost["revisions"] is None:
        words.append("all changes since, which are of another epoch")
    else:
        words.append(count(lost["revisions"], "revision"))
    if "entries_gone" in lost:
        words.append(
            f"{count(lost['entries_gone'], 'entry')} gone, {lost['entries_other']:,} as they were then, "
            f"{lost['entries_back']:,} back"
        )
    return "; ".join(words)


RESTORE = Verb(
    "backup restore",
    "BACKUP | --latest",
    run,
    summary="Put a backup in the place of the store: by name, by path, or the newest.",
    text="The backup is verified and the plan shown before anything is done. The daemon is stopped for it and started\n"
    "again; its store becomes a backup itself and is kept in quarantine. The store begins a new epoch: clients are\n"
    "told and begin anew, leases end. A restore that is broken off is finished or undone by the next start.",
    options=(LATEST, asking.YES, asking.DRY_RUN),
    examples=(
        ("cosession backup restore --latest --dry-run", "what would be lost"),
        ("cosession backup restore 00000000000000001234-20260102T030405Z-scheduled", "one of `backup list`"),
        ("cosession backup restore ./brought-along.db --yes", "a file from elsewhere"),
    ),
    words=(0, 1),
)
