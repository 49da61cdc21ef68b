"""What a client leaves in the spool, and what it refuses to leave there."""

from __future__ import annotations

import json
import os
import stat
import threading

import pytest

from cosession import spool
from cosession.errors import CosessionError, InvalidRequest, NotAllowed, TooLarge
from cosession.messages import REQUESTS

TOKEN = "t" * 32


def test_a_file_is_private_whole_and_named_by_its_place_and_request_id(spooled):
    names = [spooled.write(number, session="s", token=TOKEN) for number in range(3)]
    assert names == [f"{place:016}-r{place - 1}.call" for place in (1, 2, 3)] == spooled.names()
    file = spooled.path / names[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(spooled.path.stat().st_mode) == 0o700
    head, call, rest = file.read_bytes().split(b"\n")
    assert rest == b""
    assert json.loads(call)["params"]["request_id"] == "r0"
    assert json.loads(head) == {"spool": 1, "session": "s", "proof": spool.proof(call, TOKEN)}
    assert TOKEN.encode() not in file.read_bytes()
    assert spool.waiting(spooled.env) == 3


def test_numbers_go_on_behind_what_waits_and_begin_anew_when_nothing_does(spooled):
    first, second = spooled.write(1), spooled.write(2)
    (spooled.path / first).unlink()
    assert spooled.write(3).startswith(f"{3:016}")
    for name in spooled.names():
        (spooled.path / name).unlink()
    assert spooled.write(4).startswith(f"{1:016}")
    assert second > first


def test_many_at_once_lose_nothing_and_each_keeps_its_order(spooled):
    def leave(writer):
        for number in range(20):
            spooled.write(request_id=f"{writer}.{number}")

    threads = [threading.Thread(target=leave, args=(writer,)) for writer in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    ids = [spool.NAME.fullmatch(name)[2].split(".") for name in spooled.names()]
    for writer in range(4):
        assert [int(number) for who, number in ids if who == str(writer)] == list(range(20))


def test_what_must_not_wait_is_refused(spooled):
    wrong = [
        ("get", '{"key":"k"}'),
        ("txn", "{}"),
        ("claim.acquire", "{}"),
        ("session.register", "{}"),
        ("put", '{"key":"k","value":1,"expect_revision":0}'),
        ("put", '{"key":"k","value":1,"fence":7}'),
        ("put", '{"key":"k","value":1,"ttl_s":5}'),
        ("put", '{"key":"k","value":1,"ephemeral":true}'),
        ("delete", '{"key":"k","expect_revision":4}'),
    ]
    for method, params in wrong:
        with pytest.raises(InvalidRequest, match="cannot spool"):
            spooled.write(method=method, params=params)
    for request_id in ("", "a/b", "../x", "x" * 65, "ü"):
        with pytest.raises(InvalidRequest, match="request id"):
            spool.write("put", "{}", request_id=request_id, env=spooled.env)
    with pytest.raises(NotAllowed, match="COSESSION_TOKEN"):
        spooled.write(method="mail.send", session="s")
    for session in ('s","x":"', "../s", "s" * 129):
        with pytest.raises(InvalidRequest, match="the id of none"):
            spooled.write(session=session, token=TOKEN)
    for params in ('{"key":"\udc80"}', "no JSON", "[" * 100_000):
        with pytest.raises(InvalidRequest, match="cannot spool put"):
            spooled.write(params=params)
    with pytest.raises(TooLarge, match="split it"):
        spooled.write(params=f'{{"key":"k","value":"{"x" * spool.CALL_BYTES_MAX}"}}')
    assert not spooled.path.exists()


def test_a_spool_is_bounded_and_must_be_ours_alone(spooled, monkeypatch):
    spooled.write(1)
    monkeypatch.setattr(spool, "FILES_MAX", 1)
    with pytest.raises(CosessionError, match="cosession status") as caught:
        spooled.write(2)
    assert caught.value.code == "overloaded"
    spooled.path.chmod(0o755)
    with pytest.raises(NotAllowed, match="chmod 700"):
        spooled.write(3)
    link = spooled.path.with_name("link")
    link.symlink_to(spooled.path)
    with pytest.raises(CosessionError, match="COSESSION_SPOOL"):
        spool.write("put", "{}", request_id="r", env={"COSESSION_SPOOL": str(link)})


def test_a_writer_that_fails_leaves_nothing_behind(spooled, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    spooled.write(1)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CosessionError, match="free space") as caught:
        spooled.write(2)
    assert caught.value.code == "disk_full"
    assert len(list(spooled.path.iterdir())) == 1


def test_what_may_be_spooled_are_calls_that_repeat_safely():
    for method, forbidden in spool.SPOOLABLE.items():
        fields = set(REQUESTS[method].__struct_fields__)
        assert {"request_id", "session", *forbidden} <= fields, method
