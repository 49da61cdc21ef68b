"""`cosession hook CLIENT EVENT`: one event of an AI client, by name; `cosession/hook.py` does it.

Rule: adds nothing but the way to it, for clients whose settings cannot name an interpreter and a file.
"""

from __future__ import annotations

import os
import sys

from cosession import hook
from cosession.cli import render
from cosession.cli.options import Given, Verb
from cosession.errors import InvalidRequest


def run(given: Given) -> int:
    """Hand on the event on standard input. Whatever goes wrong, the client goes on: exit code 0 and a note."""
    if os.isatty(0):
        raise InvalidRequest("cannot read an event from a terminal; pipe the client's JSON into it (or < /dev/null)")
    chosen = given.text("--socket")
    code, output = hook.answer([*given.words, chosen] if chosen else given.words)
    if given.flag("--json"):
        render.json_line({"exit_code": code, "output": output.decode()})
    elif output:
        sys.stdout.buffer.write(output)
    return code


HOOK = Verb(
    "hook",
    "CLIENT EVENT",
    run,
    summary="Tell the daemon of an event of an AI client, and print what the client is to hear.",
    text="For the settings of a client, which gives the event as JSON on standard input: `claude` and `codex` are\n"
    "understood. An edit of a file that another live session holds is refused, with who holds it and how long;\n"
    "every other file is claimed for its session with the first edit. Without a daemon nothing is checked, and a\n"
    "note says so. COSESSION_OFF=1 switches it off.",
    examples=(
        ("cosession hook claude PreToolUse < event.json", "may this tool run"),
        ("cosession hook codex SessionStart < event.json", "what a new session must know"),
    ),
    words=(2, 2),
)
