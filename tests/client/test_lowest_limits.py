"""The library against a daemon whose every limit is at its floor: what the daemon sends it can read."""

from __future__ import annotations

from msgspec import structs

import cosession
from cosession.messages.limits import FLOORS
from harness import Daemon
from server.daemons import configure

SMALL = {"frame_bytes_max": FLOORS.frame_bytes_max, "in_flight_max": FLOORS.in_flight_max}


def test_ranges_histories_and_watches_of_more_than_a_frame(home):
    configure(home, **SMALL)
    with Daemon(home) as daemon, cosession.connect(socket=str(daemon.socket), project="p", spawn=False) as client:
        for number in range(30):
            client.put(f"k{number:02}", "x" * 1_000)
        for number in range(20):
            client.put("k00", f"{number}" + "x" * 1_000)
        assert len(list(client.range("k"))) == 30
        assert len(client.history("k00")) == 21
        with client.watch("k") as watch:
            assert [next(watch).key for _ in range(30)] == [f"k{number:02}" for number in range(30)]


def test_all_limits_at_their_floor_still_let_a_client_live(home):
    configure(home, **structs.asdict(FLOORS))
    with Daemon(home) as daemon, cosession.connect(socket=str(daemon.socket), project="p", spawn=False) as client:
        assert client.put("k", 1).version == 1
        assert client.get("k").value == 1
        assert client.status().entries == 1
