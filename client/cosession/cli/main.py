"""The entry point of `cosession`: finds the verb, runs it, and turns whatever went wrong into a message and a code.

Rule: a verb's module is loaded only when that verb is asked for, and no traceback ever reaches a user: errors of the
catalogue end with their own exit code, Ctrl-C with 130, a reader that hung up (`| head`) with 141, as for any program
that SIGPIPE ends.
"""

from __future__ import annotations

import os
import sys

from cosession.cli import options
from cosession.errors import CosessionError, InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosession.cli.options import Verb

#: Every verb: where it lives and what `cosession --help` says of it, by groups in that order.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "start here": {
        "demo": ("cosession.cli.demo:DEMO", "the product in under a minute, with real processes"),
    },
    "the daemon": {
        "status": ("cosession.cli.status:STATUS", "what the daemon is doing"),
        "sockname": ("cosession.cli.sockname:SOCKNAME", "the path of its socket"),
        "start": ("cosession.cli.life:START", "start it (it also starts by itself when needed)"),
        "stop": ("cosession.cli.life:STOP", "stop it in order"),
        "restart": ("cosession.cli.life:RESTART", "stop, then start"),
        "metrics": ("cosession.cli.metrics:METRICS", "what it counts and measures, for a monitor"),
        "logs": ("cosession.cli.logs:LOGS", "its log, in the background or under systemd"),
        "config show": ("cosession.cli.config:SHOW", "every key of the configuration with its value"),
        "config check": ("cosession.cli.config:CHECK", "is the file right, and what would it change"),
        "config path": ("cosession.cli.config:PATH", "where the file is, or would be"),
    },
    "the shared context": {
        "get": ("cosession.cli.get:GET", "print one entry"),
        "put": ("cosession.cli.put:PUT", "write one entry"),
        "merge": ("cosession.cli.write:MERGE", "change parts of an entry (JSON merge patch)"),
        "add": ("cosession.cli.write:ADD", "add a number to an entry"),
        "append": ("cosession.cli.write:APPEND", "append to the list of an entry"),
        "update": ("cosession.cli.update:UPDATE", "read, change with a command, write back; nothing is lost"),
        "delete": ("cosession.cli.write:DELETE", "delete one entry; its history stays"),
        "ls": ("cosession.cli.ls:LS", "list entries"),
        "revert": ("cosession.cli.revert:REVERT", "put back what stood at an earlier revision"),
        "purge": ("cosession.cli.revert:PURGE", "take the values of an entry out for good"),
        "history": ("cosession.cli.history:HISTORY", "the last versions of an entry"),
        "diff": ("cosession.cli.diff:DIFF", "what changed between two versions, or two entries"),
        "blame": ("cosession.cli.blame:BLAME", "who wrote each part of an entry"),
        "txn": ("cosession.cli.write:TXN", "compare and write several entries at once, all or nothing"),
        "watch": ("cosession.cli.watch:WATCH", "print changes as they land"),
        "compact": ("cosession.cli.compact:COMPACT", "drop the older part of the log"),
    },
    "sessions": {
        "sessions": ("cosession.cli.sessions:SESSIONS", "who is at work"),
        "explain session": ("cosession.cli.sessions:EXPLAIN", "why a session counts as alive or dead"),
        "simulate crash": ("cosession.cli.drill:SIMULATE_CRASH", "what a crash would do, as a drill"),
        "checkpoint": ("cosession.cli.checkpoints:SAVE", "save what a session has done and is about to do"),
        "checkpoint list": ("cosession.cli.checkpoints:LIST", "what was saved"),
        "checkpoint show": ("cosession.cli.checkpoints:SHOW", "one of them, and what it is worth"),
        "recover": ("cosession.cli.recover:RECOVER", "take over from a session that died"),
        "audit": ("cosession.cli.audit:AUDIT", "what the daemon judged, refused and was told to do"),
    },
    "claims": {
        "claim": ("cosession.cli.claims:CLAIM", "claim files, globs or names for a session"),
        "release": ("cosession.cli.claims:RELEASE", "give claims up"),
        "claims": ("cosession.cli.claims:CLAIMS", "who holds what, and who waits"),
        "why-not": ("cosession.cli.claims:WHY_NOT", "why a claim is denied, now and before"),
        "explain claim": ("cosession.cli.claims:EXPLAIN", "why a claim stands, and when it ends"),
    },
    "mail": {
        "send": ("cosession.cli.mail:SEND", "write a letter to a session, or to all of a project"),
        "inbox": ("cosession.cli.mail:INBOX", "the letters of a session, and those to come"),
    },
    "AI clients": {
        "hook": ("cosession.cli.hook:HOOK", "tell the daemon of an event of a client; for its settings"),
    },
    "backups": {
        "backup now": ("cosession.cli.backup:NOW", "make one, and verify it"),
        "backup list": ("cosession.cli.backup:LIST", "what backups there are"),
        "backup verify": ("cosession.cli.backup:VERIFY", "read them from end to end"),
        "backup restore": ("cosession.cli.restore:RESTORE", "put one in the place of the store"),
        "backup export": ("cosession.cli.export:EXPORT", "what one holds, as JSON lines"),
        "salvage": ("cosession.cli.salvage:SALVAGE", "what can be proved of a damaged store, as a new one"),
        "rescue": ("cosession.cli.rescue:RESCUE", "when something is wrong: back to the newest store that is whole"),
    },
    "is all well": {
        "doctor": ("cosession.cli.doctor:DOCTOR", "what is wrong, and what to do about it"),
        "preflight": ("cosession.cli.preflight:PREFLIGHT", "may an action begin in this worktree"),
        "checklist": ("cosession.cli.checklist:CHECKLIST", "one page for the day"),
        "services": ("cosession.cli.services:SERVICES", "how your services are, and how available"),
        "services restart": ("cosession.cli.services:RESTART", "restart one of them"),
    },
    "as a service": {
        "service install": ("cosession.cli.service:INSTALL", "a unit of systemd, or an agent of launchd"),
        "service uninstall": ("cosession.cli.service:UNINSTALL", "take exactly that away again"),
        "service status": ("cosession.cli.service:STATUS", "how it stands with the service manager"),
        "service restart": ("cosession.cli.service:RESTART", "after an upgrade; nobody loses anything"),
        "service logs": ("cosession.cli.service:LOGS", "what the service manager has of it"),
    },
    "the shell": {
        "completion": ("cosession.cli.completion:COMPLETION", "print what lets a shell complete verbs, keys, sessions"),
    },
    "debugging": {
        "debug ping": ("cosession.cli.ping:PING", "how long a round trip takes"),
        "debug call": ("cosession.cli.call:CALL", "call any method and print its result"),
        "debug raw": ("cosession.cli.debug.raw:RAW", "send bytes as they are, and see what they mean"),
        "debug tail": ("cosession.cli.debug.tail:TAIL", "the traffic of the socket, live"),
        "debug record": ("cosession.cli.debug.record:RECORD", "write a conversation into a file"),
        "debug replay": ("cosession.cli.debug.replay:REPLAY", "hold it again, and compare the answers"),
        "debug clients": ("cosession.cli.debug.tables:CLIENTS", "who is connected"),
        "debug watches": ("cosession.cli.debug.tables:WATCHES", "what is watched, and who is behind"),
        "debug tasks": ("cosession.cli.debug.tables:TASKS", "what the daemon is doing at this moment"),
        "debug queues": ("cosession.cli.debug.tables:QUEUES", "how full everything is"),
        "debug locks": ("cosession.cli.debug.tables:LOCKS", "what is held, and who waits"),
        "debug trace": ("cosession.cli.debug.trace:TRACE", "where the time of requests goes"),
        "debug loglevel": ("cosession.cli.debug.loglevel:LOGLEVEL", "log more or less, for a while"),
        "debug statedir": ("cosession.cli.debug.statedir:STATEDIR", "what lies in the state directory"),
        "debug metrics": ("cosession.cli.debug.metrics:METRICS", "counters, limits and latencies, for people"),
    },
}
VERBS: dict[str, str] = {verb: target for group in GROUPS.values() for verb, (target, _) in group.items()}
#: For programs, not for people: listed nowhere.
_HIDDEN = {"complete": "cosession.cli.complete:COMPLETE"}
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = PIPE_CLOSED
    except CosessionError as error:
        code = _report(error, arguments)
    except OSError as error:
        code = _report(_foreign(error), arguments)
    return _let_go_of_output(code)


