"""The layer contracts: which module stands where, and what only one place may do. Run by the tests and by `make check`.

Imports only go down. A module that is in no table is an error: give it a room here, and think where it stands.
`name` is one module (or a package's own __init__), `name.*` a package and all in it, where inside anything goes.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from source_tree import ROOT, Module, imports, modules, resolve

#: Bottom to top. `.` is the package itself, that is its __init__.
LAYERS: Final[dict[str, tuple[str, ...]]] = {
    "cosession": (
        "_version",
        "errors",
        "nearest",
        "retries",  # what follows a failure; this low, since the fast verbs go by it too
        "positions",  # where a watch stands, likewise
        "rounds",  # likewise: what follows a conflict
        "differences",  # over plain JSON data, for the library and the fast verbs alike
        "threeway",
        "blame",
        "paths",
        "spool",  # files for the daemon, by whoever cannot reach it
        "peer",
        "project",
        "targets",
        "gitfacts",
        "recovering",
        "model",
        "messages.*",
        "config",  # above the messages: what it configures are their limits
        "configfile",
        "values",
        "callids",
        "wire",
        "hookwire",
        "protocol",
        "exchange.*",
        "reach",  # open the socket, start the daemon; DESIGN calls it connect, which is the public function
        "sync.*",
        "aio.*",
        ".",  # what users import: the names of the layers below, mostly lazily
        # One module for each capability of the client; they do not know one another (APART).
        "demo",
        "handoff",
        "commands",  # foreign programs, for those above it
        "services.*",
        "doctor.*",
        "service.*",
        "mcp",
        "hook",
        "cli.*",
        "__main__",
    ),
    "cosessiond": (
        ".",
        "clock",
        "metrics",
        "redaction",
        "process.*",
        "store",
        "store.record",
        "store.engine",
        "store.hash",
        "store.keys",
        "store.fullness",
        "store.migrations.*",
        "store.walcheck",
        "store.marks",
        "store.schema",
        "store.apply",
        "store.memory",
        "store.continuity",
        "store.links",
        "store.reads",
        "store.logged",
        "store.requests",
        "store.live",
        "store.wal",
        "store.behind",
        "store.writes",
        "store.ended",
        "store.epochs",
        "store.past",
        "store.trimming",
        "store.auditing",
        "store.purging",
        "store.copying",
        "store.summing",
        "store.scrubbing",
        "store.carving",
        "store.salvaging",
        "store.tables",
        "store.sqlite",
        "store.contents",
        "store.verifying",
        "store.backup",
        "store.proving",
        "store.holding",
        "store.pacing",
        "store.stalls",
        "store.room",
        "store.rationing",
        "store.tickets",
        "store.upkeep",
        "store.commit",
        "store.leases",
        "store.usage",
        "store.index",
        "store.snapshot",
        "store.queued",
        "store.quota",
        "store.revisions",
        "store.marking",
        "store.expiry",
        "store.public",
        "store.watch",
        "sessions",
        "sessions.procs",
        "sessions.identity",
        "sessions.verdict",
        "sessions.probes",
        "sessions.notifying",
        "sessions.pidfd",
        "sessions.kqueue",
        "sessions.watching",
        "sessions.ports",
        "sessions.records",
        "sessions.view",
        "sessions.admission",
        "sessions.authority",
        "sessions.explain",
        "sessions.planning",
        "sessions.drills",
        "sessions.liveness",
        "sessions.registry",
        "claims.*",
        "checkpoints.*",
        "mail.*",
        "audit.*",
        "backups.*",
        "recovery.*",
        "spool.*",
        "hooks.*",
        "server",
        "server.runqueue",
        "server.turnqueue",
        "server.turns",
        "server.conflicts",
        "server.waiting",
        "server.roomwatch",
        "server.damage",
        "server.scrubs",
        "server.holders",
        "server.addresses",
        "server.showing",
        "server.tails",
        "server.tracing",
        "server.loglevel",
        "server.attention",
        "server.core",
        "server.table",
        "server.conversation",
        "server.selfcheck",
        "server.admission",
        "server.proposing",
        "server.spooled",
        "server.telling",
        "server.hooking",
        "server.handlers.*",
        "server.assembly",
        "server.shortage",
        "server.listener",
        "maintenance.*",  # what is done on files while no daemon runs
        "opening",
        "spooling",
        "app",
        "__main__",
    ),
}

#: Neighbours that never import one another, whatever their order above.
APART: Final[tuple[tuple[str, ...], ...]] = (
    # Deaths reach the others as changes of the store, so that none waits for another.
    (
        "cosessiond.sessions.*",
        "cosessiond.claims.*",
        "cosessiond.checkpoints.*",
        "cosessiond.mail.*",
        "cosessiond.audit.*",
    ),
    # The specification and oracle shares no code with what it judges, except the hashes, which are the format.
    ("cosessiond.store.memory", "cosessiond.store.apply"),
    ("cosessiond.store.memory", "cosessiond.store.sqlite"),
    ("cosessiond.store.memory", "cosessiond.store.continuity"),
    ("cosessiond.store.memory", "cosessiond.store.reads"),
    ("cosessiond.store.memory", "cosessiond.store.links"),
    ("cosessiond.store.memory", "cosessiond.store.logged"),
    ("cosessiond.store.memory", "cosessiond.store.tables"),
    ("cosessiond.store.memory", "cosessiond.store.behind"),
    ("cosessiond.store.memory", "cosessiond.store.epochs"),
    ("cosessiond.store.memory", "cosessiond.store.trimming"),
    ("cosessiond.store.memory", "cosessiond.store.auditing"),
    ("cosessiond.store.memory", "cosessiond.store.past"),
    ("cosessiond.store.memory", "cosessiond.store.purging"),
    (
        "cosession.demo",
        "cosession.handoff",
        "cosession.doctor.*",
        "cosession.service.*",
        "cosession.mcp",
        "cosession.hook",
    ),
)

#: What the daemon may know of the client: the half that both sides share.
SHARED: Final = (
    "cosession._version",
    "cosession.errors",
    "cosession.nearest",
    "cosession.paths",
    "cosession.spool",
    "cosession.peer",
    "cosession.project",
    "cosession.targets",
    "cosession.config",
    "cosession.configfile",
    "cosession.model",
    "cosession.messages.*",
    "cosession.values",
    "cosession.callids",
    "cosession.wire",
    "cosession.hookwire",
    "cosession.protocol",
)

#: Foreign modules with one home in the daemon. Everything else is given the time and the random numbers it needs, which
#: is what lets the core run under a virtual clock; and the store file is opened in one place.
HOMES: Final[dict[str, tuple[str, ...]]] = {
    "time": ("cosessiond.clock",),
    "random": ("cosessiond.clock",),
    "secrets": ("cosessiond.clock",),
    "uuid": ("cosessiond.clock",),
    "os.urandom": ("cosessiond.clock",),
    "os.fsync": ("cosessiond.process.durable",),  # plain fsync is not enough on macOS
    "os.fdatasync": ("cosessiond.process.durable",),
    "sqlite3.connect": ("cosessiond.store.schema",),
    "sqlite3": (
        "cosessiond.store.schema",  # opens the file; the others take the open connection
        "cosessiond.store.fullness",
        "cosessiond.store.tables",
        "cosessiond.store.sqlite",
        "cosessiond.store.links",
        "cosessiond.store.reads",
        "cosessiond.store.logged",
        "cosessiond.store.requests",
        "cosessiond.store.behind",
        "cosessiond.store.writes",
        "cosessiond.store.epochs",
        "cosessiond.store.ended",
        "cosessiond.store.summing",
        "cosessiond.store.scrubbing",
        "cosessiond.store.salvaging",
        "cosessiond.store.trimming",
        "cosessiond.store.auditing",
        "cosessiond.store.past",
        "cosessiond.store.purging",
        "cosessiond.store.verifying",
        "cosessiond.store.copying",
        "cosessiond.store.proving",
        "cosessiond.store.holding",
        "cosessiond.store.contents",
        "cosessiond.store.migrations.*",
    ),
}

#: Calls that read a clock or draw a number without importing the module that says so.
SMUGGLED: Final[dict[str, str]] = {
    "datetime.now": "time",
    "datetime.utcnow": "time",
    "datetime.today": "time",
    "date.today": "time",
    "os.urandom": "os.urandom",
    "os.fsync": "os.fsync",
    "os.fdatasync": "os.fdatasync",
    "sqlite3.connect": "sqlite3.connect",
}

#: What one system only knows, by name, and the modules that may speak of it. So whoever mends something for one system
#: finds all of it; everything else is the same on both.
SYSTEMS: Final[dict[str, tuple[str, ...]]] = {
    r"sys\.platform": (
        "cosession.paths",
        "cosession.peer",
        "cosession.project",
        "cosession.cli.holder",
        "cosessiond.process.durable",
        "cosessiond.process.filesystems",
        "cosessiond.sessions.procs",
        "cosessiond.store.schema",
    ),
    r"_?(SO_PEER|SOL_LOCAL|LOCAL_PEER|XUCRED|UCRED)\w*": (
        "cosession.peer",
        "cosession.hook",  # self-contained
        "cosessiond.sessions.identity",
    ),
    r"_?(KQ_|EVFILT_|NOTE_)\w+": ("cosessiond.sessions.kqueue", "cosession.cli.life"),
    r"kqueue|kevent": ("cosessiond.sessions.watching", "cosession.cli.life"),
    r"pidfd_open": ("cosessiond.sessions.watching", "cosessiond.sessions.identity", "cosession.cli.life"),
    r"_?F_(FULL|BARRIER)FSYNC": ("cosessiond.process.durable",),
    r"_?MNT_\w+|f?statfs\b.*": ("cosessiond.process.filesystems",),
    r"SOCK_(NONBLOCK|CLOEXEC)|accept4|eventfd|epoll|memfd_create|posix_fadvise": (),  # of Linux: there is another way
}

#: sans-IO: these take bytes and give bytes.
SANS_IO: Final = (
    "cosession.retries",
    "cosession.rounds",
    "cosession.differences",
    "cosession.threeway",
    "cosession.blame",
    "cosession.values",
    "cosession.callids",
    "cosession.wire",
    "cosession.hookwire",
    "cosession.protocol",
    "cosession.exchange.*",
)
IO_MODULES: Final = ("asyncio", "select", "selectors", "socket", "subprocess", "threading", "time")

#: On the fast path of the hook and the command line: the standard library, and of ours only what is named.
LIGHT: Final[dict[str, tuple[str, ...]]] = {
    "cosession._version": (),
    "cosession.errors": (),
    "cosession.retries": (),
    "cosession.nearest": (),
    "cosession.rounds": ("cosession.errors",),
    "cosession.differences": (),
    "cosession.threeway": ("cosession.differences",),
    "cosession.blame": ("cosession.differences",),
    "cosession.paths": ("cosession.errors",),
    "cosession.spool": ("cosession.errors", "cosession.paths", "cosession"),
    "cosession.peer": (),
    "cosession.hook": ("cosession.paths", "cosession.project"),  # both only where the fast way is over
}


def violations(root: Path = ROOT) -> list[str]:
    """Every broken contract under `root`, each as a line to read and act on."""
    known = modules(root)
    found: list[str] = []
    for module in known.values():
        where = module.path.relative_to(root)
        if _rank(module.name) is None:
            found.append(f"{where}:1: {module.name} stands nowhere; do: give it a room in tests/layers.py")
            continue
        for line, why in _judge(module, known):
            found.append(f"{where}:{line}: {why}")
    return found


def _judge(module: Module, known: dict[str, Module]) -> Iterator[tuple[int, str]]:
    for imported in imports(module):
        target = resolve(imported.target, known)
        if target is None:
            why = _judge_foreign(module.name, imported.target)
        elif target == module.name or _covering(target) == _covering(module.name):
            why = None
        else:
            why = _judge_ours(module.name, target)
        if why:
            yield imported.line, f"{module.name} {why}"
    yield from _judge_systems(module)
    if module.package == "cosessiond":
        yield from _judge_calls(module)


def _judge_ours(name: str, target: str) -> str | None:
    """Why the one module of ours must not import the other, or None."""
    if name in LIGHT and target not in LIGHT[name]:
        return f"imports {target}, but is light: standard library only"
    if name.startswith("cosessiond.") != target.startswith("cosessiond."):
        if target.startswith("cosessiond"):
            return f"imports {target}: the client never imports the daemon"
        if not _within(target, SHARED):
            return f"imports {target}, which is not of the half that both sides share"
        return None
    mine, other = _rank(name), _rank(target)
    if mine is None or other is None:
        return None  # reported as standing nowhere
    if other > mine:
        return f"imports {target}, which stands above it: imports only go down"
    for group in APART:
        homes = [next((room for room in group if _matches(each, room)), None) for each in (name, target)]
        if None not in homes and homes[0] != homes[1]:
            return f"imports {target}, its neighbour: they never import one another"
    return None


def _judge_foreign(name: str, target: str) -> str | None:
    """Why the module must not import this foreign module or name, or None."""
    top = target.partition(".")[0]
    if name.startswith("cosessiond"):
        for foreign, homes in HOMES.items():
            if (target == foreign or target.startswith(foreign + ".")) and not _within(name, homes):
                return f"imports {target}; only {', '.join(homes)} may"
    if _within(name, SANS_IO) and top in IO_MODULES:
        return f"imports {target}, but does no input or output"
    if name in LIGHT and top not in sys.stdlib_module_names:
        return f"imports {target}, but is light: standard library only"
    return None


def _judge_calls(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            dotted = ast.unparse(node.func)
            for call, foreign in SMUGGLED.items():
                if (dotted == call or dotted.endswith("." + call)) and not _within(module.name, HOMES[foreign]):
                    yield node.lineno, f"{module.name} calls {dotted}(); only {', '.join(HOMES[foreign])} may"


def _judge_systems(module: Module) -> Iterator[tuple[int, str]]:
    """What is of one system, as a name, as the last part of a dotted one, or as the text of getattr."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            words = {ast.unparse(node), node.attr}
        elif isinstance(node, ast.Name):
            words = {node.id}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            words = {each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)}
        else:
            continue
        for pattern, homes in SYSTEMS.items():
            if not _within(module.name, homes) and (found := next(filter(re.compile(pattern).fullmatch, words), "")):
                yield node.lineno, f"{module.name} speaks of {found}; only {', '.join(homes) or 'nobody'} may"


def _room(package: str, name: str) -> str:
    return package if name == "." else f"{package}.{name}"


def _matches(name: str, room: str) -> bool:
    if room.endswith(".*"):
        return name == room[:-2] or name.startswith(room[:-1])
    return name == room


def _within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(_matches(name, room) for room in rooms)


def _covering(name: str) -> str | None:
    """The room a module is in: its own, or the package that is one room."""
    package = name.partition(".")[0]
    return next((room for each in LAYERS[package] if _matches(name, room := _room(package, each))), None)


def _rank(name: str) -> int | None:
    """How high a module stands in its package; None when it has no room."""
    package = name.partition(".")[0]
    return next((i for i, each in enumerate(LAYERS[package]) if _matches(name, _room(package, each))), None)


def main() -> int:
    """Print what is broken; 1 if anything is."""
    found = violations()
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
