"""Sizes, docstrings and liveness of modules hold, and the checker would notice if they did not."""

import pytest

import sizes

DOC = '"""Doc."""\n'


def seed(root, files, roots=()):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sizes.violations(root, roots)


def test_nothing_is_over():
    assert sizes.violations() == []


def test_well_made_tree_passes(tmp_path):
    files = {
        "client/cosession/__init__.py": DOC + "from cosession import wire",
        "client/cosession/wire.py": DOC
        + "def f(a, b, c, d, e, *, g):\n    'Doc.'\n    def inner(): ...\ndef _private(): ...",
        "client/cosession/cli/__init__.py": DOC + "LAZY = {'get': 'cosession.cli.get:main'}",
        "client/cosession/cli/get.py": DOC,
        "client/cosession/sync.py": DOC + "from cosession.cli import LAZY",
        "client/cosession/hook.py": DOC + "import cosession.sync",
        "tests/test_some.py": DOC + "def test_no_docstring_needed(): ...",
    }
    assert seed(tmp_path, files, roots=["cosession.hook"]) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (DOC + "\n" * 600, "601 lines, at most 600"),
        (DOC + "def _f():\n" + "    x = 1\n" * 70, "_f() has 71 lines, at most 70"),
        (DOC + "def _f(a, b, c, d, e, g): ...", "6 positional parameters"),
        (DOC + "class _C:\n    def m(self, a, b, c, d, e, g): ...", "6 positional parameters"),
        ("x = 1", "no module docstring"),
        ("", "empty"),
        (DOC + "def f(): ...", "f has no docstring"),
        (DOC + "async def f(): ...", "f has no docstring"),
        (DOC + "class C: ...", "C has no docstring"),
        (DOC + "class C:\n    'Doc.'\n    def m(self): ...", "C.m has no docstring"),
        (DOC + "if True:\n    def f(): ...", "f has no docstring"),
    ],
)
def test_seeded_violation_is_caught(tmp_path, text, complaint):
    path = "client/cosession/wire.py"
    found = seed(tmp_path, {"client/cosession/__init__.py": DOC + "from cosession import wire", path: text})
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert complaint in found[0]


def test_module_that_only_imports_itself_is_dead(tmp_path):
    files = {
        "client/cosession/__init__.py": DOC,
        "client/cosession/wire.py": DOC + "import cosession.wire",
    }
    (found,) = seed(tmp_path, files)
    assert found.startswith("client/cosession/wire.py:1: cosession.wire is imported by nothing")


def test_root_that_does_not_exist_is_named(tmp_path):
    (found,) = seed(tmp_path, {"client/cosession/__init__.py": DOC}, roots=["cosession.hook"])
    assert found.startswith("tests/sizes.py:1: ROOTS names cosession.hook, which does not exist")


def test_entry_points_are_alive(tmp_path):
    files = {
        "pyproject.toml": "[project.scripts]\ncosession = 'cosession.cli.main:main'",
        "client/cosession/__init__.py": DOC,
        "client/cosession/cli/__init__.py": DOC,
        "client/cosession/cli/main.py": DOC,
    }
    assert seed(tmp_path, files) == []


def test_files_over_the_aim_are_named(tmp_path):
    seed(tmp_path, {"client/cosession/__init__.py": DOC + "\n" * 300})
    assert sizes.warnings(tmp_path) == ["client/cosession/__init__.py: 301 lines, aim for 300"]
