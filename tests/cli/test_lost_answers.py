"""Promise P2 on both ways to a daemon, the library and the fast verbs: a write is refused only where it surely had no
effect. One table of scripts for both, since both go by `cosession.retries`.
"""

from __future__ import annotations

import pytest

import cosession
from cosession import CosessionError
from cosession.errors import error_from
from cosession.retries import LINKS_LOST_MAX, REFUSALS_MAX
from scripted import ScriptedDaemon

LOST = "hang up"

#: What the daemon does with each attempt at a put, and what the caller is told. Then it would answer.
SCRIPTS = [
    ((), "ok"),
    ((LOST, LOST), "ok"),
    # The first attempt may have been committed, and these say nothing about it.
    ((LOST, "disk_full"), "unknown_outcome"),
    ((LOST, "store_full"), "unknown_outcome"),
    ((LOST, "read_only"), "unknown_outcome"),
    ((LOST, "not_allowed"), "unknown_outcome"),
    ((LOST, "session_ended"), "unknown_outcome"),
    ((LOST, "internal"), "unknown_outcome"),
    # These are answered after the request id was looked up, or would have met the first attempt too.
    ((LOST, "conflict"), "conflict"),
    ((LOST, "invalid_params"), "invalid_params"),
    ((LOST, "too_large"), "too_large"),
    # What passes is waited out, within bounds.
    (("overloaded", "shutting_down"), "ok"),
    ((LOST, "overloaded"), "ok"),
    (("overloaded",) * (REFUSALS_MAX + 1), "overloaded"),
    ((LOST,) + ("overloaded",) * REFUSALS_MAX, "unknown_outcome"),
    # Nothing was left without an answer.
    (("disk_full",), "disk_full"),
    (("overloaded", "store_full"), "store_full"),
    # A request that brings the daemon down each time is not sent for ever.
    ((LOST,) * LINKS_LOST_MAX, "ok"),
    ((LOST,) * (LINKS_LOST_MAX + 1), "unknown_outcome"),
]


@pytest.fixture
def scripted(home):
    daemon = ScriptedDaemon(home / "scripted.sock")
    yield daemon
    daemon.close()


def library_put(_cli, path: str) -> tuple[str, dict]:
    with cosession.connect(path, timeout_s=20, project="global") as client:
        try:
            client.put("k", 1)
        except CosessionError as error:
            return error.code, error.data
    return "ok", {}


def verb_put(cli, path: str) -> tuple[str, dict]:
    done = cli.run("put", "k", "1", "--socket", path, "--timeout", "20", "--json")
    return ("ok", {}) if done.code == 0 else (done.error["code"], done.error["data"])


@pytest.mark.parametrize("put", [library_put, verb_put])
@pytest.mark.parametrize(("script", "told"), SCRIPTS)
def test_what_the_caller_of_a_write_is_told(nowhere, scripted, put, script, told):
    scripted.script += [each if each == LOST else error_from(each, f"cannot write: {each}") for each in script]
    code, data = put(nowhere, scripted.path)
    assert code == told
    assert not scripted.script, "all of it was played"
    assert len(scripted.calls) == len(script) + (told == "ok")
    [request_id] = {call.request_id for call in scripted.calls}
    if told == "unknown_outcome":
        assert data["request_id"] == request_id, "with it, repeating is safe"


def test_a_read_that_brings_the_daemon_down_is_not_sent_for_ever(nowhere, scripted):
    scripted.script += [LOST] * 100
    err = nowhere.refused(69, "get", "k", "--socket", scripted.path, "--timeout", "20").err
    assert "ended 5 times before the answer" in err
    assert len(scripted.calls) == LINKS_LOST_MAX + 1


def rubbish(_daemon, connection, _protocol, _call):  # the shape of a scripted action
    connection.sendall(b"[]\n")


@pytest.mark.parametrize(("words", "code"), [(("get", "k"), 65), (("put", "k", "1"), 75)])
def test_an_answer_that_cannot_be_read_says_nothing_about_a_write(nowhere, scripted, words, code):
    scripted.script.append(rubbish)
    nowhere.refused(code, *words, "--socket", scripted.path, "--timeout", "20")


def test_a_call_of_unknown_kind_is_not_repeated_once_it_was_sent(nowhere, scripted):
    scripted.script += [error_from("overloaded", "cannot now"), LOST]
    error = nowhere.run("debug", "call", "get", '{"key": "k"}', "--socket", scripted.path, "--json").error
    assert error["code"] == "unknown_outcome"
    assert len(scripted.calls) == 2, "a refusal is repeated, a loss is not"
    scripted.script.append("silence")
    error = nowhere.run(
        "debug", "call", "get", '{"key": "k"}', "--socket", scripted.path, "--json", "--timeout", "0.2"
    ).error
    assert error["code"] == "unknown_outcome"
