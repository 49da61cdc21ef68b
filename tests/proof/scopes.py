"""Which sources a proof is about: what it counted holds for exactly these, and is dropped when one of them changes.

A proof names the modules whose promises it tries (`sources`) and what comes along without being tried (`beside`): a
daemon is started whole, but a kill loop that never claims a thing says nothing about claims, and loses nothing when
they change. What its tool imports, and what the daemon imports that it starts, must be in one or the other; see
test_scopes.py.

Rule: comments, docstrings and layout count for nothing, every other change of a source does.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from source_tree import PACKAGES, ROOT, Module, imports, resolve

DAEMON: Final = "cosessiond.__main__"

_SHARED: Final = (
    "cosession.errors",
    "cosession.model",
    "cosession.values",
    "cosession.messages.base",
    "cosession.messages.limits",
)
_WIRE: Final = ("cosession.wire", "cosession.hookwire", "cosession.protocol", "cosession.callids")
_STORE: Final = (
    *_SHARED,
    "cosession.config",
    "cosessiond.clock",
    "cosessiond.metrics",
    "cosessiond.store.*",
    "cosessiond.process.*",
    "cosessiond.opening",
)
_SERVING: Final = (
    *_WIRE,
    "cosession.messages.store",
    "cosession.messages.watches",
    "cosessiond.server.runqueue",
    "cosessiond.server.conflicts",
    "cosessiond.server.waiting",
    "cosessiond.server.roomwatch",
    "cosessiond.server.shortage",
    "cosessiond.server.core",
    "cosessiond.server.conversation",
    "cosessiond.server.admission",
    "cosessiond.server.proposing",
    "cosessiond.server.listener",
    "cosessiond.server.handlers.reads",
    "cosessiond.server.handlers.writes",
    "cosessiond.server.handlers.watch",
    "cosessiond.app",
    "cosessiond.__main__",
)
_BACKUPS: Final = ("cosession.messages.backup", "cosessiond.backups.*", "cosessiond.server.handlers.backup")
_CLAIMS: Final = (
    "cosession.messages.claims",
    "cosessiond.sessions.*",
    "cosessiond.claims.*",
    "cosessiond.server.holders",
    "cosessiond.server.handlers.sessions",
    "cosessiond.server.handlers.claims",
)

#: A daemon is started whole. Of what it serves by, `server.assembly`, `server.table` and `messages` itself are beside
#: too: they list what there is and grow with each verb; what they leave out, the tests of that verb miss at once.
_WHOLE_DAEMON: Final = ("cosession.*", "cosessiond.*")

#: What comes along with the store alone, and is not what is tried.
_BESIDE: Final = (
    "cosession",
    "cosession._version",
    "cosession.paths",
    "cosession.peer",
    "cosession.project",
    "cosession.config",
    "cosession.configfile",
    "cosession.messages.*",
    "cosessiond",
    "cosessiond.sessions.*",
    "cosessiond.audit.*",
)


class Scope(NamedTuple):
    """`sources` and `beside` are modules, or packages with all in them (`.*`); what both name is tried.

    `daemon`: whether one is started, so that all it imports comes along.
    """

    sources: tuple[str, ...]
    beside: tuple[str, ...] = _WHOLE_DAEMON
    daemon: bool = True

    def tries(self, name: str) -> bool:
        """Whether the module is one that the proof is about."""
        return _within(name, self.sources)

    def names(self, name: str) -> bool:
        """Whether the module is accounted for."""
        return _within(name, (*self.sources, *self.beside))


#: By the name of the proof.
SCOPES: Final[dict[str, Scope]] = {
    "kill": Scope((*_STORE, *_SERVING, *_BACKUPS, "cosession.messages.past")),
    "history": Scope((*_STORE, *_SERVING)),
    "power": Scope((*_STORE, *_SERVING, *_BACKUPS, "cosessiond.maintenance.*", "cosessiond.server.handlers.purge")),
    "damage": Scope((*_STORE, "cosessiond.maintenance.*"), _BESIDE, daemon=False),
    "acts": Scope((*_STORE, "cosessiond.maintenance.*", "cosessiond.app", DAEMON)),
    "backups": Scope((*_STORE, *_SERVING, *_BACKUPS)),
    "frames": Scope((*_STORE, *_SERVING, "cosession.messages.*", "cosessiond.server.*")),
    "decoder": Scope((*_SHARED, *_WIRE), _BESIDE, daemon=False),
    "faults": Scope((*_STORE, *_SERVING, *_BACKUPS, "cosessiond.server.handlers.purge")),
    "floods": Scope((*_SHARED, *_WIRE, *_SERVING, "cosessiond.store.watch", "cosessiond.store.snapshot")),
    "claims": Scope((*_STORE, *_CLAIMS), daemon=False),
    "verdicts": Scope((*_CLAIMS, "cosession.messages.sessions")),
}


class Sources:
    """The packages and the tests under `root`, read as needed; what a proof draws in, and the hash of it."""

    def __init__(self, root: Path = ROOT) -> None:
        self._tests = root / "tests"
        self._product = {
            name: path
            for package, place in PACKAGES.items()
            for path in (root / place).rglob("*.py")
            if (name := ".".join(filter(None, (package, _name(path.relative_to(root / place))))))
        }
        self._tools = {_name(path.relative_to(self._tests)): path for path in self._tests.rglob("*.py")}
        self._known = {**self._tools, **self._product}
        self._drawn: dict[str, tuple[str, ...]] = {}
        self._digests: dict[str, bytes] = {}

    def code(self, scope: Scope, files: Iterable[str]) -> str:
        """The hash of what `scope` names and of the tool in `files` (below tests/)."""
        named = {name for name in self._product if scope.tries(name)}
        tool = {name for name in self._closure(map(_module, files)) if name in self._tools}
        found = hashlib.sha256()
        for name in sorted(named | tool):
            found.update(f"{name} ".encode() + self._digest(name))
        return found.hexdigest()[:16]

    def leaving(self, scope: Scope, files: Iterable[str]) -> list[str]:
        """What comes along with the tool and its daemon, and is named by neither half of the scope."""
        drawn = self._closure([*map(_module, files), *([DAEMON] if scope.daemon else [])])
        return sorted(name for name in drawn if name in self._product and not scope.names(name))

    def unmatched(self, scope: Scope) -> list[str]:
        """Sources that name nothing that is there."""
        return [each for each in scope.sources if not any(_within(name, (each,)) for name in self._product)]

    def _closure(self, begin: Iterable[str]) -> set[str]:
        seen: set[str] = set()
        todo = list(begin)
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                if name not in self._drawn:
                    self._drawn[name] = tuple(self._draw(name))
                todo += self._drawn[name]
        return seen

    def _draw(self, name: str) -> Iterator[str]:
        """What one module imports when it is run, with the packages around it; of a tool also the scripts it names."""
        path = self._known[name]
        tree = _Running().visit(ast.parse(path.read_bytes()))
        for imported in imports(Module(name, path, tree, "")):
            target = resolve(imported.target, self._known)
            while target:
                yield target
                target = resolve(target.rpartition(".")[0], self._known)
        if name in self._tools:
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
                    for place in (path.parent, self._tests):
                        script = _name((place / node.value).relative_to(self._tests))
                        if script in self._tools:
                            yield script

    def _digest(self, name: str) -> bytes:
        if name not in self._digests:
            bare = ast.dump(_Bare().visit(ast.parse(self._known[name].read_bytes())))
            self._digests[name] = hashlib.sha256(bare.encode()).digest()
        return self._digests[name]


class _Running(ast.NodeTransformer):
    """Without what only the type checker imports."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


class _Bare(ast.NodeTransformer):
    """Without docstrings, and other strings that stand alone."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def _name(path: Path) -> str:
    """The dotted name of a file below a package or below tests/; empty for the package's own __init__."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1:] == ("__init__",) else parts)


def _module(file: str) -> str:
    return _name(Path(file))


def _within(name: str, rooms: Iterable[str]) -> bool:
    return any(name == room or (room.endswith(".*") and f"{name}.".startswith(room[:-1])) for room in rooms)
