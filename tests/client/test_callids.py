"""Where the id of a call stands, in frames that cannot be read otherwise."""

from __future__ import annotations

import pytest

from cosession.callids import id_of_array, id_of_line
from cosession.messages.limits import LIMITS
from cosession.protocol import ClientConnection, Failed, ServerConnection
from rawclient import pack

ARRAYS = [
    ([0, 7, 5, {}], 7),
    ([0, 7], 7),
    ([0, 7, "a", {}, 1], 7),
    ([-5, 200, None], 200),
    ([-200, 2**16, None], 2**16),
    ([0, 2**63 - 1, 1], 2**63 - 1),
    ([0, *range(9, 40)], 9),
    ([0, *range(9, 9 + 2**16)], 9),
    ([0, 2**63, 1], 0),
    ([0, -1, 5], 0),
    ([0, 0, 5], 0),
    ([0, 1.0, 5], 0),
    (["x", 7], 0),
    ([0, "a"], 0),
    ([0], 0),
    ([], 0),
    ({"a": 1}, 0),
    (5, 0),
]

LINES = [
    (b'{"jsonrpc":"2.0","id":7,"method":"put","params":{"a":1e999}}', 7),
    (b' { "jsonrpc" : "2.0" , "id" : "ab" , "params" : [', "ab"),
    (b'{"params":{"k":1,"k":2},"id":5}', 5),
    (b'{"params":[[[99999999999999999999999]]],"id":"x\\u0041"}', "xA"),
    (b'{"id":-3}', -3),
    (b'{"id":1.0}', None),
    (b'{"id":true}', None),
    (b'{"id":[1],"a":1}', None),
    (b'{"id":"\\ud800"}', None),
    (b'{"id":"' + b"x" * 65 + b'"}', None),
    (b'{"id":99999999999999999999}', None),
    (b'{"id":' + b"9" * 100_000 + b"}", None),
    (b'{"a":{"id":3}}', None),
    (b'{"a":"id","b":{"id":1}}', None),
    (b"[1]", None),
    (b"", None),
]


@pytest.mark.parametrize(("array", "id"), ARRAYS, ids=[repr(array)[:24] for array, _ in ARRAYS])
def test_the_id_of_an_array(array, id):
    assert id_of_array(pack(array)) == id


@pytest.mark.parametrize("frame", [b"\x92\x00", b"\x92\x00\xcf\x00", b"\xdc\x00", b"\xdd", b"\x92\xc1\x01"], ids=repr)
def test_an_array_that_ends_too_early_has_no_id(frame):
    assert id_of_array(frame) == 0


@pytest.mark.parametrize(("line", "id"), LINES, ids=[repr(line)[:40] for line, _ in LINES])
def test_the_id_of_a_line(line, id):
    assert id_of_line(line) == id


def test_a_call_that_cannot_be_read_fails_and_the_connection_of_its_client_lives():
    client, server = ClientConnection(LIMITS), ServerConnection(LIMITS)
    client.in_flight.add(1)
    frame = pack([0, 1, 5, {}])
    server.receive_data(len(frame).to_bytes(4) + frame)
    bad = server.next_call(0)
    server.fail_frame(bad, 0)
    (event,) = client.receive_data(server.data_to_send())
    assert isinstance(event, Failed)
    assert (event.id, event.error.code) == (1, "invalid_request")
    assert not client.closing
