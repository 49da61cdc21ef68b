"""`cosession backup export`: what a backup holds, or the store as it is now, as readable JSON lines.

Rule: what is under the name of a file is whole: it is written beside it and renamed.
"""

from __future__ import annotations

import contextlib
import os
import sys

from cosession.cli import child, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.progress import Progress
from cosession.cli.restore import LATEST, backup_words, refuse_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How long one question for a backup that is being made waits.
WAIT_S = 5.0


def run(given: Given) -> int:
    """Write the lines, to standard output or to a file that is whole or not there."""
    refuse_socket(given)
    out = given.text("--out")
    if given.flag("--json") and not out:
        raise usage_error(given.verb, "what it prints is JSON already; --json is about the result, with --out FILE")
    if given.flag("--live") == bool(given.words or given.flag("--latest")):
        raise usage_error(given.verb, "give the name or path of a backup, --latest, or --live")
    with Progress(given, "exporting") as bar:
        words = _live(given, bar) if given.flag("--live") else backup_words(given)
        if given.flag("--history"):
            words.insert(0, "--history")
        result = _to_file(bar, words, out) if out else _to_output(bar, words)
    if given.flag("--json"):
        render.json_line({**result, "file": os.path.abspath(out)})  # noqa: PTH100 - as paths.py does it
    elif out:
        versions = f", {render.count(result['versions'], 'version')}" if given.flag("--history") else ""
        render.line(render.escape(f"{out}: {render.count(result['entries'], 'entry')}{versions}"))
    return 0


def _live(given: Given, bar: Progress) -> list[str]:
    """A backup of now, made by the daemon: a copy of what is in use can be had in no other way."""
    bar.now("backing up the store")
    line = Line(given)
    reply = line.ask("backup.now", {"wait_s": WAIT_S})
    while reply["backup"] is None:
        line.again()
        bar.reach(reply["done_bytes"])
        reply = line.ask("backup.now", {"number": reply["number"], "wait_s": WAIT_S})
    return ["--", reply["backup"]["name"]]


def _to_output(bar: Progress, words: list[str]) -> dict[str, Any]:
    """On a descriptor of its own: the child's standard output is where it says how far it is."""
    sys.stdout.flush()
    descriptor = os.dup(sys.stdout.fileno())
    try:
        return _export(bar, words, descriptor)
    finally:
        os.close(descriptor)


def _to_file(bar: Progress, words: list[str], out: str) -> dict[str, Any]:
    """Beside it first (0600), then in its place."""
    new = f"{out}.partial"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            result = _export(bar, words, descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(new, out)  # noqa: PTH105 - likewise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)  # noqa: PTH108 - likewise
        raise
    return result


def _export(bar: Progress, words: list[str], descriptor: int) -> dict[str, Any]:
    return child.act(bar, "export", "--descriptor", str(descriptor), *words, pass_fds=(descriptor,))


EXPORT = Verb(
    "backup export",
    "BACKUP | --latest | --live",
    run,
    summary="Print what a backup holds as JSON lines: each entry, and on request its kept versions.",
    text="First a line that says what it is, then one object a line by space, project and key: `entry`, behind them\n"
    "with --history each `version`; last `end`, without which it is not whole. The backup is verified before. The\n"
    "same backup gives the same bytes.",
    options=(
        LATEST,
        Option("--live", "", "the store as it is now, by a backup made for it"),
        Option("--history", "", "the kept versions too"),
        Option("--out", "FILE", "into this file (0600), whole or not at all"),
    ),
    examples=(
        ("cosession backup export --latest --out store.jsonl", "the newest backup, into a file"),
        ("cosession backup export --live --history | grep plan/", "what the store holds now, and held"),
    ),
    words=(0, 1),
)
