"""The blocking client is the asyncio one, translated."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest

from cosession import aio, sync

_spec = importlib.util.spec_from_file_location("unasync", Path(__file__).with_name("unasync.py"))
unasync = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(unasync)


@pytest.mark.parametrize("module", unasync.MODULES)
def test_the_blocking_modules_are_up_to_date(module):
    text = (unasync.PACKAGE / "sync" / f"{module}.py").read_text(encoding="utf-8")
    assert text == unasync.translated(module), "do: python tests/client/unasync.py"


def test_every_rule_is_used():
    assert unasync.unused_rules() == []


def test_both_have_the_same_modules():
    names = [{path.name for path in (unasync.PACKAGE / flavour).glob("*.py")} for flavour in ("aio", "sync")]
    assert names[0] == names[1] == {f"{name}.py" for name in (*unasync.MODULES, "io", "__init__")}


@pytest.mark.parametrize("name", aio.__all__)
def test_both_have_the_same_names_and_parameters(name):
    one, other = getattr(aio, name), getattr(sync, name)
    assert inspect.signature(one).parameters.keys() == inspect.signature(other).parameters.keys()
    if inspect.isclass(one):
        for method in (each for each in vars(one) if not each.startswith("_")):
            assert hasattr(other, method)
