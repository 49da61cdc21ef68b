"""`cosession merge`, `add`, `append`, `delete`, `txn`: the other one-question writes.

Rule: each is one request with one request id; JSON text is passed on as it was typed.
"""

from __future__ import annotations

from cosession.cli import data, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.put import FENCE, expectation, read_input, value_text
from cosession.cli.scope import write_params
from cosession.cli.spooling import SPOOL, ask
from cosession.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EXPECT = Option("--expect", "REV", "only if this mod_revision stands; else exit 3")


def run_merge(given: Given) -> int:
    """Apply a merge patch and print the merged value."""
    key, text = given.words
    patch, _ = _json_argument(given, text, "PATCH")
    params = {"key": key, **write_params(given), **expectation(given)}
    reply = ask(given, Line(given), "merge", params, members=f'"patch":{patch}')
    if reply is None:
        return 0
    if given.flag("--json"):
        about = {"value": reply["value"], "repeated": reply.get("repeated", False), "revision": reply["revision"]}
        render.json_line({**reply["written"], **about})
    else:
        render.line(render.json_text(reply["value"]))
    return 0


def run_add(given: Given) -> int:
    """Add a number and print the sum."""
    key = given.words[0]
    text, number = _json_argument(given, given.words[1] if len(given.words) > 1 else "1", "N")
    if type(number) not in (int, float):
        raise InvalidRequest(f"cannot add {text}: it is no number; see: cosession add --help")
    params = {"key": key, **write_params(given), **expectation(given)}
    reply = ask(given, Line(given), "add", params, members=f'"number":{text}')
    if reply is None:
        return 0
    if given.flag("--json"):
        about = {"value": reply["value"], "repeated": reply.get("repeated", False), "revision": reply["revision"]}
        render.json_line({**reply["written"], **about})
    else:
        render.line(render.json_text(reply["value"]))
    return 0


def run_append(given: Given) -> int:
    """Append values and print the length of the list."""
    key, *words = given.words
    if words.count("-") > 1:
        raise InvalidRequest("cannot take `-` twice: there is one standard input; give the other as an argument")
    values = ",".join(value_text(word, string=given.flag("--string")) for word in words)
    params = {"key": key, **write_params(given), **expectation(given)}
    reply = ask(given, Line(given), "append", params, members=f'"values":[{values}]')
    if reply is None:
        return 0
    if given.flag("--json"):
        about = {"length": reply["length"], "repeated": reply.get("repeated", False), "revision": reply["revision"]}
        render.json_line({**reply["written"], **about})
    else:
        render.line(render.json_text(reply["length"]))
    return 0


def run_delete(given: Given) -> int:
    """Delete and print the revision; that there was nothing to delete is said, and fine."""
    key = given.words[0]
    reply = ask(given, Line(given), "delete", {"key": key, **write_params(given), **expectation(given)})
    if reply is None:
        return 0
    written = reply["written"]
    if given.flag("--json"):
        about = {"deleted": written is not None, "key": key, "repeated": reply.get("repeated", False)}
        render.json_line({**(written or {}), **about, "revision": reply["revision"]})
    elif written is None:
        render.note(f"there was no {key!r} to delete")
    else:
        render.line(str(written["mod_revision"]))
    return 0


def run_txn(given: Given) -> int:
    """Run a transaction; print what it wrote. A failed compare without `else` is a conflict, exit 3."""
    text, parts = _json_argument(given, given.words[0] if given.words else "-", "the transaction")
    unknown = ", ".join(sorted(map(repr, set(parts) - {"compares", "then", "else"}))) if isinstance(parts, dict) else ""
    if unknown or not isinstance(parts, dict):
        raise InvalidRequest(
            f"cannot run the transaction: {f'it has no {unknown}' if unknown else 'it is no JSON object'}; give an "
            'object with "compares", "then" and "else", each a list, each optional; see: cosession txn --help'
        )
    reply = Line(given).ask("txn", {**write_params(given), **expectation(given)}, members=text.strip()[1:-1].strip())
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    branch = "then" if reply["succeeded"] else "else"
    if reply["written"]:
        render.line(f"{branch}: {len(reply['written'])} written at revision {reply['txn_revision']}")
    else:
        render.line(f"{branch}: nothing written")
    if not any(parts.values()):
        render.note("the transaction asks for nothing; what may stand in it: cosession txn --help")
    for written in reply["written"]:
        render.line(render.escape(f"  {written['kind']} {written['key']}"))
    return 0


