"""The public API is the one agreed on; both clients have the same; each kind of change would be noticed."""

from __future__ import annotations

import inspect

import msgspec
import pytest

import api
import cosession
from cosession import aio, errors, model, sync
from cosession.cli import get
from cosession.cli.options import Option
from cosession.exchange.cursor import Reset
from cosession.messages import REQUESTS, store


def test_the_api_is_the_one_agreed_on():
    changed = api.difference(api.SNAPSHOT.read_text(encoding="utf-8"), api.text())
    assert changed == [], f"the public API changed: - was promised, + is new. On purpose? {api.ACCEPT}\n" + "\n".join(
        changed
    )


def test_both_clients_have_the_same_names():
    assert api.disagreements() == []


def other(function, parameter, **change):
    """The function with one of its parameters changed."""

    def instead(*args, **names):
        return function(*args, **names)

    signature = inspect.signature(function)
    parameters = [each.replace(**change) if each.name == parameter else each for each in signature.parameters.values()]
    instead.__signature__ = signature.replace(parameters=parameters)
    return instead


def without_field(struct, name):
    """The struct without a field."""
    left = [each for each in msgspec.structs.fields(struct) if each.name != name]
    return msgspec.defstruct(struct.__name__, [(each.name, each.type) for each in left], module="cosession.other")


#: What a change would do to users, and the line that must tell.
SEEDED = {
    "a renamed parameter": (
        lambda patch: patch.setattr(sync.Client, "get", other(sync.Client.get, "at_revision", name="at")),
        "-def cosession.Client.get -> Entry | None | at_revision: int = 0",
    ),
    "a changed default": (
        lambda patch: patch.setattr(cosession, "connect", other(cosession.connect, "timeout_s", default=5.0)),
        "+def cosession.connect -> Client | timeout_s: float = 5.0",
    ),
    "another annotation": (
        lambda patch: patch.setattr(sync.Client, "add", other(sync.Client.add, "number", annotation="int")),
        "+def cosession.Client.add -> Entry | number: int = 1",
    ),
    "a parameter by name only": (
        lambda patch: patch.setattr(
            cosession, "connect", other(cosession.connect, "socket", kind=inspect.Parameter.KEYWORD_ONLY)
        ),
        "+def cosession.connect -> Client | *",
    ),
    "a parameter by place only": (
        lambda patch: patch.setattr(
            cosession, "connect", other(cosession.connect, "socket", kind=inspect.Parameter.POSITIONAL_ONLY)
        ),
        "+def cosession.connect -> Client | /",
    ),
    "a removed method": (
        lambda patch: patch.delattr(aio.series.Series, "history"),
        "-async def cosession.aio.Client.history -> list[Version]",
    ),
    "a method that no longer waits": (
        lambda patch: patch.setattr(aio.Client, "ping", sync.Client.ping),
        "-async def cosession.aio.Client.ping -> PingReply",
    ),
    "a removed field": (
        lambda patch: patch.setattr(api, "STRUCTURES", (without_field(model.Entry, "version"), Reset)),
        "-struct Entry | version: int",
    ),
    "a changed default of a message": (
        lambda patch: patch.setitem(REQUESTS, "get", other_default(store.Get, "space", "elsewhere")),
        "+method get | space: str = 'elsewhere'",
    ),
    "a removed name": (
        lambda patch: patch.setattr(cosession, "__all__", [name for name in cosession.__all__ if name != "Conflict"]),
        "-error cosession.Conflict(CosessionError): conflict",
    ),
    "a changed number": (
        lambda patch: patch.setitem(errors.CATALOGUE, "conflict", (-32011, False, 3)),
        "+code conflict: -32011, final, exit 3, Conflict",
    ),
    "a removed option": (
        lambda patch: patch.setattr(get.GET, "options", ()),
        "-verb get: 1 to 1 words | --at REV",
    ),
    "a new option": (
        lambda patch: patch.setattr(get.GET, "options", (*get.GET.options, Option("--loud", "", "shout"))),
        "+verb get: 1 to 1 words | --loud",
    ),
}


def other_default(request, name, default):
    """The request with another default of one field."""
    namespace = {"__annotations__": {name: "str"}, name: default, "__module__": request.__module__}
    return type(request)(request.__name__, (request,), namespace, frozen=True, kw_only=True)


@pytest.mark.parametrize("change", SEEDED)
def test_seeded_change_is_noticed(change, monkeypatch):
    make, line = SEEDED[change]
    before = api.text()
    make(monkeypatch)
    assert line in api.difference(before, api.text())


def test_a_client_that_differs_from_the_other_is_noticed(monkeypatch):
    monkeypatch.setattr(aio.Client, "watch", other(aio.Client.watch, "prefix", name="under"))
    assert api.disagreements() == [
        "-def cosession.sync.Client.watch -> Watch | under: str = ''",
        "+def cosession.sync.Client.watch -> Watch | prefix: str = ''",
    ]


def test_objects_have_no_public_attribute_that_is_not_in_the_snapshot(daemon):
    with (
        cosession.connect(daemon.socket) as client,
        client.session(agent="test") as session,
        client.watch("nothing/") as watch,
        client.follow_audit() as trail,
    ):
        for thing in (client, session, watch, trail, cosession.Conflict("cannot")):
            declared = {name for name in dir(type(thing)) if not name.startswith("_")} | set(
                api.attributes(type(thing))
            )
            assert {name for name in vars(thing) if not name.startswith("_")} <= declared