def load(target: str) -> Verb:
    """The verb at `module:NAME`."""
    module, _, name = target.partition(":")
    __import__(module)
    verb: Verb = getattr(sys.modules[module], name)
    return verb


def _run(arguments: list[str]) -> int:
    leading, rest = leading_options(arguments)
    if not rest or rest[0] in ("--help", "-h", "--version", "help"):
        return _about(leading, rest)
    target, taken = VERBS.get(" ".join(rest[:2])), min(len(rest), 2)
    if target is None:
        target, taken = VERBS.get(rest[0], _HIDDEN.get(rest[0])), 1
    if target is None:
        return _unknown(rest)
    verb = load(target)
    given = options.parse(verb, leading + rest[taken:])
    if given is None:
        return _print(options.help_text(verb))
    return verb.run(given)


def leading_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Options before the verb belong to the verb: `cosession --json get k`."""
    valued = {option.name for option in options.COMMON if option.value}
    flags = {option.name for option in options.COMMON if not option.value}
    end = 0
    while end < len(arguments) and arguments[end].partition("=")[0] in valued | flags:
        end += 2 if arguments[end] in valued else 1
    return arguments[:end], arguments[end:]


def _about(leading: list[str], rest: list[str]) -> int:
    """`cosession`, `--help`, `--version` and `help VERB`."""
    if rest and rest[0] == "--version":
        from cosession._version import __version__

        return _print(f"cosession {__version__}\n")
    if rest[:1] == ["help"] and len(rest) > 1:
        return _run([*leading, *rest[1:], "--help"])
    lines = ["usage: cosession VERB [WORDS] [OPTIONS]", ""]
    lines += ["One shared, versioned memory and one referee for the AI coding sessions of this machine."]
    for group, verbs in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {verb:<16} {about}" for verb, (_, about) in verbs.items())]
    lines += ["", "`cosession VERB --help` explains a verb with examples; every verb takes --json.", ""]
    return _print("\n".join(lines))


def _unknown(rest: list[str]) -> int:
    """Raises the error for a word that is no verb; a group's own name (`debug`) lists what is in it."""
    word = rest[0]
    members = [verb for verb in VERBS if verb.startswith(word + " ")]
    if members:
        named = f"{word} {rest[1]}" if len(rest) > 1 and not rest[1].startswith("-") else ""
        if not named and rest[1:2] in ([], ["--help"], ["-h"]):
            about = {verb: text for group in GROUPS.values() for verb, (_, text) in group.items()}
            return _print("".join(f"cosession {verb:<16} {about[verb]}\n" for verb in members))
        guess = options.did_you_mean(named, members) if named else ""
        raise InvalidRequest(
            f"cannot run {named or word!r}: there is no such verb{guess}; "
            f"do one of: {', '.join(f'cosession {verb}' for verb in members)}",
            code="unknown_method",
        )
    if word.startswith("-"):
        raise InvalidRequest(
            f"cannot run `cosession {word}`: no such option; do: cosession --help", code="unknown_method"
        )
    guess = options.did_you_mean(word, VERBS)
    raise InvalidRequest(
        f"cannot run {word!r}: there is no such verb{guess}; do: cosession --help", code="unknown_method"
    )