def _json_argument(given: Given, word: str, what: str) -> tuple[str, Any]:
    """The text and the value of an argument that must be JSON; `-` reads standard input."""
    text = read_input() if word == "-" else word
    try:
        return text, data.loads(text)
    except ValueError as error:
        raise InvalidRequest(
            f"cannot take {what}: it is {error}; see: cosession {given.verb.name} --help", code="parse_error"
        ) from None


MERGE = Verb(
    "merge",
    "KEY PATCH",
    run_merge,
    summary="Change parts of an entry with a JSON merge patch (RFC 7396) and print the merged value.",
    text="Members of PATCH replace those of the entry, null removes one, objects merge. The daemon applies it in the\n"
    "order of its commits, so two merges of different members never lose each other. An absent entry counts as {}.\n"
    "`-` reads PATCH from standard input.",
    options=(_EXPECT, FENCE, SPOOL),
    examples=(
        ('cosession merge plan/next \'{"owner": "otter"}\'', "set one member"),
        ("cosession merge plan/next '{\"draft\": null}'", "remove one"),
    ),
    words=(2, 2),
)

ADD = Verb(
    "add",
    "KEY [N]",
    run_add,
    summary="Add a number to an entry (1 if N is not given) and print the sum.",
    text="The daemon adds in the order of its commits, so no addition is ever lost and none conflicts. An absent\n"
    "entry counts as 0. Two integers make an integer, at most 64 bits; with a fraction on either side it is a float.",
    options=(_EXPECT, FENCE, SPOOL),
    examples=(
        ("cosession add builds/count", "count one more"),
        ("cosession add budget/tokens -1500", "take something away"),
    ),
    words=(1, 2),
)

APPEND = Verb(
    "append",
    "KEY VALUE...",
    run_append,
    summary="Append to the list of an entry and print its length.",
    text="Each VALUE is JSON if it parses as JSON, else a string; `-` reads one from standard input. The daemon\n"
    "appends in the order of its commits: no element is ever lost. An absent entry counts as [].",
    options=(Option("--string", "", "each VALUE is a string, whatever it looks like"), _EXPECT, FENCE, SPOOL),
    examples=(
        ("cosession append notes/today 'the parser is done'", "one line more"),
        ("cosession append plan/todo '{\"step\": 3}' '{\"step\": 4}'", "several at once"),
    ),
    words=(2, 128),
)

DELETE = Verb(
    "delete",
    "KEY",
    run_delete,
    summary="Delete one entry and print the revision. Its history stays.",
    options=(_EXPECT, FENCE, SPOOL),
    examples=(
        ("cosession delete plan/next", "delete it, whatever it holds"),
        ("cosession delete plan/next --expect 41", "only if nobody wrote it since revision 41"),
    ),
    words=(1, 1),
)

TXN = Verb(
    "txn",
    "[JSON]",
    run_txn,
    summary="Compare and write several entries at one revision: all or nothing.",
    text='JSON (or standard input) is {"compares": [...], "then": [...], "else": [...]}, each part optional.\n'
    '  compares  {"kind": "entry", "key": K, "field": "mod_revision" | "create_revision" | "version", "value": N}\n'
    '            {"kind": "range", "prefix": P, "max_mod_revision": N}\n'
    '  writes    {"op": "put", "key": K, "value": V}   {"op": "merge", "key": K, "patch": P}   '
    '{"op": "delete", "key": K}\n'
    '            {"op": "add", "key": K, "number": N}   {"op": "append", "key": K, "values": [V, ...]}\n'
    "An absent entry has 0 in every field. When a compare fails and there is no else, nothing is written: exit 3.",
    examples=(
        (
            (
                'cosession txn \'{"compares": [{"kind": "entry", "key": "a", "value": 0}], '
                '"then": [{"op": "put", "key": "a", "value": 1}, {"op": "put", "key": "b", "value": 2}]}\''
            ),
            "write two entries if the first is absent",
        ),
        ("cosession txn < steps.json", "read it from a file"),
    ),
    words=(0, 1),
)
