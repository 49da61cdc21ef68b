"""`cosession watch`: changes as they land, one line each, until Ctrl-C.

A person at a terminal gets columns that stand still, what changed rather than the head of what did not, and below the
lines how the watch stands. A pipe gets one plain line for each change, whole.

Rule: a line is out before the next change is waited for, and what is missing (a daemon that restarted, a store that
began anew) is either made up for or said.
"""

from __future__ import annotations

from time import localtime, monotonic, strftime, time

from cosession.cli import render
from cosession.cli.changed import Remembered
from cosession.cli.following import Following
from cosession.cli.line import Line
from cosession.cli.live import Live
from cosession.cli.options import Given, Option, Verb
from cosession.cli.scope import project_of_command
from cosession.errors import CosessionError
from cosession.project import GLOBAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: In a pipe; a terminal has columns of its own.
KEY_WIDTH_MAX = 40
LABEL_WIDTH_MAX = 24
#: Names of sessions remembered; then they are asked for again.
LABELS_MAX = 1_000
LABEL_WAIT_S = 1.0
#: A watch is quiet when nothing came for so long.
QUIET_S = 2.0
#: From here on the day says more than the time of the day.
DAY_S = 20 * 3600.0
_KIND_STYLES = {"put": "green", "delete": "red", "expire": "yellow", "reset": "yellow"}
_STATE_STYLES = {"active": "green", "idle": "green", "suspect": "yellow", "crashed": "red", "lost": "red"}


def run(given: Given) -> int:
    """Watch and print; Ctrl-C is the orderly end."""
    count = given.integer("--count", 0)
    sessions, as_json = given.flag("--sessions"), given.flag("--json")
    watched = {
        "prefix": given.words[0] if given.words else "",
        "start_revision": given.integer("--from", 0),
        "space": "$sessions" if sessions else "context",
        "project": GLOBAL if sessions else project_of_command(given),
    }
    came_at = monotonic()
    live = Live(lambda: _status(following, came_at), is_plain=as_json)
    following = Following(given, watched, snapshot=not given.flag("--no-snapshot"), wait=live.wait)
    lines = _Json() if as_json else _Sessions() if sessions else _Changes(given)
    try:
        for seen, item in enumerate(following, start=1):
            came_at = monotonic()
            live.line(lines.of(item))
            if seen == count:
                break
    except KeyboardInterrupt:
        pass
    finally:
        live.close()
        following.close()
    return 0


def _status(following: Following, came_at: float) -> tuple[str, float]:
    """How the watch stands, and for how long."""
    now = monotonic()
    if following.away_since is not None:
        away_s = now - following.away_since
        return f"daemon away for {render.span(max(away_s, 1.0))}, waiting", away_s
    if not following.caught_up:
        return f"catching up, at revision {following.revision}" if following.is_attached else "", 0.0
    quiet_s = now - came_at
    quiet = f", quiet for {render.span(quiet_s)}" if quiet_s >= QUIET_S else ""
    return f"caught up at revision {following.revision}{quiet}", quiet_s


class _Json:
    """The items as they are."""

    def of(self, item: dict[str, Any]) -> str:
        """The line of one."""
        return render.json_text(item)


