"""The documents say what the code does: compared both ways, replayed and run; each check would notice a lie."""

import shutil

import pytest

import documents
import exchanges
import tour
from cosession.messages import REQUESTS
from cosessiond import app
from source_tree import ROOT

PROTOCOL = (ROOT / "client" / "PROTOCOL.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROOF = (ROOT / "tests" / "PROOF.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "daemon" / "ARCHITECTURE.md").read_text(encoding="utf-8")

CHECKS = {
    documents.methods: PROTOCOL,
    documents.structures: PROTOCOL,
    documents.limit_values: PROTOCOL,
    documents.other_numbers: PROTOCOL,
    documents.error_codes: PROTOCOL,
    documents.spaces: PROTOCOL,
    documents.versions: PROTOCOL,
    documents.promises: README,
    documents.proofs: PROOF,
    documents.config_keys: README,
    documents.variables: README,
    documents.verbs: README,
    documents.library_errors: README,
    documents.entry_points: README,
    documents.module_list: ARCHITECTURE,
    documents.schema_tables: ARCHITECTURE,
    documents.exit_codes: ARCHITECTURE,
}

#: A wrong document each: (the check that must see it, what stands there, what a mistake would make of it).
SEEDED = [
    (documents.methods, "### `get`", "### `fetch`"),
    (documents.methods, "### `unwatch`", "### unwatch"),
    (documents.methods, "| `at_revision` | integer | `0` |", "| `revision_at` | integer | `0` |"),
    (documents.methods, "| `keys_only` | boolean | `false` |", "| `keys_only` | boolean | `true` |"),
    (documents.methods, '| `prefix` | string | `""` | keys', '| `prefix` | integer | `""` | keys'),
    (documents.methods, "| `more` | boolean | further keys follow |\n", ""),
    (documents.methods, "| `entry` | Entry or null |", "| `entry` | Entry |"),
    (documents.methods, "| `state` | string | as it stands", "| `status` | string | as it stands"),
    (documents.methods, "`epoch_changed` (`data` has", "`not_found` (`data` has"),
    (documents.structures, "| `create_revision` | integer | the revision that began", "| `created` | integer | the"),
    (documents.structures, '| `op` | string | always `"merge"` |', '| `op` | string | always `"patch"` |'),
    (documents.structures, "`progress`, `end` |", "`end` |"),
    (documents.structures, "| `detected_ms` | number |", "| `detected_ms` | integer |"),
    (documents.limit_values, "| `watches_max` | 64 |", "| `watches_max` | 65 |"),
    (documents.limit_values, "| `VERSIONS_KEPT` | 50 |", "| `VERSIONS_MAX` | 50 |"),
    (documents.limit_values, "| `frame_finish_s` | 10 |", "| `frame_finish_s` | 11 |"),
    (documents.other_numbers, "| `missed_max` | 3 |", "| `missed_max` | 4 |"),
    (documents.other_numbers, "| `HEARTBEAT_S_MIN` | 0.1 |", "| `HEARTBEAT_MIN_S` | 0.1 |"),
    (documents.error_codes, "| `conflict` | -32010 |", "| `conflict` | -32011 |"),
    (documents.error_codes, "| `overloaded` | -32030 | yes |", "| `overloaded` | -32030 | no |"),
    (documents.error_codes, "| `damaged` | -32033 | no | 78 |", "| `damaged` | -32033 | no | 79 |"),
    (documents.error_codes, "Errors: `conflict`, `too_large`", "Errors: `lost_race`, `too_large`"),
    (documents.spaces, "`$sessions`, the records", "`$session`, the records"),
    (documents.versions, "The version of this protocol is 1.", "The version of this protocol is 2."),
    (documents.promises, "A write answered `ok` survives", "A write answered `ok` usually survives"),
    (documents.promises, "; network file systems are refused |", " |"),
    (documents.promises, "| kept: ", "| certainly: "),
    (documents.promises, "tests/durability", "tests/durable"),
    (documents.proofs, "### P7\n", "### P17\n"),
    (documents.proofs, "| kill | kill -9", "| kills | kill -9"),
    (documents.proofs, "| 2,000,000 | requests |", "| 20,000 | requests |"),
    (documents.proofs, "test_killloop.py", "test_kilLloop.py"),
    (documents.proofs, "- proofs: frames, decoder", "- proofs: decoder"),
    (documents.proofs, "- limit: another host", "- limits: another host"),
    (documents.proofs, "(2026-", "(26-"),
    (documents.config_keys, "| `limits.watches_max` | `64` |", "| `limits.watches_max` | `65` |"),
    (documents.config_keys, "| `86_400` | at a restart |", "| `86_400` | at once |"),
    (documents.config_keys, "| `log.level` |", "| `logging.level` |"),
    (documents.config_keys, "connections_max = 128", "connection_max = 128"),
    (documents.variables, "| `COSESSION_NO_SPAWN` |", "| `COSESSION_NOSPAWN` |"),
    (documents.verbs, "| `cosession explain session ID` |", "| `cosession explain` |"),
    (documents.verbs, "| `cosession merge KEY PATCH` |", "| `cosession patch KEY PATCH` |"),
    (documents.library_errors, "| `Conflict` | `conflict` |", "| `Conflict` | `conflicts` |"),
    (documents.library_errors, "| `Closed` | `closed` |", "| `Shut` | `closed` |"),
    (documents.entry_points, "](daemon/cosessiond/app.py)", "](daemon/cosessiond/main.py)"),
    (documents.module_list, "| `daemon/cosessiond/store/hash.py` |", "| `daemon/cosessiond/store/hashes.py` |"),
    (documents.module_list, "| `client/cosession/wire.py` |", "| client/cosession/wire.py |"),
    (documents.schema_tables, "| `log` | `revision, body, hash` |", "| `log` | `revision, hash, body` |"),
    (documents.exit_codes, "| 75 |", "| 74 |"),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_document_agrees_with_the_code(check):
    assert check(CHECKS[check]) == []


@pytest.mark.parametrize(("check", "right", "wrong"), SEEDED)
def test_seeded_mistake_is_noticed(check, right, wrong):
    text = CHECKS[check]
    assert right in text, "the seed is out of date"
    assert check(text.replace(right, wrong)) != []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_empty_document_is_noticed(check):
    assert check("") != []


def test_every_check_has_a_seeded_mistake():
    assert {check for check, _, _ in SEEDED} == set(CHECKS)


def test_every_method_is_served_and_nothing_else():
    assert {name: operation.row.request for name, operation in app.TABLE.items()} == REQUESTS


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    assert documents.links(text, path) == []
    assert documents.machine_paths(text) == []


@pytest.mark.parametrize("target", ["gone.md", "#gone", "client/PROTOCOL.md#gone"])
def test_dead_link_is_noticed(target):
    assert documents.links(f"# Here\n[there]({target})\n", ROOT / "README.md") != []


# -- the worked exchanges --------------------------------------------------------------------------------------------


def test_both_encodings_are_shown():
    assert {exchange.encoding for exchange in exchanges.exchanges(PROTOCOL)} == {"json", "msgpack"}


@pytest.mark.parametrize("exchange", exchanges.exchanges(PROTOCOL), ids=lambda exchange: exchange.name)
def test_exchange_goes_as_shown(exchange, daemon):
    """To renew them after a change on purpose: python tests/exchanges.py."""
    assert exchanges.render(exchanges.replayed(exchange, daemon.socket)) == exchanges.render(exchange)
    assert exchanges.render(exchange) in PROTOCOL


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("context-json", '"repeated":true', '"repeated":false'),
        ("context-json", '"code":-32010', '"code":-32011'),
        ("context-json", '"kind":"snapshot_end","revision":1', '"kind":"snapshot_end","revision":2'),
        ("context-msgpack", "00 00 00 09 94", "00 00 00 0a 94"),
        ("context-msgpack", "cd 12 67", "ce 00 00 12 67"),
    ],
)
def test_wrong_exchange_is_noticed(name, right, wrong, daemon):
    (exchange,) = [each for each in exchanges.exchanges(PROTOCOL.replace(right, wrong)) if each.name == name]
    assert wrong in exchanges.render(exchange), "the seed is out of date"
    assert exchanges.render(exchanges.replayed(exchange, daemon.socket)) != exchanges.render(exchange)


