"""`cosession put`: write one entry, plainly or by compare-and-swap.

Rule: on the fast path; JSON text is passed on as it was typed, so that the daemon judges it (duplicate names, numbers
too large) and nothing is lost on the way.
"""

from __future__ import annotations

import sys

from cosession.cli import data, render
from cosession.cli.line import Line
from cosession.cli.options import TTL_S_MAX, Given, Option, Verb, usage_error
from cosession.cli.scope import write_params
from cosession.cli.spooling import SPOOL, ask
from cosession.errors import Conflict, CosessionError, InvalidRequest, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: More than any value may have; what is read from standard input stops there instead of filling memory.
INPUT_BYTES_MAX = 16 * 1024 * 1024


def run(given: Given) -> int:
    """Write, print the new revision, and say whose value was replaced."""
    key, text = given.words
    if given.flag("--ttl") and given.flag("--ephemeral"):
        raise usage_error(given.verb, "--ttl and --ephemeral exclude one another")
    params = {"key": key, **write_params(given), **expectation(given)}
    if given.flag("--ttl"):
        params["ttl_s"] = given.number("--ttl", 0.0, low=0.001, high=TTL_S_MAX)
    if given.flag("--ephemeral"):
        params["ephemeral"] = True
    merge = given.text("--merge")
    if given.flag("--merge") and (merge != "three-way" or not given.flag("--expect")):
        raise usage_error(given.verb, "--merge takes three-way, and goes with --expect, the revision you changed")
    value = value_text(text, string=given.flag("--string"))
    line = Line(given)
    try:
        reply = ask(given, line, "put", params, members=f'"value":{value}')
    except Conflict as conflict:
        if not merge:
            raise
        from cosession.cli import merging

        reply = merging.merged_put(given, line, params, data.loads(value), conflict)
    if reply is None:
        return 0
    written = reply["written"]
    if given.flag("--json"):
        about = {"value": reply["value"]} if "value" in reply else {}
        render.json_line({**written, **about, "repeated": reply.get("repeated", False), "revision": reply["revision"]})
        return 0
    render.line(str(written["mod_revision"]))
    if written["replaced_session"] not in ("", written["session"]):
        whose = session_label(line, written["replaced_session"])
        render.note(f"replaced revision {written['replaced_revision']}, written by session {whose}")
    return 0


def expectation(given: Given) -> dict[str, Any]:
    """`--expect REV` and `--fence TOKEN` as parameters, when given."""
    params = {"expect_revision": given.integer("--expect", 0)} if given.flag("--expect") else {}
    return {**params, "fence": given.integer("--fence", 0, low=1)} if given.flag("--fence") else params


def value_text(word: str, *, string: bool) -> str:
    """The JSON text of a VALUE argument: JSON if it parses, else a string, unless it begins as an object or a list; `-`
    reads it from standard input.
    """
    text = read_input() if word == "-" else word
    if not string:
        if word == "-" and not text:  # what a command that failed leaves
            raise InvalidRequest(
                "cannot take standard input: it is empty; give --string for an empty string", code="parse_error"
            )
        try:
            data.loads(text)
        except ValueError as error:
            if text.lstrip()[:1] in ("{", "["):  # meant as JSON: whoever reads it would find a string
                raise InvalidRequest(
                    f"cannot take VALUE: it begins as JSON and is none ({error}); mend it, or give --string to store "
                    "it as text",
                    code="parse_error",
                ) from None
        else:
            return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("cannot take VALUE: it is not valid UTF-8; store binary data elsewhere") from None
    return data.dumps(text)


def read_input() -> str:
    """Standard input as text, within bounds."""
    if sys.stdin is None:
        raise InvalidRequest("cannot read standard input: it is closed; give the value as an argument")
    raw = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
    if len(raw) > INPUT_BYTES_MAX:
        raise TooLarge(
            f"cannot take standard input: over {INPUT_BYTES_MAX} bytes; values hold 256 KiB, split it over several keys"
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("cannot take standard input: it is not valid UTF-8; store binary data elsewhere") from None


def session_label(line: Line, id: str) -> str:
    """A session for people: its name and id; just the id when the daemon cannot say."""
    try:
        session = line.ask("session.explain", {"session": id})["session"]
    except CosessionError:
        return id
    return f"{session['name']} ({id})" if session["name"] else id


#: Of every verb that writes.
FENCE = Option("--fence", "TOKEN", "only while the claim with this fencing token stands; else exit 3")

PUT = Verb(
    "put",
    "KEY VALUE",
    run,
    summary="Write one entry and print the new revision.",
    text="VALUE is JSON if it parses as JSON, else a string; what begins with { or [ and does not parse is refused,\n"
    "unless --string is given. `-` reads it from standard input. Write -- before a VALUE that begins with a dash.\n"
    "Without --expect the last write wins; the version it replaced stays in the\n"
    "history, and when another session had written that, it is said. Without --ttl and --ephemeral the entry\n"
    "stays for good. --merge three-way, when the entry is no longer at the expected revision: what others changed\n"
    "since stays, and what you changed is added, where these are different members of objects; else exit 3, and\n"
    "`paths` of the error name each member that both changed.",
    options=(
        Option("--string", "", "VALUE is a string, whatever it looks like"),
        Option("--expect", "REV", "only if this mod_revision stands (0: only if absent); else exit 3"),
        FENCE,
        Option("--merge", "HOW", "three-way: keep what others changed since the expected revision"),
        Option("--ttl", "S", "the entry expires S seconds after its last put"),
        Option("--ephemeral", "", "the entry ends with your session"),
        SPOOL,
    ),
    examples=(
        ("cosession put plan/next '{\"step\": 1}'", "store JSON"),
        ("cosession put note/today 'parser first, then the tests'", "store a string"),
        ("git diff | cosession put review/diff --string -", "store what a command prints"),
        ("cosession put plan/next - --expect 41 --merge three-way < plan.json", "write what you made of revision 41"),
        ("cosession put lock/build mine --expect 0 --ttl 60", "take a lock that nobody holds, for a minute"),
    ),
    words=(2, 2),
)
