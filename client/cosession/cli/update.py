"""`cosession update`: read an entry, let a command change it, write it back if nobody did in between; else again.

The same steps as `Client.update` of the library, in the same rhythm; over `line`, because loading the library would
cost more than all the rest.

Rule: the command may run several times; nothing is written unless it succeeds and prints a value.
"""

from __future__ import annotations

import os
from time import sleep

from cosession.cli import data, render
from cosession.cli.line import Line, jitter, request_id
from cosession.cli.options import TTL_S_MAX, Given, Option, Verb, usage_error
from cosession.cli.scope import write_params
from cosession.errors import Conflict, InvalidRequest
from cosession.retries import UPDATE_CEILINGS_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def run(given: Given) -> int:
    """Update and print the new revision."""
    key = given.words[0]
    if given.flag("--ttl") and given.flag("--ephemeral"):
        raise usage_error(given.verb, "--ttl and --ephemeral exclude one another")
    params = {"key": key, **write_params(given)}
    if given.flag("--ttl"):
        params["ttl_s"] = given.number("--ttl", 0.0, low=0.001, high=TTL_S_MAX)
    if given.flag("--ephemeral"):
        params["ephemeral"] = True
    line = Line(given)
    value, written, runs = _update(given, line, params)
    if given.flag("--json"):
        render.json_line({**written, "value": value, "runs": runs, "revision": written["mod_revision"]})
    else:
        render.line(str(written["mod_revision"]))
    return 0


def _update(given: Given, line: Line, params: dict[str, Any]) -> tuple[Any, dict[str, Any], int]:
    """The value written, what the daemon says of it, and how often the command ran; raises Conflict in the end."""
    at = {"key": params["key"], "project": params["project"]}
    entry = line.ask("get", at)["entry"]
    waits, runs = _waits(), 0
    while True:
        value = _through(given, params["key"], entry["value"] if entry else None)
        runs += 1
        line.again()  # the command may have taken long
        expect = {"expect_revision": entry["mod_revision"] if entry else 0, "request_id": request_id()}
        try:
            return value, line.ask("put", {**params, **expect, "value": value})["written"], runs
        except Conflict as conflict:
            wait_s = next(waits, None)
            if wait_s is None:
                raise
            entry = conflict.current
        if wait_s:
            sleep(wait_s)
            entry = line.ask("get", at)["entry"]


def _waits() -> Iterator[float]:
    yield 0.0
    for ceiling in UPDATE_CEILINGS_S:
        yield ceiling * jitter()


def _through(given: Given, key: str, value: Any) -> Any:
    """What the command makes of the value."""
    bare = given.flag("--string")
    if bare and not isinstance(value, (str, type(None))):
        raise InvalidRequest(f"cannot update {key!r}: it holds no string; do: leave --string out")
    text = (value or "") if bare else data.dumps(value) + "\n"
    program = given.command[0]
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 (running the user's own command is what this verb is for)
            given.command,
            input=text.encode(),
            stdout=subprocess.PIPE,
            env={**os.environ, "COSESSION_KEY": key},
            check=False,
        )
    except OSError as error:
        raise InvalidRequest(
            f"cannot update {key!r}: {program!r} cannot be run: {error.strerror}; do: name a command"
        ) from None
    if done.returncode:
        how = f"ended with {done.returncode}" if done.returncode > 0 else f"was ended by signal {-done.returncode}"
        raise InvalidRequest(
            f"cannot update {key!r}: {program!r} {how}, so nothing was written; do: mend what it says",
            data={"exit_code": done.returncode},
        )
    return _value_of(done.stdout, key, program, bare=bare)


def _value_of(output: bytes, key: str, program: str, *, bare: bool) -> Any:
    try:
        if bare:
            return output.decode()
        if output.strip():
            return data.loads(output.decode())
        why = "empty"
    except UnicodeDecodeError:
        why = "not valid UTF-8"
    except ValueError as error:
        why = str(error)
    raise InvalidRequest(
        f"cannot update {key!r}: what {program!r} printed is {why}, so nothing was written; do: let it print JSON, or "
        "take any text with --string"
    )


UPDATE = Verb(
    "update",
    "KEY -- COMMAND ...",
    run,
    summary="Change an entry with a command, without losing what others write meanwhile; print the new revision.",
    text="The command gets the value as JSON on standard input (null when there is none) and prints the new one as\n"
    "JSON. It is written only if the entry is still the one that was read; else the command runs again on what\n"
    "stands now, a few times; then exit 3. When the command fails or prints no JSON, nothing is written.\n"
    "$COSESSION_KEY is the key.",
    options=(
        Option("--string", "", "the value is a string: bare text in, bare text out"),
        Option("--ttl", "S", "the entry expires S seconds after its last write"),
        Option("--ephemeral", "", "the entry ends with your session"),
    ),
    examples=(
        ("cosession update count -- jq '. + 1'", "count; any number of these at once lose nothing"),
        ("cosession update plan/next -- jq '.done += [\"parser\"]'", "append to a list inside"),
        ("cosession update motto --string -- tr a-z A-Z", "a string, through any filter"),
    ),
    words=(1, 1),
    takes_command=True,
)