# -- the tour --------------------------------------------------------------------------------------------------------


INSTALLED = pytest.mark.skipif(
    not (tour.COMMANDS / "cosession").exists(), reason="cosession is not installed beside this Python; do: make test"
)


@INSTALLED
def test_tour_goes_as_shown(home, tmp_path):
    assert len(tour.blocks(README)) >= 8
    with tour.Tour(home, tmp_path) as guide:
        wrong = guide.run(README)
    assert not wrong, "\n".join(wrong)
    assert not home.exists(), "what is left would make the next tour another one"


@INSTALLED
def test_the_block_with_nc_goes_as_shown(daemon, tmp_path):
    (block,) = [each for each in tour.blocks(README) if "| nc " in each.code]
    assert block.shown
    if not shutil.which("nc"):
        pytest.skip("nc is not installed: this one block of the tour was run with tests/netcat.py in its place only")
    guide = tour.Tour(daemon.home, tmp_path)  # not as a context: at its end that kills all of the home, the daemon too
    assert guide.try_out(block) == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("a\n", "b\n"), ("a\n", "a\nb\n"), ("a...c\n", "ab\nc\n"), ("a\n...\nb\n", "a\nc\n"), ("1\n", "")],
)
def test_other_output_is_noticed(shown, printed):
    assert not tour.matches(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\n", "a\n"),
        ("a...c\n", "abc\n"),
        ("a ... c\n", "a [x] c\n"),
        ("a\n...\nb\n", "a\nb\n"),
        ("...\nb\n", "1\n2\nb\n"),
    ],
)
def test_same_output_passes(shown, printed):
    assert tour.matches(shown, printed)


def test_blocks_that_are_no_part_of_the_tour_are_left_out():
    text = "```sh terminal 2\necho 1\n```\n\n```python\nprint(2)\n```\n\n```text\n2\n```\n"
    assert tour.blocks(text) == [tour.Block("sh", "terminal 2", "echo 1\n", None)]


def test_tour_with_another_result_fails(home, tmp_path):
    lie = "```sh terminal 2\necho 1\n```\n\n```text\n2\n```\n"
    with tour.Tour(home, tmp_path) as guide:
        (wrong,) = guide.run(lie)
    assert "echo 1" in wrong
