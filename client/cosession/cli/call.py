"""`cosession debug call`: any method of the socket with any parameters, as they are.

Rule: adds nothing to what was typed, so that what the daemon says is about that.
"""

from __future__ import annotations

from cosession.cli import data, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.put import read_input
from cosession.errors import InvalidRequest


def run(given: Given) -> int:
    """Call and print the result as JSON."""
    method = given.words[0]
    text = given.words[1] if len(given.words) > 1 else "{}"
    if text == "-":
        text = read_input()
    try:
        params = data.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"cannot call {method}: the parameters are {error}; do: give one JSON object") from None
    if not isinstance(params, dict):
        raise InvalidRequest(f"cannot call {method}: the parameters must be a JSON object; do: name each one")
    line = Line(given, spawn=False)
    if not given.flag("--explain"):
        render.json_line(line.ask_once(method, text))
        return 0
    line.ask("debug.trace", {"on": True, "mine": True})
    result = line.ask_once(method, text)
    traces = line.ask("debug.trace", {"mine": True})["traces"]
    trace = next((each for each in traces if each["method"] == method), None)
    if given.flag("--json"):
        render.json_line({"result": result, "trace": trace})
        return 0
    from cosession.cli.debug.trace import explain

    render.json_line(result)
    if trace is None:
        render.note("not explained: the connection was replaced meanwhile")
    else:
        explain(trace)
    return 0


CALL = Verb(
    "debug call",
    "METHOD [JSON]",
    run,
    summary="Call a method of the daemon and print its result as JSON.",
    text="JSON is the object of parameters, `-` reads it from standard input. Nothing is added: no project, no\n"
    "request id, and no daemon is started. A parameter that does not exist is answered with those that do.\n\n"
    "methods:\n"
    "  hello ping status admin.reload admin.scrub admin.stop\n"
    "  get range put delete merge add append txn history compact revision_at revert purge turn audit\n"
    "  backup.now backup.list backup.verify watch unwatch\n"
    "  session.register session.heartbeat session.close session.list session.explain\n"
    "  session.why_not session.simulate_crash\n"
    "  claim.acquire claim.renew claim.release claim.list claim.check claim.explain\n"
    "  hook mail.send mail.inbox mail.read\n"
    "  debug.clients debug.watches debug.tasks debug.queues debug.locks debug.loglevel debug.trace debug.metrics\n"
    "  debug.tail checkpoint.save checkpoint.list checkpoint.get session.recover",
    examples=(
        ("cosession debug call ping", "without parameters"),
        ('cosession debug call get \'{"key": "plan/next", "project": "global"}\'', "with parameters"),
        ('cosession debug call put \'{"key": "k", "value": 1}\' --explain', "and how long each part of it took"),
    ),
    options=(Option("--explain", "", "show where its time went, stage by stage"),),
    words=(1, 2),
)
