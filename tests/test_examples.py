"""Every example of the documentation is run against a real daemon, and shows what comes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import cosession
import documents
import examples
import tour
from harness import Daemon, private_home

#: The calls that have an example.
CALLS = ("get", "put", "update", "merge", "add", "append", "txn", "watch", "session")
TAUGHT = ("connect", *(f"Client.{name}" for name in CALLS))

FENCE = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def served():
    with private_home() as home, Daemon(home) as daemon:
        yield daemon


@pytest.fixture
def surroundings(served, request, monkeypatch):
    """What a program finds that uses that daemon: each test in a project of its own."""
    monkeypatch.setenv("COSESSION_HOME", str(served.home))
    monkeypatch.setenv("COSESSION_PROJECT", request.node.name)


@pytest.mark.parametrize("example", examples.examples(), ids=lambda example: example.name)
@pytest.mark.usefixtures("surroundings")
def test_example_shows_what_comes(example):
    if ".aio" in example.name:
        inside = "\n".join(f"    {line}" for line in example.code.splitlines())
        assert examples.run(f"async with cosession.aio.connect() as client:\n{inside}") == []
        return
    with cosession.connect() as client:
        assert examples.run(example.code, client=client) == []


@pytest.mark.parametrize("flavour", ["cosession", "cosession.aio"])
def test_the_most_used_calls_have_an_example(flavour):
    assert {f"{flavour}.{name}" for name in TAUGHT} <= {example.name for example in examples.examples()}


def not_as_shown(text):
    """The blocks of a document that print something else than the text behind them, or fail."""
    wrong = []
    for code, shown in FENCE.findall(text):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode or not tour.matches(shown, done.stdout):
            wrong.append(f"{code}\nprinted\n{done.stdout}{done.stderr}\nand not\n{shown}")
    return wrong


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.name)
@pytest.mark.usefixtures("surroundings")
def test_python_of_a_document_prints_what_it_shows(path):
    """The blocks of the tour are run as a part of it, see test_docs."""
    wrong = not_as_shown(path.read_text(encoding="utf-8"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("block", ["print(1)\n```\n\n```text\n2", "print(1)", "raise SystemExit(1)", "nonsense"])
def test_a_document_that_shows_something_else_is_noticed(block):
    assert len(not_as_shown(f"```python\n{block}\n```\n")) == 1


@pytest.mark.parametrize(
    "code",
    [
        "1 + 1  # -> 3",
        "[1, 2]  # -> [1, 2, 3]",
        "if False:\n    1 + 1  # -> 2",
        "for each in (1, 2):\n    each  # -> 1",
        "import asyncio\nawait asyncio.sleep(0, 'x')  # -> 'y'",
    ],
)
def test_example_with_another_result_fails(code):
    assert examples.run(code) != []


def test_example_with_that_result_passes():
    code = "1 + 1  # -> 2\n(\n    'a' +\n    'bc'\n)  # -> 'a...'\nfor each in (1, 2):\n    each  # -> 1, 2"
    assert examples.run(code) == []
    with pytest.raises(ZeroDivisionError):
        examples.run("1 / 0")


def test_blocks_are_found():
    assert examples.blocks("First.\n\nMore\n    than this:\n\n    a = 1\n\n    a\n\nLast.") == ["a = 1\n\na"]
    assert examples.blocks("First.\n\nMore.\n\n    a\n") == ["a"]
