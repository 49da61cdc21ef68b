"""`cosession update`: read an entry, let a command change it, write it back if nobody did in between; else again.

The same steps as `Client.update` of the library, in the same rhythm; over `line`, because loading the library would
cost more than all the rest.

Rule: the command may run several times; nothing is written unless it succeeds and prints a value.
"""

from __future__ import annotations

import os

from cosession.cli import data, render
from cosession.cli.contended import write_in_rounds
from cosession.cli.line import Line
from cosession.cli.options import TTL_S_MAX, Given, Option, Verb, usage_error
from cosession.cli.scope import write_params
from cosession.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    runs = 0

    def changed(entry: dict[str, Any] | None) -> Any:
        nonlocal runs
        runs += 1
        return _through(given, key, entry["value"] if entry else None)

    value, reply = write_in_rounds(given, Line(given), params, changed)
    written = reply["written"]
    if given.flag("--json"):
        render.json_line({**written, "value": value, "runs": runs, "revision": written["mod_revision"]})
    else:
        render.line(str(written["mod_revision"]))
    return 0


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
    "stands now, in turn with others that update this entry; when that does not help, exit 3. A turn lasts 1 s.\n"
    "When the command fails or prints no JSON, nothing is written. $COSESSION_KEY is the key.",
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
