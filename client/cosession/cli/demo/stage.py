"""What the audience of the demo sees: numbered acts, lines as things happen, and at the end what was proved.

Rule: told only here; with --json nothing is told but the summary, as one object.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
import time
from typing import Any

from cosession.cli import render
from cosession.model import Change

#: At most one line of the watch so often, so that it can be read.
SHOW_EVERY_S = 0.4
#: Before each act, for a person to read what the last one told.
READ_S = 1.0
_NEXT = (
    ("put plan/next '{\"step\": 1}'", "write something that every session sees"),
    ("watch", "see changes as they land (in another terminal)"),
    ('merge plan/next \'{"owner": "me"}\'', "change a part of it; nobody's change is lost"),
    ("sessions", "who is at work"),
    ("--help", "everything else"),
)


class Stage:
    """Tells, and collects the proofs."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._acts = 0
        self._names: dict[str, str] = {}
        self._shown_at = 0.0
        self._unseen = 0
        self._hung_up = False
        self.proofs: list[dict[str, Any]] = []

    def act(self, title: str) -> None:
        """A new act begins."""
        self._acts += 1
        if not self._silent and render.is_terminal():
            time.sleep(READ_S)
        self._tell("")
        self._tell(render.paint(f"{self._acts}  {title}", "bold"))

    def tell(self, text: str) -> None:
        """One thing that happened."""
        self._tell(f"   {render.escape(text)}")

    def result(self, text: str) -> None:
        """What came out."""
        self._tell(f"   {render.paint('->', 'cyan')} {text}")

    def introduce(self, id: str, name: str) -> None:
        """Say a session's name instead of its id from now on."""
        self._names[id] = name

    def change(self, change: Change) -> None:
        """A change as the watch delivers it; told now and then, with the number of those in between."""
        now = time.monotonic()
        if now - self._shown_at < SHOW_EVERY_S:
            self._unseen += 1
            return
        between = f"  (+{self._unseen} more)" if self._unseen else ""
        self._shown_at, self._unseen = now, 0
        who = self._names.get(change.session, "-")
        left = f"     {'rev':>3} {change.mod_revision:<6} {change.key:<16} v{change.version:<4} {who:<6}"
        value = render.brief(change.value)
        room = render.terminal_width()
        if room:
            value = render.cut(value, max(room - len(left) - len(between) - 2, 8))
        self._tell(render.paint(f"{left} {value}{between}", "dim"))

    def prove(self, name: str, claim: str, figures: str, *, ok: bool, wrong: str = "", **numbers: Any) -> None:
        """One claim, the figures it rests on, and whether it held."""
        text = render.escape(f"{claim}: {figures}")
        self.result(text if ok else render.paint(f"did not hold, {text}; {render.escape(wrong)}", "red"))
        self.proofs.append({"name": name, "ok": ok, "claim": claim, "figures": figures, "wrong": wrong, **numbers})

    def finish(self) -> int:
        """The summary; 0 when every claim held."""
        seconds = round(time.monotonic() - self._began, 1)
        ok = all(proof["ok"] for proof in self.proofs)
        if self._silent:
            render.json_line({"ok": ok, "seconds": seconds, "proofs": self.proofs})
            return 0 if ok else 1
        self._tell("")
        self._tell(render.paint("What was proved" if ok else "What held and what did not", "bold"))
        width = max(len(proof["claim"]) for proof in self.proofs)
        for proof in self.proofs:
            mark = render.paint("yes", "green") if proof["ok"] else render.paint("NO ", "red")
            self._tell(f"   {mark}  {proof['claim']:<{width}}  {render.escape(proof['figures'])}")
        self._tell(f"   in {seconds:g} s; every process and file of the demo is gone")
        self._tell("")
        self._tell(render.paint("Try next", "bold"))
        program = _program()
        width = max(len(words) for words, _ in _NEXT)
        for words, what in _NEXT:
            self._tell(f"   {program} {words:<{width}}  {what}")
        return 0 if ok else 1

    def _tell(self, text: str) -> None:
        """Print, unless nobody listens any more: then the play ends, by way of the thread that directs it."""
        if self._silent:
            return
        with self._lock:
            try:
                if not self._hung_up:
                    render.line(text)
                    if sys.stdout is not None:
                        sys.stdout.flush()
            except BrokenPipeError:
                self._hung_up = True
        if self._hung_up and threading.current_thread() is threading.main_thread():
            raise BrokenPipeError


def _program() -> str:
    """How to type our name: as this demo was started where the shell would not find it (after `make run`)."""
    started = sys.argv[0]
    if shutil.which("cosession") or os.path.basename(started) != "cosession":  # noqa: PTH119 - text of the user
        return "cosession"
    return render.escape(shlex.quote(started))
