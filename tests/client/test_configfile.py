"""The configuration file: each mistake by its line and the nearest name, each value traced to where it is set."""

from __future__ import annotations

import contextlib
import os
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from cosession import config, configfile
from cosession.config import Config, changes, taken, values
from cosession.configfile import BYTES_MAX, LINE_BYTES_MAX, ConfigFile, line_of, origins, parse
from cosession.errors import ConfigError
from cosession.messages.limits import LIMITS, Limits

PATH = Path("/c/config.toml")


def refused(text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode() if isinstance(text, str) else text, PATH)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600
    return caught.value


# -- what is wrong -----------------------------------------------------------------------------------------------------

#: The text of a file, where it is wrong, and what is said of it.
WRONG = {
    "a limit misspelled": ("[limits]\n\nwatch_max = 3\n", 3, "watch_max is unknown, did you mean limits.watches_max?"),
    "a limit in the wrong table": ("[log]\nwatches_max = 3\n", 2, "did you mean limits.watches_max?"),
    "a limit in no table": ("watches_max = 3\n", 1, "watches_max is unknown, did you mean limits.watches_max?"),
    "a table misspelled": ("\n[limit]\nwatches_max = 3\n", 2, "limit is unknown, did you mean limits?"),
    "dotted": ("limits.keybytes_max = 64\n", 1, "did you mean limits.key_bytes_max?"),
    "inline": ("limits = { key_byte_max = 64 }\n", 1, "did you mean limits.key_bytes_max?"),
    "nothing near": ("[colors]\nred = 1\n", 1, "colors is unknown, see all keys with: cosession config show"),
    "control characters": ('"\\u001b[31m" = 1\n', 0, r"\x1b[31m' is unknown"),
    "a table for a key": ("[limits.watches_max]\nx = 1\n", 1, "limits.watches_max = {'x': 1}, allowed is"),
    "a key for a table": ("limits = 3\n", 1, "limits = 3, but it is a table: [limits]"),
    "too much": ("# high\n[limits]\nwatches_max = 65\n", 3, "limits.watches_max = 65, allowed is 1 to 64"),
    "too little": ("[limits]\nframe_finish_s = 0.01\n", 2, "limits.frame_finish_s = 0.01, allowed is 0.1 to 10.0"),
    "not a number": ("[limits]\nframe_finish_s = nan\n", 2, "limits.frame_finish_s = nan, allowed is 0.1 to 10.0"),
    "text": ('[limits]\nwatches_max = "9"\n', 2, "limits.watches_max = '9', allowed is a whole number from 1 to 64"),
    "true": ("[limits]\nwatches_max = true\n", 2, "limits.watches_max = true, allowed is a whole number from 1 to 64"),
    "a level": ('[log]\nlevel = "loud"\n', 2, "log.level = 'loud', allowed is debug, info, warning or error"),
    "half a line": ("[limits]\nwatches_max = ", 2, "it is no TOML"),
    "half a table": ("[limits]\nwatches_max = 3\n[lo", 3, "it is no TOML"),
    "half a text": ('[log]\nlevel = "inf', 2, "it is no TOML"),
    "twice": ("[limits]\nwatches_max = 3\nwatches_max = 3\n", 3, "it is no TOML"),
    "no UTF-8": (b"[limits]\n\xff = 3\n", 2, "it is no TOML: it is not UTF-8"),
    "too deep": ("x = " + "[" * 450 + "\n", 1, "it is no TOML"),
    "much too deep": ("x = [\n" + ("[" * 500 + "\n") * 20, 0, "it is no TOML: it is nested too deep"),
    "many digits": ("[limits]\nwatches_max = " + "9" * 480, 2, "9..., allowed is 1 to 64"),
    "a long line": ("x = 1\n# " + "x" * LINE_BYTES_MAX, 2, "the line has over 512 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "why"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_told_with_its_line_and_what_was_meant(text: str | bytes, line: int, why: str) -> None:
    error = refused(text)
    assert error.message.startswith(f"cannot use {PATH}:{line}: " if line else f"cannot use {PATH}: ")
    assert why in error.message
    assert error.data["problems"][0]["line"] == line


def test_a_mistake_would_be_told_elsewhere_without_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded bug: the first that begins alike."""
    monkeypatch.setattr(configfile, "nearest", lambda word, known: next((k for k in known if k[0] == word[0]), ""))
    text, _, why = WRONG["a limit misspelled"]
    assert why not in refused(text).message


def test_several_mistakes_are_counted_and_the_first_three_told() -> None:
    error = refused("[limits]\na = 1\nb = 2\n[c]\n[log]\nd = 1\n")
    assert "(3 more to correct)" in error.message
    assert [(each["line"], each["key"]) for each in error.data["problems"]] == [
        (2, "limits.a"),
        (3, "limits.b"),
        (4, "c"),
    ]


def test_every_prefix_of_a_file_is_a_configuration_or_an_error_of_ours() -> None:
    """A file half written, wherever it was cut."""
    text = b'# all\n[log]\nlevel = "debug"\n[limits]\n"watches_max" = 3 # few\nframe_finish_s = 1.5\n'
    good = 0
    for end in range(len(text) + 1):
        with contextlib.suppress(ConfigError):
            parse(text[:end], PATH)
            good += 1
    assert 5 < good < len(text)


def test_what_a_file_can_cost_is_bounded() -> None:
    """A dotted name of 60 KiB takes tomllib a minute. The bound tells an answer from none."""
    line = ".".join(["a"] * (LINE_BYTES_MAX // 2)) + "=1\n"
    worst = [
        "".join(f"b{n}.{line[5:]}" for n in range(BYTES_MAX // LINE_BYTES_MAX)),
        "[a]\n[b]\n" * 2_000,
        "a=1\n" * 4_000,
    ]
    began = time.monotonic()
    for text in worst:
        refused(text[:BYTES_MAX])
    assert time.monotonic() - began < 20
    with pytest.raises(ConfigError, match="over 512 bytes"):
        parse((".".join(["a"] * 8_000) + "=1").encode(), PATH)


# -- where it stands ---------------------------------------------------------------------------------------------------

KEY = ("limits", "watches_max")
#: A file and the line of `limits.watches_max` in it, 0 where no line may be told.
PLACES = {
    "a table": ("[limits]\nwatches_max = 3", 2),
    "dotted": ("# x\nlimits.watches_max = 3", 2),
    "with blanks": ("limits . watches_max = 3", 1),
    "inline": ("x = 1\nlimits = { key_bytes_max = 64, watches_max = 3 }", 2),
    "quoted": ('[limits]\n"watches_max" = 3', 2),
    "quoted once": ("['limits']\n'watches_max' = 3", 2),
    "in another table first": ("[log]\nwatches_max = 3\n[limits]\nwatches_max = 3", 4),
    "in a comment first": ("[limits]\n# watches_max = 1\nwatches_max = 3", 3),
    "in a text first": ('a = """\n[limits]\nwatches_max = 1\n"""\n[limits]\nwatches_max = 3', 6),
    "in the text of a line": ('a = "watches_max"\n[limits]\nb = "watches_max = 3"\nwatches_max = 3', 4),
    "in a list first": ('a = [\n"watches_max",\n]\nlimits.watches_max = 3', 4),
    "a longer name first": ("[limits]\nwatches_max_2 = 1\nmy-watches_max = 1\nwatches_max = 3", 4),
    "lines of Windows": ("[limits]\r\n\r\nwatches_max = 3\r\n", 3),
    "spelled with an escape": ('[limits]\n"watches\\u005fmax" = 3', 0),
    "over several lines": ("[limits]\nwatches_max = [\n3,\n]", 0),
    "too often in vain": ("".join(f"x{n}.watches_max = 1\n" for n in range(20)) + "[limits]\nwatches_max = 3", 0),
    "absent": ("[limits]\nkey_bytes_max = 64", 0),
}  # fmt: skip


def judge_places(find: Callable[[list[str], tuple[str, ...]], int]) -> None:
    for text, line in PLACES.values():
        tomllib.loads(text)  # each is good TOML
        assert find(text.replace("\r\n", "\n").split("\n"), KEY) == line, text


def test_the_line_of_a_key_is_found_or_not_told() -> None:
    judge_places(line_of)


def test_a_scan_of_its_own_would_be_wrong() -> None:
    """The seeded bug: the first line that begins with the name."""

    def scanned(lines: list[str], names: tuple[str, ...]) -> int:
        return next((n for n, line in enumerate(lines, 1) if re.match(rf"\W*{names[-1]}\W*=", line)), 0)

    with pytest.raises(AssertionError):
        judge_places(scanned)


def test_the_origin_of_every_key_that_is_set() -> None:
    text = b"limits = { watches_max = 3, \"key_bytes_max\" = 64 }\n[log]\nlevel = 'debug'\n"
    assert origins(text, PATH) == {
        "log.level": f"{PATH}:3",
        "limits.key_bytes_max": f"{PATH}:1",
        "limits.watches_max": f"{PATH}:1",
    }
    assert origins(b'[limits]\n"watches\\u005fmax" = 3', PATH) == {"limits.watches_max": str(PATH)}


# -- whose file it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode 0{mode:o} lets others write it; run: chmod go-w {path}"):
        configfile.load(path)
    path.chmod(0o644)
    assert configfile.load(path) == Config()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    os.chown(path, 4242, -1)
    with pytest.raises(ConfigError, match="it belongs to uid 4242, this is uid 0; put a file of your own"):
        configfile.load(path)


def test_a_file_that_has_not_changed_is_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    file = ConfigFile(path)
    assert file.load() is file.load()
    judged: list[bytes] = []
    monkeypatch.setattr(configfile, "parse", lambda text, path: judged.append(text) or parse(text, path))
    for text in (b"limits.watches_max = 3", b"limits.watches_max = ", b"", b"limits.watches_max = 3"):
        path.write_bytes(text)
        for _ in range(3):
            try:
                assert file.load().limits.watches_max == (3 if text else 64)
            except ConfigError:
                assert text.endswith(b"= ")
    assert len(judged) == 4
    path.unlink()
    assert file.load() == Config()


# -- what applies when -------------------------------------------------------------------------------------------------


def test_every_key_has_a_row_in_the_table_of_what_applies_when() -> None:
    assert list(config.APPLIES) == list(values(Config()))


def test_what_needs_a_restart_stays_and_all_else_is_taken() -> None:
    now = Config(limits=Limits(watches_max=5, log_window_bytes=70_000, request_id_s=9))
    new = taken(Config(), now)
    assert new.limits.watches_max == 5
    assert new.limits.log_window_bytes == LIMITS.log_window_bytes
    assert {each.key: (each.before, each.after) for each in changes(new, now)} == {
        "limits.log_window_bytes": (LIMITS.log_window_bytes, 70_000),
        "limits.request_id_s": (86_400, 9),
    }
    assert taken(now, Config()).limits.log_window_bytes == 70_000


def test_a_limit_that_is_left_out_of_the_table_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {key: when for key, when in config.APPLIES.items() if key != "limits.watches_max"}
    monkeypatch.setattr(config, "APPLIES", left)
    with pytest.raises(AssertionError):
        test_every_key_has_a_row_in_the_table_of_what_applies_when()
