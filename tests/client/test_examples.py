"""Every example in a docstring of the public library runs as it stands, against a real daemon.

An example is an indented block behind a blank line that is Python: in the docstring of a package, a public class or a
method. `cosession` is imported for it; inside a class or method `client` is a connected client of that kind, too.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap

import pytest

import cosession

BEFORE = {
    "sync": "import cosession\nclient = cosession.connect()\n",
    "aio": "import asyncio, cosession\nasync def main():\n    client = await cosession.aio.connect()\n",
}


def blocks(text: str) -> list[str]:
    """The indented blocks of a docstring that are Python."""
    found: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("    "):
            code = textwrap.dedent(paragraph)
            try:
                compile(code, "", "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT
            except SyntaxError:
                continue
            found.append(code)
    return found


def examples() -> list[tuple[str, str]]:
    """Each example and where it stands."""
    places = [("cosession", cosession), ("cosession.sync", cosession.sync), ("cosession.aio", cosession.aio)]
    for package in ("sync", "aio"):
        for name in ("Client", "Session", "Watch"):
            thing = getattr(getattr(cosession, package), name)
            places.append((f"cosession.{package}.{name}", thing))
            places += [
                (f"cosession.{package}.{name}.{member}", value)
                for member, value in inspect.getmembers(thing)
                if not member.startswith("_")
            ]
    return [(where, code) for where, thing in places for code in blocks(inspect.getdoc(thing) or "")]


def run(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if "async with" in code or "await " in code:
        program = BEFORE["aio"] + textwrap.indent(code, "    ") + "\n    await client.close()\nasyncio.run(main())\n"
    else:
        program = BEFORE["sync"] + code + "\nclient.close()\n"
    command = [sys.executable, "-P", "-W", "error", "-c", program]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("where", "code"), examples(), ids=lambda text: text.split("\n")[0][:40])
def test_an_example_runs_as_it_stands(daemon, where, code):
    done = run(code, daemon.env)
    assert done.returncode == 0, f"{where}:\n{code}\n{done.stderr}"


def test_there_are_examples_and_a_wrong_one_is_seen(daemon):
    assert "cosession" in dict(examples())
    assert blocks("Text.\n\n    client.put('k', 1)\n\n    no python at all\n\nRule.") == ["client.put('k', 1)"]
    assert run("client.put('k', 1)", daemon.env).returncode == 0
    assert run("client.putt('k', 1)", daemon.env).returncode == 1
    assert run("await client.put('k', 1)", daemon.env).returncode == 0
