"""What people see cannot be made to lie by what was stored."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest

from cosession.cli import data, render


@pytest.fixture(autouse=True)
def _utf8(monkeypatch, tmp_path):
    with (tmp_path / "out").open("w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        yield


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u00e9, \u6f22, \U0001f9a6", "plain, \u00e9, \u6f22, \U0001f9a6"),
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b31m", "\\u009b31m"),  # the C1 form of the same escape
        ("\x7f\x00", "\\u007f\\u0000"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\U000e0041", "\\udb40\\udc41"),  # a tag character: invisible
        ("\ud800", "\\ud800"),
        ("\u00a0\u3000", "\u00a0\u3000"),  # blanks of some scripts
    ],
)
def test_everything_not_plainly_visible_is_escaped(text, shown):
    assert render.escape(text) == shown
    assert render.escape(shown) == shown


def test_no_control_or_format_character_passes():
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    bad = [char for char in every if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert len(bad) > 2_000
    assert render.escape("".join(bad)).isascii()


def test_kept_characters_are_kept():
    assert render.escape("a\nb\x1bc", keep="\n\t") == "a\nb\\u001bc"


def test_a_terminal_without_utf8_gets_ascii(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert render.escape("caf\u00e9 \U0001f9a6") == "caf\\u00e9 \\ud83e\\udda6"
    assert render.cut("abcdefghij", 8) == "abcde..."


VALUES = [
    None,
    True,
    0,
    -(2**63),
    1.5,
    1e-9,
    "",
    'x\x1b\u202e\U000e0001"\\',
    [],
    {},
    [[1], {"a": [None]}],
    {"": {"\n": 1}},
]


@pytest.mark.parametrize("value", VALUES)
def test_json_text_is_safe_to_show_and_the_same_json(value):
    text = render.json_text(value)
    assert json.loads(text) == value
    assert text.isprintable()


@pytest.mark.parametrize("value", VALUES)
def test_json_is_read_as_the_package_reads_it(value):
    for text in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False, indent=2) + "\n",
        f" \n{json.dumps(value)}\t",
    ):
        read = data.loads(text)
        assert read == value
        assert type(read) is type(value)
    assert json.loads(data.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1,]",
        "nul",
        "1 2",
        "NaN",
        "-Infinity",
        "[Infinity]",
        "'a'",
        '"a',
        '"\n"',
        "{1: 2}",
        "[" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match=r"JSON|deep"):
        data.loads(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x"])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        data.dumps(value)


def test_both_ways_work_without_the_private_parts_of_cpython(monkeypatch):
    monkeypatch.setitem(sys.modules, "_json", None)
    assert data.loads(' {"a": [1, "\\u00e9"]} ') == {"a": [1, "\u00e9"]}
    assert data.dumps({"a": "\u00e9"}) == '{"a": "\u00e9"}'
    for text in ("", "NaN", "1 2", "{"):
        with pytest.raises(ValueError, match="JSON"):
            data.loads(text)


def test_columns_are_counted_as_a_terminal_does():
    assert render.cells("abc") == 3
    assert render.cells("\u6f22\u5b57") == 4
    assert render.cells("e\u0301") == 1
    assert render.pad("\u6f22", 4) == "\u6f22  "
    assert render.cut("\u6f22\u5b57\u6f22\u5b57", 5) == "\u6f22\u5b57\u2026"
    assert render.cut("abc", 3) == "abc"
    assert render.cut("abc", 0) == "abc"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "40 ms"), (-1, "0 ms"), (1, "1 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_durations_have_one_unit(seconds, text):
    assert render.span(seconds) == text


def test_times_are_relative_and_survive_a_clock_set_back():
    assert render.ago(100.0, 103.5) == "3 s ago"
    assert render.ago(103.5, 100.0) == "just now"


def test_sizes():
    assert [render.size(count) for count in (0, 512, 2355, 3 * 1024**2, 5 * 1024**3)] == [
        "0 B",
        "512 B",
        "2.3 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]


def test_no_colour_but_on_a_terminal(monkeypatch):
    assert render.paint("x", "red") == "x"
    monkeypatch.setattr(render, "is_terminal", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert render.paint("x", "red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert render.paint("x", "red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert render.paint("x", "red") == "x"


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("wide", [1, 3, 9])
def test_a_table_fits_the_terminal_and_cuts_no_number(monkeypatch, capsys, columns, wide):
    monkeypatch.setattr(render, "terminal_width", lambda: columns)
    head = ["KEY", "SIZE", *(f"COLUMN{index}" for index in range(wide)), "WHAT IT IS"]
    rows = [
        [
            "a/key/that/is/longer/than/one/would/like/it/to/be",
            "1,234,567",
            *("word" * 4 for _ in range(wide)),
            "x" * 90,
        ],
        ["short", "8", *("w" for _ in range(wide)), "漢字" * 40],
    ]
    render.table(head, rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(render.cells, lines)) <= columns
    assert any("1,234,567" in line for line in lines)
    assert any("/to/be" in line for line in lines), "of a path the end is kept"


def test_a_table_that_does_not_fit_stands_row_by_row(monkeypatch, capsys):
    monkeypatch.setattr(render, "terminal_width", lambda: 40)
    render.table(["NAME", *"ABCDEFGH", "WHAT"], [["one", *("some text here",) * 8, "it"], ["two", *"12345678", ""]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "NAME  one"
    assert lines[9:12] == ["WHAT  it", "", "NAME  two"]
