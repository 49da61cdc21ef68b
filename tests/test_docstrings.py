"""Docstrings of the public API say what a caller must know; each check would notice what is missing."""

from __future__ import annotations

import contextlib
import inspect
import pydoc
import re
import subprocess
import sys

import msgspec
import pytest

import cosession
import docstrings
from cosession import model, sync
from cosession.messages import REQUESTS
from cosession.messages.sessions import Layer
from source_tree import ROOT

PROTOCOL = (ROOT / "client" / "PROTOCOL.md").read_text(encoding="utf-8")


def test_everything_public_has_a_docstring():
    assert docstrings.undocumented(docstrings.everything()) == []


def test_every_parameter_is_explained():
    assert docstrings.unnamed_parameters(docstrings.routines()) == []


def test_every_refusal_that_the_protocol_names_is_named():
    assert docstrings.unnamed_errors(docstrings.routines(), PROTOCOL) == []


def test_what_methods_send_is_what_is_said_here(daemon, monkeypatch):
    """So that no refusal is left out above: each method is called once, and may send only what SENDS says."""
    sent = []
    call = sync.Client.call

    def recorded(self, request, *, timeout_s=None):
        sent.append(request.method)
        return call(self, request, timeout_s=timeout_s)

    monkeypatch.setattr(sync.Client, "call", recorded)
    arguments = {
        "update": ("a", lambda _: 1),
        "put": ("a", 1),
        "merge": ("a", {}),
        "compact": (1,),
        "revision_at": (0.0,),
        "explain": ("x",),
    }
    named = {"revert": {"to_revision": 1}, "session": {"heartbeat_s": 0}}
    by_itself = {"watch", "follow_audit"}  # over a connection of its own
    without = {"range", "txn", "audit", "session", "sessions", "status", "ping", "backup", "backups"}
    with cosession.connect(daemon.socket) as client:
        for name in sorted(set(docstrings.SENDS) - by_itself):
            del sent[:]
            with contextlib.suppress(cosession.CosessionError):
                getattr(client, name)(*arguments.get(name, () if name in without else ("a",)), **named.get(name, {}))
            assert sent, name
            assert set(sent) <= set(docstrings.SENDS[name]), name


def test_every_method_is_known():
    methods = {name.rpartition(".")[2] for name, _, owner in docstrings.routines() if owner is sync.Client}
    assert methods == {*docstrings.SENDS, *docstrings.SENDS_NOTHING}
    assert set().union(*docstrings.SENDS.values()) <= set(REQUESTS)


def test_every_field_that_is_handed_out_is_explained():
    assert docstrings.unnamed_fields(docstrings.handed_out()) == []


def test_what_is_measured_has_a_unit():
    assert docstrings.unmeasured(docstrings.handed_out()) == []


@pytest.mark.parametrize("told", [docstrings.SOURCES, docstrings.NUMBERS], ids=["sources", "numbers"])
def test_sources_and_limits_are_told(told):
    assert docstrings.unsourced(told) == []


def test_what_is_handed_out_is_found():
    """By return types and fields, also where no name of the package leads to it."""
    assert {model.Entry, model.Session, model.Instance, model.Written, Layer} <= docstrings.handed_out()


# -- help() ----------------------------------------------------------------------------------------------------------


def test_the_package_tells_of_every_name():
    assert [name for name in cosession.__all__ if f"`{name}`" not in cosession.__doc__] == []


def test_help_shows_every_name_before_any_was_used():
    """The names load their modules when they are first used; help() and dir() know them before."""
    program = "import cosession; before = dir(cosession); help(cosession); print('dir:', *before)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    text, _, names = shown.rpartition("dir: ")
    assert set(cosession.__all__) <= set(names.split())
    for name in set(cosession.__all__) - {"__version__"}:
        assert re.search(rf"^    (class )?{name}\b", text, re.MULTILINE), name
    assert text.index("connect") < text.index("PACKAGE CONTENTS")


def test_help_of_connect_shows_how_it_is_used():
    text = pydoc.plain(pydoc.render_doc(cosession.connect))
    assert "with cosession.connect(" in text
    assert "Raises Unreachable" in text


# -- seeded ----------------------------------------------------------------------------------------------------------


def told(function, text, **other):
    """A function with another docstring."""

    def instead(*args, **names):
        return function(*args, **names)

    instead.__doc__ = text
    instead.__signature__ = other.get("signature", inspect.signature(function))
    return instead


def method(name, text, **other):
    """A method of the client with that docstring, as `routines` tells it."""
    return [(f"cosession.Client.{name}", told(getattr(sync.Client, name), text, **other), sync.Client)]


def test_a_method_without_docstring_is_noticed():
    assert docstrings.undocumented([("f", lambda: 1)]) == ["f has no docstring"]


def test_a_parameter_that_is_not_explained_is_noticed():
    assert docstrings.unnamed_parameters(method("append", "Append.")) == [
        "cosession.Client.append: the parameter values is not explained"
    ]


def test_an_error_that_is_not_named_is_noticed():
    assert docstrings.unnamed_errors(method("add", "Add."), PROTOCOL) == [
        "cosession.Client.add: the error wrong_type is not named"
    ]


def test_a_new_error_of_the_protocol_is_noticed():
    seeded = PROTOCOL.replace("`io_error` (of that backup)", "`wrong_type` (of that backup)")
    assert "cosession.Client.compact: the error wrong_type is not named" in docstrings.unnamed_errors(
        docstrings.routines(), seeded
    )


def test_a_method_that_nobody_knows_is_noticed():
    found = [("cosession.Client.teleport", told(sync.Client.get, "Go."), sync.Client)]
    assert "nobody knows what it sends" in docstrings.unnamed_errors(found, PROTOCOL)[0]


class Bare(msgspec.Struct):
    """Has an `age`."""

    age: float
    size: int = 0


def test_a_field_that_is_not_explained_is_noticed():
    assert docstrings.unnamed_fields([Bare]) == ["Bare.size is not explained"]


def test_a_number_without_unit_is_noticed():
    assert docstrings.unmeasured([Bare]) == ["Bare.age has no unit"]


def test_a_source_that_is_not_named_is_noticed():
    assert len(docstrings.unsourced([(Bare, "RFC 9999")])) == 1


@pytest.mark.parametrize(
    ("code", "text", "named"),
    [
        ("conflict", "Raises Conflict.", True),
        ("conflict", "Raises `conflict`.", False),
        ("wrong_type", "Raises CosessionError `wrong_type`.", True),
        ("wrong_type", "Raises wrong_type.", False),
        ("closed", "It is Closedly so.", False),
    ],
)
def test_errors_are_named_by_class_or_code(code, text, named):
    assert docstrings.is_named(code, text) is named


def test_refusals_are_read_from_the_protocol():
    assert docstrings.refusals_of("compact", PROTOCOL) == {"future_revision", "damaged", "io_error"}
    assert docstrings.refusals_of("put", PROTOCOL) < docstrings.refusals_of("add", PROTOCOL)
    assert "not_allowed" in docstrings.refusals_of("session.register", PROTOCOL)
