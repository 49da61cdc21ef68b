"""What importing costs: the package loads nothing but itself, the light modules nothing but the standard library."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cosession


def modules_after(program):
    """The names in sys.modules after `program` in a fresh interpreter, without those an empty one has."""
    found = []
    for text in (program, "pass"):
        command = [sys.executable, "-c", f"{text}; import sys; print(*sys.modules)"]
        found.append(set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()))
    return found[0] - found[1]


def test_the_package_loads_nothing_but_itself():
    assert modules_after("import cosession") == {"cosession"}


@pytest.mark.parametrize("module", ["paths", "project", "errors"])
def test_light_modules_load_nothing_heavy(module):
    loaded = modules_after(f"import cosession.{module}")
    assert {name for name in loaded if name.startswith("cosession")} <= {
        "cosession",
        "cosession.errors",
        f"cosession.{module}",
    }
    assert not loaded & {"pathlib", "typing", "dataclasses", "enum", "hashlib", "re", "json", "subprocess", "msgspec"}


def test_resolving_the_usual_places_loads_nothing_more():
    program = "import cosession.paths as p, cosession.project as j; p.socket_path(); p.lock_file(); j.project_of('/')"
    assert not modules_after(program) & {"pathlib", "typing", "hashlib", "re", "json", "subprocess"}


def test_the_blocking_client_loads_no_asyncio():
    assert "asyncio" not in modules_after("import cosession; cosession.connect")


@pytest.mark.parametrize("name", cosession.__all__)
def test_every_public_name_is_there(name):
    assert getattr(cosession, name) is not None
    assert name in dir(cosession)


def test_the_tables_agree():
    assert set(cosession.__all__) == set(cosession._HOMES)


def test_no_module_takes_the_place_of_a_public_name():
    program = "import cosession, cosession.aio, cosession.sync, cosession.reach; assert callable(cosession.connect)"
    modules_after(program)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="'cosession' has no attribute 'nonsense'"):
        _ = cosession.nonsense
    with pytest.raises(ImportError):
        from cosession import nonsense  # noqa: F401


def test_errors_are_caught_by_their_base():
    for name in ("Conflict", "Compacted", "EpochChanged", "TimedOut", "UnknownOutcome", "Unreachable", "Closed"):
        assert issubclass(getattr(cosession, name), cosession.CosessionError)
