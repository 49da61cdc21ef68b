"""The modules that the fast verbs may load: the start of a command is what they cost, and every module adds to it.

When this fails, a new module got onto the fast path. Load it inside the function that needs it, or, when it is worth
its milliseconds to every `cosession get`, add it here with that reason. `tests/bench/cli_cost.py` shows what it costs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cosession

#: What Python itself needs for a script on disk; loaded before us in any real start.
PYTHON = {
    *("__future__", "_collections_abc", "errno", "genericpath", "os", "os.path", "posixpath", "stat", "_stat"),
}
#: Of ours, for every verb.
FRONT = {"cosession", "cosession.cli", "cosession.cli.main", "cosession.cli.options", "cosession.errors"}
#: The socket, JSON, what is shown.
LINE = {
    "_json",
    "_socket",
    "cosession.cli.data",
    "cosession.cli.line",
    "cosession.cli.render",
    "cosession.paths",
    "cosession.peer",  # nobody is asked before the kernel has said who it is
    "cosession.retries",
}
PROJECT = {"cosession.cli.scope", "cosession.project"}
#: What lasts on top of one question.
WATCH = {
    "cosession.cli.changed",
    "cosession.cli.following",
    "cosession.cli.live",
    "cosession.positions",
    "select",
}

FAST = {
    ("get", "k"): {*LINE, *PROJECT, "cosession.cli.get"},
    ("get", "k", "--json"): {*LINE, *PROJECT, "cosession.cli.get"},
    ("put", "k", '{"a": [1, 2.5, null]}'): {*LINE, *PROJECT, "cosession.cli.put", "cosession.cli.spooling"},
    ("put", "k", "plain text", "--expect", "1"): {*LINE, *PROJECT, "cosession.cli.put", "cosession.cli.spooling"},
    ("ls",): {*LINE, *PROJECT, "cosession.cli.ls"},
    ("ls", "--long"): {*LINE, *PROJECT, "cosession.cli.ls"},
    ("status",): {*LINE, "cosession.cli.status"},
    ("status", "--json"): {*LINE, "cosession.cli.status"},
    ("debug", "ping"): {*LINE, "cosession.cli.ping"},
    ("debug", "ping", "--count", "3"): {*LINE, "cosession.cli.ping"},
    ("metrics",): {*LINE, "cosession.cli.metrics", "cosession.cli.openmetrics"},
    ("metrics", "--json"): {*LINE, "cosession.cli.metrics", "cosession.cli.openmetrics"},
    ("sockname",): {"cosession.cli.data", "cosession.cli.render", "cosession.paths", "cosession.cli.sockname"},
    ("watch", "--count", "1"): {*LINE, *PROJECT, *WATCH, "cosession.cli.watch"},
    ("--version",): {"cosession._version"},
}

SHOW = """
import sys
sys.path[:0] = {paths!r}
before = set(sys.modules)
from cosession.cli.main import main
code = main({arguments!r})
print(code, *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def loaded(cli, *arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command and the modules it loaded, in a Python that has loaded nothing else (no `site`)."""
    paths = [str(Path(cosession.__file__).parent.parent)]
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", SHOW.format(paths=paths, arguments=list(arguments))],
        env=cli.env,
        cwd=cli.cwd,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    code, *modules = done.stderr.splitlines()[-1].split()
    return int(code), set(modules)


@pytest.mark.parametrize("arguments", list(FAST), ids=" ".join)
def test_a_fast_verb_loads_only_what_is_on_the_list(cli, arguments):
    cli.ok("put", "k", '{"a": 1}')
    code, modules = loaded(cli, *arguments)
    assert code == 0
    new = modules - PYTHON - FRONT - FAST[arguments]
    assert not new, f"new on the fast path: {', '.join(sorted(new))}"


def test_the_list_names_nothing_that_is_not_loaded(cli):
    cli.ok("put", "k", "1")
    for arguments, allowed in FAST.items():
        _, modules = loaded(cli, *arguments)
        assert (FRONT | allowed) - modules - {"_json"} == set(), arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ("merge", "k", "{}"),
        ("add", "n"),
        ("append", "l", "1"),
        ("delete", "k"),
        ("history", "k"),
        ("diff", "k"),
        ("blame", "k"),
        ("sessions",),
        ("txn", "{}"),
        ("debug", "call", "ping"),
        ("debug", "clients"),
        ("debug", "trace"),
    ],
)
def test_other_single_questions_need_no_library_either(cli, arguments):
    cli.ok("put", "k", "{}")
    code, modules = loaded(cli, *arguments)
    assert code == 0
    assert not modules & {"msgspec", "json", "socket", "asyncio", "re", "typing"}


def test_update_needs_no_library_either(cli):
    code, modules = loaded(cli, "update", "k", "--", "echo", "1")
    assert code == 0
    assert not modules & {"msgspec", "json", "socket", "asyncio", "cosession.sync"}
