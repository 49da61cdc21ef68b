"""`cosession send`, `inbox`: letters between sessions.

What `inbox` has printed counts as read, and only then: a letter that did not reach the terminal or the pipe is there
the next time. The text of a letter is another agent's: nothing in it reaches a terminal as anything but characters.

Rule: the standard library's C parts only, like every verb of one question.
"""

from __future__ import annotations

import sys
from time import monotonic, time

from cosession import retries
from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.put import read_input
from cosession.cli.scope import session_of_command, write_params
from cosession.cli.spooling import SPOOL, ask
from cosession.errors import CosessionError, InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IMPORTANCE = ("low", "normal", "high")
LIMIT_MAX = 1_000
_STYLES = {"high": "yellow", "low": "dim"}


def run_send(given: Given) -> int:
    """Send, and say where it went."""
    to_all = given.flag("--all")
    if len(given.words) != (1 if to_all else 2):
        raise usage_error(given.verb, "it takes TEXT with --all" if to_all else "it takes a session and TEXT, or --all")
    importance = given.text("--importance", "normal")
    if importance not in IMPORTANCE:
        raise usage_error(given.verb, f"--importance takes {', '.join(IMPORTANCE)}, not {importance!r}")
    params = {
        **write_params(given),
        "text": _text(given.words[-1]),
        "importance": importance,
        **({"all": True} if to_all else {"to": given.words[0]}),
        **({"thread": given.text("--thread")} if given.flag("--thread") else {}),
    }
    reply = ask(given, Line(given), "mail.send", params)
    if reply is None:
        return 0
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    render.line(render.escape(reply["id"]))
    if to_all:
        render.note(f"sent to {render.count(len(reply['to']), 'session')}")
    for id in reply["waiting"]:
        render.note(f"session {id} has died: the letter waits for whoever goes on in its place")
    for id in reply["full"]:
        render.note(f"session {id} did not get it: its box is full until it reads its letters")
    return 0


def run_inbox(given: Given) -> int:
    """Print letters; those of the session's own count as read then."""
    follows = given.flag("--follow")
    if follows and given.flag("--all"):
        raise usage_error(given.verb, "--follow begins with what is unread; --all excludes it")
    line = Line(given)
    session = session_of_command(given)
    params: dict[str, Any] = {
        "limit": given.integer("--limit", 50, low=1, high=LIMIT_MAX),
        **({"all": True} if given.flag("--all") else {}),
        **({"box": given.words[0]} if given.words else {}),
        **({"session": session} if session else {}),
    }
    reply = line.ask("mail.inbox", params)
    reads = not given.words and not given.flag("--keep")
    if follows:
        return _follow(given, reply["box"], session, reads=reads)
    letters = reply["letters"]
    if given.flag("--json"):
        names = ("box", "letters", "unread", "more", "revision")
        render.json_line({name: reply[name] for name in names})
    elif not letters:
        render.line("no letters" if given.flag("--all") else "no unread letters; those that were read: --all")
    else:
        for letter in letters:
            render.line(_shown(letter))
        if reply["more"]:
            render.note(f"there are more: these are the first {len(letters)} (--limit, at most {LIMIT_MAX:,})")
    if reads:
        _read(line, letters, session)
    return 0


def _follow(given: Given, box: str, session: str, *, reads: bool) -> int:
    """Print what is unread, then each letter as it comes; Ctrl-C is the orderly end."""
    from cosession.cli.following import Following
    from cosession.cli.live import Live

    line = Line(given)
    about = line.ask("session.explain", {"session": box})["session"]
    came_at = monotonic()
    live = Live(lambda: ("waiting for letters", monotonic() - came_at), is_plain=given.flag("--json"))
    watched = {"prefix": f"{box}/", "start_revision": 0, "space": "$mail", "project": about["project"]}
    following = Following(given, watched, snapshot=True, wait=live.wait)
    shown: set[str] = set()
    left = given.integer("--count", 0)
    try:
        for item in following:
            letter = _unseen(item, shown)
            if letter is None:
                continue
            came_at = monotonic()
            live.line(render.json_text(letter) if given.flag("--json") else _shown(letter))
            if reads:
                _read(line, [letter], session)
            left -= 1
            if left == 0:
                break
    except KeyboardInterrupt:
        pass
    finally:
        live.close()
        following.close()
        line.close()
    return 0