def _print(text: str) -> int:
    if sys.stdout is not None:
        sys.stdout.write(text)
    return 0


def _report(error: CosessionError, arguments: list[str]) -> int:
    """Say what went wrong: to programs that asked for JSON on standard output, else to people."""
    from cosession.cli import render

    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    try:
        if "--json" in own:
            body = {
                "code": error.code,
                "message": error.message,
                "retryable": error.retryable,
                "data": plain(error.data),
            }
            render.json_line({"error": body})
            if sys.stdout is not None:
                sys.stdout.flush()
        elif sys.stderr is not None:
            if sys.stdout is not None:
                sys.stdout.flush()
            text = error.message if error.message.startswith("cannot ") else f"cannot go on: {error.message}"
            render.note(text)
    except BrokenPipeError:
        return PIPE_CLOSED
    except OSError:
        pass  # there is nowhere left to say it
    return error.exit_code


def plain(value: object) -> object:
    """`value` as JSON data: structs (an entry inside a conflict, say) become maps."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "__struct_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _foreign(error: OSError) -> CosessionError:
    where = f" {error.filename!r}" if error.filename else ""
    return CosessionError(
        f"cannot use{where or ' a file or the output'}: {error.strerror or error}; see to its owner, mode and space",
        code="io_error",
    )


def _let_go_of_output(code: int) -> int:
    """Leave nothing to flush: the interpreter would try again at exit and complain about a closed pipe."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code
