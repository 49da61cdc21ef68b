"""Overlap of globs: judged by matching every short path with both, by an independent matcher, and under bugs."""

from __future__ import annotations

import re
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosession.errors import InvalidRequest
from cosessiond.claims import globs
from cosessiond.claims.globs import is_plain, overlap, parse

#: Every path of at most three segments over names of at most two characters of {a, b}.
NAMES = ["".join(letters) for count in (1, 2) for letters in product("ab", repeat=count)]
PATHS = ["/".join(names) for count in (1, 2, 3) for names in product(NAMES, repeat=count)]

SEGMENTS = ["a", "b", "ab", "*", "?", "a*", "*b", "[ab]", "[!a]", "?*", "a?", "*a*", "**"]
TEXTS = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map("/".join)


@cache
def expression(glob: str) -> re.Pattern[str]:
    """The same glob as a regular expression: the independent reading."""
    out = ""
    names = glob.split("/")
    for number, name in enumerate(names):
        last = number == len(names) - 1
        if name == "**":
            out += "[^/]+(?:/[^/]+)*" if last else "(?:[^/]+/)*"
            continue
        if name == "*":
            out += "[^/]+"
        else:
            for part in re.findall(r"\[!?[^\]]+\]|.", name):
                out += {"*": "[^/]*", "?": "[^/]"}.get(part) or (
                    part.replace("!", "^") if part[0] == "[" else re.escape(part)
                )
        out += "" if last else "/"
    return re.compile(out)


@cache
def named(glob: str) -> frozenset[str]:
    return frozenset(path for path in PATHS if expression(glob).fullmatch(path))


def disagreement(one: str, other: str) -> str:
    """What is wrong about the overlap of two globs; "" when nothing is."""
    said = overlap(parse(one), parse(other))
    if said != overlap(parse(other), parse(one)):
        return "not symmetric"
    common = named(one) & named(other)
    if common and not said:
        return f"missed {min(common)}"
    for glob, path in ((one, other), (other, one)):
        if is_plain(parse(path)) and said != bool(expression(glob).fullmatch(path)):
            return "wrong about a plain path"
    # A common path may be longer than any that was tried, but not where nothing is long and no gap spans segments.
    names = [*one.split("/"), *other.split("/")]
    short = all(len(name) <= 2 for name in names) and max(one.count("/"), other.count("/")) <= 2
    if said and not common and "**" not in names and short:
        return "sees what no path shows"
    return ""


@settings(max_examples=600, deadline=None)
@given(TEXTS, TEXTS)
def test_overlap_is_what_matching_every_path_says(one, other):
    assert not disagreement(one, other)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.sampled_from(PATHS))
def test_a_plain_path_overlaps_the_globs_that_match_it_and_no_others(glob, path):
    assert overlap(parse(glob), parse(path)) == bool(expression(glob).fullmatch(path))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("src/**", "src", False),
        ("src/**", "src/a/b.py", True),
        ("**/test_*.py", "test_a.py", True),
        ("**/*.py", "docs/**", True),
        ("**/*.py", "docs/*.md", False),
        ("a/**/z", "a/z", True),
        ("a/*/z", "a/z", False),
        ("**/x/**/y", "**/y/**/x", False),
        ("**/x/**/y", "**/y/**/y", True),
        ("*.tar.*", "a.tar.gz", True),
        ("[a-c]x", "[c-e]x", True),
        ("[a-c]x", "[d-e]x", False),
        ("[!a]", "a", False),
        ("[]]", "]", True),
        ("[[]", "[!a]", True),
        ("[a-]", "-", True),
        (".env", "*", True),
        ("ä*", "*ö", True),
    ],
)
def test_pairs(one, other, expected):
    assert overlap(parse(one), parse(other)) is expected
    assert overlap(parse(other), parse(one)) is expected


@pytest.mark.parametrize("text", ["", "/a", "a//b", "a/", "./a", "../a", "a/..", "[a", "[/]", "[z-a]"])
def test_what_is_no_glob_is_refused_with_cause_and_remedy(text):
    with pytest.raises(InvalidRequest, match=r"cannot claim .*: .*; "):
        parse(text)


def test_plain_paths_are_told_from_globs():
    assert is_plain(parse("src/a.py"))
    assert not any(is_plain(parse(text)) for text in ("src/*", "src/**", "a?", "[ab]"))
    assert is_plain(parse("[a]")), "a class of one is that one"


class Counted:
    """How often two items are compared."""

    def __init__(self, monkeypatch):
        self.count = 0
        self._same = globs._both
        monkeypatch.setattr(globs, "_both", self)

    def __call__(self, one, other):
        self.count += 1
        return self._same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("*a" * 255, "a" * 510 + "b"),
        ("*a?" * 170, "a" * 511),
        ("**/a/" * 100 + "b", "a/" * 255 + "a"),
        ("**/*a*b/" * 60 + "c", "ab/" * 170 + "d"),
        ("*[a-y]" * 85, "z" * 512),
        ("[ab]" * 128, "[bc]" * 128),
    ],
)
def test_no_pair_costs_more_than_the_product_of_its_lengths(one, other, monkeypatch):
    parse.cache_clear()
    globs._segments_meet.cache_clear()
    counted = Counted(monkeypatch)
    overlap(parse(one), parse(other))
    assert counted.count <= len(one) * 2 + len(other) * 2, counted.count


def seeded_prefix_only(one, other, same):
    """As `_meet`, but it forgets what stands after the last gap."""
    if len(one.chunks) > 1 and len(other.chunks) > 1:
        return all(same(a, b) for a, b in zip(one.chunks[0], other.chunks[0], strict=False))
    return globs_meet(one, other, same)


def seeded_no_order(fixed, chunks, same):
    """As `_placed`, but each chunk is looked for from the start again."""
    head, *middle, tail = chunks
    start, end = len(head), len(fixed) - len(tail)
    if start > end or not all(map(same, head, fixed)) or not all(map(same, tail, fixed[end:])):
        return False
    return all(globs._first_end(chunk, fixed, 0, len(fixed), same) >= 0 for chunk in middle)


globs_meet = globs._meet


@pytest.mark.parametrize(("name", "bug"), [("_meet", seeded_prefix_only), ("_placed", seeded_no_order)])
def test_the_judge_finds_seeded_bugs(name, bug, monkeypatch):
    monkeypatch.setattr(globs, name, bug)
    globs._segments_meet.cache_clear()
    pairs = [("*b", "*a"), ("*a*b*", "ba"), ("**/a/**/b/**", "b/a/a")]
    found = [pair for pair in pairs if disagreement(*pair)]
    globs._segments_meet.cache_clear()
    assert found