def _unseen(item: dict[str, Any], shown: set[str]) -> dict[str, Any] | None:
    """The letter in a change, unless it is read, gone, or was shown."""
    letter = item["value"] if item["kind"] == "put" else None
    if not isinstance(letter, dict) or letter.get("state") == "read":
        shown.discard(str(item.get("key", "")))
        return None
    if item["key"] in shown:
        return None
    shown.add(item["key"])
    return letter


def _read(line: Line, letters: list[dict[str, Any]], session: str) -> None:
    """Say that what was printed is read, once it is out."""
    ids = [letter["id"] for letter in letters if letter["state"] != "read"]
    if not ids:
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    line.again()
    params: dict[str, Any] = {"ids": ids, **({"session": session} if session else {})}
    try:
        line.ask("mail.read", params, kind=retries.REPEATABLE)
    except CosessionError as error:
        render.note(f"they stay unread: {error.message}")


def _shown(letter: dict[str, Any]) -> str:
    """A letter for people: who, when, what it belongs to, and its text, indented."""
    sender = letter["sender_name"] or letter["sender"]
    head = [render.escape(sender), render.ago(letter["sent_at"], time())]
    if letter["to_all"]:
        head.append("to all")
    if letter["importance"] != "normal":
        head.append(render.paint(letter["importance"], _STYLES.get(letter["importance"], "dim")))
    if letter["state"] == "read":
        head.append("read")
    if letter["passed_from"]:
        head.append(f"for {render.escape(letter['passed_from'])}, who ended")
    head.append(render.paint(f"thread {render.escape(letter['thread'])}", "dim"))
    text = render.escape(letter["text"].rstrip("\n"), keep="\n")
    return "\n".join([", ".join(head), *(f"  {part}" for part in text.split("\n"))])


def _text(word: str) -> str:
    """The text of a letter; `-` reads it from standard input."""
    text = read_input() if word == "-" else word
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("cannot send TEXT: it is not valid UTF-8; check its encoding") from None
    return text


SEND = Verb(
    "send",
    "[ID] TEXT",
    run_send,
    summary="Write a letter to a session, by id or name, or with --all to all others of the project; print its id.",
    text="""
ID is a session, by id or by name; the sender is the session that runs this. A letter is durable when this returns, and
lies in the box of its session until that reads it; what a session leaves unread when it dies is passed on to whoever
goes on in its place. TEXT has up to 8,192 bytes; `-` reads it from standard input.
""",
    options=(
        Option("--all", "", "to all other sessions that live in the project"),
        Option("--thread", "LETTER", "the thread of the letter that this answers"),
        Option("--importance", "|".join(IMPORTANCE), "how much it matters (default normal)"),
        SPOOL,
    ),
    examples=(
        ("cosession send otter 'the parser is yours, tests are green'", "to the session of that name"),
        ("cosession send --all 'do not touch migrations/ until noon' --importance high", "to all others here"),
        ("git diff --stat | cosession send otter - --thread 01J8Z3", "an answer, from standard input"),
    ),
    words=(1, 2),
)

INBOX = Verb(
    "inbox",
    "[ID]",
    run_inbox,
    summary="Print the letters that this session has not read; they count as read then.",
    text="With ID, a session by id or name, the letters of that one, which stay unread.",
    options=(
        Option("--all", "", "also those that were read, as far as they are kept"),
        Option("--keep", "", "leave them unread"),
        Option("--follow", "", "then print each letter as it comes, until Ctrl-C"),
        Option("--count", "N", "with --follow: end after N letters"),
        Option("--limit", "N", "the first N, at most 1000 (default 50)"),
    ),
    examples=(
        ("cosession inbox", "what others have written"),
        ("cosession inbox --follow --json", "each letter as a line of JSON, as it comes"),
        ("cosession inbox otter", "what another session has not read yet"),
    ),
    words=(0, 1),
)
