"""Programs of users are checked against the installed wheel as `mypy --strict` sees it, since it ships `py.typed`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from source_tree import ROOT

HERE = Path(__file__).parent
CACHE = ROOT / ".mypy_cache" / "users"
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


def mypy(directory, *paths, python=sys.executable, cache=CACHE):
    """What mypy says of programs, in a place where nothing of the tree is found: neither source nor configuration."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--no-color-output"]
    command += ["--cache-dir", str(cache), "--python-executable", str(python)]
    done = subprocess.run([*command, *map(str, paths)], cwd=directory, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


def said(output, path):
    """By line: the types revealed, or the codes of errors."""
    found = {}
    for line, kind, text in re.findall(rf"^{re.escape(str(path))}:(\d+): (error|note): (.*)$", output, re.MULTILINE):
        revealed = re.fullmatch(r'Revealed type is "(.*)"', text)
        if kind == "error" or revealed:
            found.setdefault(int(line), []).append(revealed[1] if revealed else text.rpartition("[")[2].rstrip("]"))
    return {line: sorted(each) for line, each in found.items()}


def expected(text, *, revealed):
    """By line: what its comment says."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        code, comment, what = line.partition("  # ")
        if comment and code.strip().startswith("reveal_type(") == revealed:
            found[number] = [what] if revealed else what.split()
    return found


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return mypy(tmp_path_factory.mktemp("user"), HERE / "right.py", HERE / "wrong.py")


def test_the_right_program_has_the_types_it_says(output):
    found = expected((HERE / "right.py").read_text(encoding="utf-8"), revealed=True)
    assert len(found) > 25
    assert said(output, HERE / "right.py") == found


def test_the_wrong_program_is_refused_line_by_line(output):
    found = expected((HERE / "wrong.py").read_text(encoding="utf-8"), revealed=False)
    assert len(found) > 10
    assert said(output, HERE / "wrong.py") == found


def test_another_expectation_would_be_noticed(output):
    text = (HERE / "right.py").read_text(encoding="utf-8")
    seeded = text.replace("cosession.model.Entry | None", "cosession.model.Entry", 1)
    assert seeded != text
    assert said(output, HERE / "right.py") != expected(seeded, revealed=True)


def test_it_is_py_typed_that_does_it(tmp_path):
    """The same package without that file is untyped to mypy, so a wheel that lost it would fail the tests above."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (other,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    shutil.copytree(SITE_PACKAGES / "cosession", other / "cosession", ignore=shutil.ignore_patterns("py.typed"))
    program = tmp_path / "program.py"
    program.write_text("import cosession\n\nprint(cosession)\n", encoding="utf-8")
    assert "py.typed" in mypy(tmp_path, program, python=python, cache=os.devnull)
