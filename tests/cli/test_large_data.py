"""Whatever is legal to store can be listed and looked at, also what JSON makes six times as large."""

from __future__ import annotations

import cosession
from cosession.cli import line
from cosession.messages.limits import SENT_FRAME_BYTES_MAX

LARGE = "\x01" * 250_000


def test_the_bound_of_a_line_is_what_a_daemon_may_send():
    assert line.ANSWER_BYTES_MAX == SENT_FRAME_BYTES_MAX


def test_control_characters_that_blow_up_in_json(cli, daemon):
    with cosession.connect(daemon.socket, project="global") as client:
        for index in range(6):
            client.put(f"many/{index}", LARGE)
            client.put("often", LARGE)
    assert [entry["value"] for entry in cli.ok("ls", "many/", "--json").json["entries"]] == [LARGE] * 6
    lines = cli.ok("ls", "many/", "--long").out.splitlines()
    assert [each.split()[0] for each in lines[1:]] == [f"many/{index}" for index in range(6)]
    history = cli.ok("history", "often", "--json").json
    assert [each["value"] for each in history["versions"]] == [LARGE] * 6, "all pages"
    assert not history["more"]
    assert [each["version"] for each in cli.ok("history", "often", "--json", "--limit", "5").json["versions"]] == [
        *(6, 5, 4, 3, 2),
    ]
    assert cli.ok("get", "often").out == LARGE + "\n"