class _Changes:
    """Lines about entries; names of sessions are looked up once each."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._labels = {"": "-"}
        self._key_width = 16
        self._remembered = Remembered()

    def of(self, item: dict[str, Any]) -> str:
        """The line of one change."""
        if item["kind"] == "reset":
            self._remembered.clear()
            kind = render.paint("reset", _KIND_STYLES["reset"])
            return (
                f"{_clock(time(), render.terminal_width())}  {kind}   the store began anew; what is there now follows"
            )
        room = render.terminal_width()
        kind = render.paint(f"{item['kind']:<6}", _KIND_STYLES.get(item["kind"], "dim"))
        version = f"v{item['version']}" if item["version"] else "-"
        left = [_clock(item["time"], room), kind]
        if room:
            key_width = _key_width(room)
            left.append(render.pad(render.cut_head(render.escape(item["key"]), key_width), key_width))
            if room > _WITH_VERSION_CELLS:
                left.append(f"{version:<5}")
            if room > _WITH_SESSION_CELLS:
                left.append(render.pad(render.cut(self._label(item["session"]), 10), 10))
            return self._filled("  ".join(left), item, room)
        key = render.escape(item["key"])
        self._key_width = min(max(self._key_width, render.cells(key)), KEY_WIDTH_MAX)
        left += [render.pad(key, self._key_width), f"{version:<5}", render.pad(self._label(item["session"]), 10)]
        value = "(purged)" if item.get("purged") else render.brief(item["value"]) if item["kind"] == "put" else ""
        return f"{'  '.join(left)}  {value}".rstrip()

    def _filled(self, left: str, item: dict[str, Any], room: int) -> str:
        """On a terminal: what changed, in the room that is left."""
        if item.get("purged"):
            value = "(purged)"
        elif item["kind"] == "put":
            value = self._remembered.shown(item["key"], item["value"])
        else:
            value = ""
            self._remembered.forget(item["key"])
        return f"{left}  {render.cut(value, max(room - render.cells(_unpainted(left)) - 2, 8))}".rstrip()

    def _label(self, id: str) -> str:
        if id not in self._labels:
            if len(self._labels) >= LABELS_MAX:
                self._labels = {"": "-"}
            try:
                label = self._asked(id)
            except CosessionError:
                return render.escape(id)
            self._labels[id] = render.cut(render.escape(label), LABEL_WIDTH_MAX)
        return self._labels[id]

    def _asked(self, id: str) -> str:
        """The name of a session. On a connection of its own: on that of the watch events would come in between."""
        line = Line(self._given, spawn=False, timeout_s=LABEL_WAIT_S)
        try:
            session = line.ask("session.explain", {"session": id})["session"]
        finally:
            line.close()
        return str(session["name"] or session["id"])


class _Sessions:
    """Lines about sessions."""

    def of(self, item: dict[str, Any]) -> str:
        """The line of one transition."""
        record = item["value"] if isinstance(item["value"], dict) else {}
        state = str(record.get("state", item["kind"]))
        about = [str(record.get("reason", "")), *map(str, record.get("evidence", ()))]
        took = f"noticed after {record['detected_ms']:.1f} ms" if record.get("detected_ms") else ""
        text = render.escape("; ".join(filter(None, [took, *about])))
        room = render.terminal_width()
        name = render.escape(str(record.get("name", "")) or "-")
        if room:
            name = render.cut(name, 12)
        painted = render.paint(f"{render.escape(state):<10}", _STATE_STYLES.get(state, "dim"))
        left = f"{_clock(item['time'], room)}  {painted}  {render.pad(name, 12)}  {render.escape(item['key'])}"
        if room:
            text = render.cut(text, max(room - render.cells(_unpainted(left)) - 2, 8))
        return f"{left}  {text}".rstrip()


#: Narrower terminals do without the column.
_WITH_VERSION_CELLS, _WITH_SESSION_CELLS = 56, 72


def _key_width(room: int) -> int:
    """Columns for keys: the same for every line, half of what the other columns leave."""
    others = 8 + 6 + 3 * 2 + (7 if room > _WITH_VERSION_CELLS else 0) + (12 if room > _WITH_SESSION_CELLS else 0)
    return max(min((room - others) // 2, KEY_WIDTH_MAX), 10)


def _clock(at: float, room: int) -> str:
    """The local wall clock: to the second on a terminal, and the day where that is another; else with milliseconds."""
    if not at:
        return "-" * (8 if room else 12)
    if room:
        return f"{strftime('%H:%M:%S' if abs(time() - at) < DAY_S else '%d %b', localtime(at)):<8}"
    return f"{strftime('%H:%M:%S', localtime(at))}.{int(at * 1000) % 1000:03}"


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
    text="Each line has the time, what happened, the key, its version, the session that wrote and the value; on a\n"
    "terminal, where an earlier value was shown, what changed of it. A restart of the daemon leaves no gap.\n"
    "--json prints one JSON object per line.",
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
