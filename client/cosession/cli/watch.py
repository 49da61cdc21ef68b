"""`cosession watch`: changes as they land, one line each, until Ctrl-C.

Rule: a line is out before the next change is waited for, and what is missing (a daemon that restarted, a store that
began anew) is either made up for by the library or said.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time

from cosession.cli import render
from cosession.cli.library import open_client
from cosession.cli.options import Given, Option, Verb
from cosession.errors import CosessionError
from cosession.model import GLOBAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cosession import sync

KEY_WIDTH_MAX = 40
#: Names of sessions remembered; then they are asked for again.
LABELS_MAX = 1_000
_KIND_STYLES = {"put": "green", "delete": "red", "expire": "yellow"}
_STATE_STYLES = {"active": "green", "idle": "green", "suspect": "yellow", "crashed": "red", "lost": "red"}


def run(given: Given) -> int:
    """Watch and print; Ctrl-C is the orderly end."""
    count = given.integer("--count", 0)
    sessions = given.flag("--sessions")
    client = open_client(given)
    try:
        watch = client.watch(
            given.words[0] if given.words else "",
            start_revision=given.integer("--from", 0),
            snapshot=not given.flag("--no-snapshot"),
            space="$sessions" if sessions else "context",
            project=GLOBAL if sessions else None,
        )
        reader = _Reader(watch)
        show = _json if given.flag("--json") else _Sessions().show if sessions else _Changes(client).show
        for seen, change in enumerate(watch, start=1):
            show(change)
            if sys.stdout is not None:
                sys.stdout.flush()
            if seen == count:
                break
        if reader.has_left:
            raise BrokenPipeError
    except KeyboardInterrupt:
        pass
    finally:
        client.close()
    return 0


class _Reader:
    """Whoever reads a pipe we write to: when it leaves, the watch ends, without waiting for a change to fail on."""

    def __init__(self, watch: sync.Watch) -> None:
        self._watch = watch
        self.has_left = False
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(1).st_mode)
        except OSError:
            is_pipe = False
        if is_pipe:
            import threading

            threading.Thread(target=self._look, name="looking at the reader", daemon=True).start()

    def _look(self) -> None:
        poll = select.poll()
        poll.register(1, 0)  # errors and hang-ups are always reported
        poll.poll()
        self.has_left = True
        self._watch.close()


def _json(change: Any) -> None:
    from cosession.cli.main import plain

    render.json_line(plain(change))


class _Changes:
    """Lines about entries; names of sessions are looked up once each."""

    def __init__(self, client: sync.Client) -> None:
        self._client = client
        self._labels = {"": "-"}
        self._key_width = 16

    def show(self, change: Any) -> None:
        """Print one change."""
        when = _clock(change.time)
        if change.kind == "reset":
            render.line(f"{when}  {render.paint('reset', 'yellow')}   the store began anew; what is there now follows")
            return
        key = render.escape(change.key)
        self._key_width = min(max(self._key_width, render.cells(key)), KEY_WIDTH_MAX)
        kind = render.paint(f"{change.kind:<6}", _KIND_STYLES.get(change.kind, "dim"))
        version = f"v{change.version}" if change.version else "-"
        session = self._label(change.session)
        left = f"{when}  {kind}  {render.pad(key, self._key_width)}  {version:<5}  {render.pad(session, 10)}"
        value = render.brief(change.value) if change.kind == "put" else ""
        room = render.terminal_width()
        if room:
            value = render.cut(value, max(room - render.cells(_unpainted(left)) - 2, 8))
        render.line(f"{left}  {value}".rstrip())

    def _label(self, id: str) -> str:
        if id not in self._labels:
            if len(self._labels) >= LABELS_MAX:
                self._labels = {"": "-"}
            try:
                session = self._client.explain(id).session
                label = session.name or session.id
            except CosessionError:
                label = id
            self._labels[id] = render.cut(render.escape(label), 24)
        return self._labels[id]


class _Sessions:
    """Lines about sessions."""

    def show(self, change: Any) -> None:
        """Print one transition."""
        record = change.value if isinstance(change.value, dict) else {}
        state = str(record.get("state", change.kind))
        about = [str(record.get("reason", "")), *map(str, record.get("evidence", ()))]
        took = f"noticed after {record['detected_ms']:.1f} ms" if record.get("detected_ms") else ""
        text = "; ".join(filter(None, [took, *about]))
        name = render.escape(str(record.get("name", "")) or "-")
        painted = render.paint(f"{render.escape(state):<10}", _STATE_STYLES.get(state, "dim"))
        left = f"{_clock(change.time)}  {painted}  {render.pad(name, 12)}  {render.escape(change.key)}"
        room = render.terminal_width()
        text = render.escape(text)
        if room:
            text = render.cut(text, max(room - render.cells(_unpainted(left)) - 2, 8))
        render.line(f"{left}  {text}".rstrip())


def _clock(at: float) -> str:
    """The local wall clock with milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03}" if at else "-" * 12


def _unpainted(text: str) -> str:
    """Without our own colours, to count columns; foreign text in it is escaped already."""
    plain: list[str] = []
    for part in text.split("\x1b["):
        plain.append(part.partition("m")[2] if plain else part)
    return "".join(plain)


WATCH = Verb(
    "watch",
    "[PREFIX]",
    run,
    summary="Print what is there under PREFIX, then every change as it lands, until Ctrl-C (exit code 0).",
    text="Each line has the time, what happened, the key, its version, the session that wrote and the value. A\n"
    "restart of the daemon leaves no gap. --json prints one JSON object per line.",
    options=(
        Option("--from", "REV", "every change from this revision on, instead of what is there now"),
        Option("--no-snapshot", "", "only changes from now on"),
        Option("--sessions", "", "watch the sessions instead: who comes, goes, crashes; PREFIX is of their ids"),
        Option("--count", "N", "end after N lines"),
    ),
    examples=(
        ("cosession watch", "everything in this project"),
        ("cosession watch plan/ --no-snapshot", "changes of the plan from now on"),
        ("cosession watch --sessions", "sessions as they live and die"),
        ("cosession watch --json --from 1000", "one JSON object per line, from revision 1000 on"),
    ),
    words=(0, 1),
)
