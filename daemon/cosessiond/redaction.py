"""Known formats of secrets, and their removal from JSON data before anything of it is kept.

What agents write down may quote the output of a command, and with it a key. A format is known by how it begins; each is
looked for only where a text has that beginning, and no text is read more than a few times, whatever is in it: an
expression begins where a word begins, and what it takes it takes once. So the time is in proportion to the size.

Rule: pure. It finds formats, not secrets: a password without a name beside it looks like any other word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

#: Names whose text is a secret, as members of an object or before `=` or `:` in a text.
_NAMES: Final = (
    r"(?:[a-z0-9]{1,32}[_-]){0,4}(?:password|passwd|passphrase|secret|secret[_-]key|api[_-]?key|access[_-]key|"
    r"private[_-]key|auth[_-]token|access[_-]token|refresh[_-]token|session[_-]token|cosession[_-]token|client[_-]secret)"
)
_SECRET_NAME: Final = re.compile(_NAMES, re.IGNORECASE)
_INSTEAD: Final = "[redacted]"
_START: Final = r"(?<![A-Za-z0-9_-])"


class Format(NamedTuple):
    """One format: how a text with a secret of it reads, but for what is in front (the group `keep`, which stays), and
    what stands in the secret's place. `marks`: of each of these groups one, in small letters, is in every such text.
    """

    instead: str
    marks: tuple[tuple[str, ...], ...]
    pattern: re.Pattern[str]


def _format(name: str, marks: tuple[str, ...], pattern: str, *more: tuple[str, ...], flags: int = 0) -> Format:
    instead = f"[redacted: {name}]" if name else _INSTEAD
    keep = "" if "(?P<keep>" in pattern else "(?P<keep>)"
    return Format(instead, (marks, *more), re.compile(keep + pattern, flags))


FORMATS: Final[tuple[Format, ...]] = (
    _format(
        "private key",
        ("private key-----",),
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----[^-]*+(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?",
    ),
    _format("Anthropic key", ("sk-ant-",), _START + r"sk-ant-[A-Za-z0-9_-]{16,}+"),
    _format("OpenAI key", ("sk-",), _START + r"sk-[A-Za-z0-9_-]{20,}+"),
    _format("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), _START + r"gh[pousr]_[A-Za-z0-9]{20,}+"),
    _format("GitHub token", ("github_pat_",), _START + r"github_pat_[A-Za-z0-9_]{20,}+"),
    _format("GitLab token", ("glpat-",), _START + r"glpat-[A-Za-z0-9_.-]{16,}+"),
    _format("AWS key id", ("akia", "asia"), _START + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _format("Google key", ("aiza",), _START + r"AIza[A-Za-z0-9_-]{35}"),
    _format("Google token", ("ya29.",), _START + r"ya29\.[A-Za-z0-9_-]{20,}+"),
    _format("Slack token", ("xox", "xapp-"), _START + r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}+"),
    _format("Stripe key", ("_live_", "_test_"), _START + r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}+"),
    _format("npm token", ("npm_",), _START + r"npm_[A-Za-z0-9]{30,}+"),
    _format("PyPI token", ("pypi-",), _START + r"pypi-[A-Za-z0-9_-]{30,}+"),
    _format("Hugging Face token", ("hf_",), _START + r"hf_[A-Za-z0-9]{30,}+"),
    _format("JSON web token", ("eyj",), _START + r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+"),
    _format(
        "password",
        ("://",),
        r"(?P<keep>://[A-Za-z0-9._~%-]{0,64}+:)[^\s/:@'\"]{1,256}+(?=@)",
        ("@",),
    ),
    _format(
        "authorization",
        ("bearer ", "basic "),
        r"(?P<keep>(?<![A-Za-z])(?:[Bb]earer|BEARER|[Bb]asic) )[A-Za-z0-9._~+/=-]{16,}+",
    ),
    _format(
        "",
        ("pass", "secret", "key", "token"),
        rf"(?P<keep>(?<![A-Za-z0-9_-]){_NAMES}[\"']?[ ]{{0,2}}[=:][ ]{{0,2}})"
        r"(?:\"[^\"\n]{1,512}+\"|'[^'\n]{1,512}+'|[^\s\"',;\[]{4,512}+)",
        ("=", ":"),
        flags=re.IGNORECASE,
    ),
)


class Redacted(NamedTuple):
    """JSON data without what looked like a secret, and how many `pieces` that were."""

    value: Any
    pieces: int


def redacted(value: Any) -> Redacted:
    """`value`, JSON data, with every known secret in its texts and in the names of its members replaced.

    All texts are searched as one: a call for each costs more than the search.
    """
    texts: list[str] = []
    named = _gather(value, texts)
    joint = _joint(texts)
    found, count = _without_secrets(joint.join(texts))
    if not count and not named:
        return Redacted(value, 0)
    return Redacted(_rebuilt(value, iter(found.split(joint))), count + named)


def _gather(value: Any, texts: list[str]) -> int:
    """All texts of `value` in order, those that are secrets by their name left out; how many these were."""
    named = 0
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, list | tuple):
        for each in value:
            named += _gather(each, texts)
    elif isinstance(value, dict):
        for name, each in value.items():
            texts.append(name)
            if _is_secret(name, each):
                named += 1
            else:
                named += _gather(each, texts)
    return named


def _rebuilt(value: Any, texts: Iterator[str]) -> Any:
    """`value` with these texts, in the order of `_gather`."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, list | tuple):
        return [_rebuilt(each, texts) for each in value]
    if not isinstance(value, dict):
        return value
    members: dict[str, Any] = {}
    for name, each in value.items():
        shown = next(texts)
        while shown in members:
            shown += "'"
        members[shown] = _INSTEAD if _is_secret(name, each) else _rebuilt(each, texts)
    return members


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and value != "" and _SECRET_NAME.fullmatch(name) is not None


def _joint(texts: list[str]) -> str:
    """What stands between two texts: it is in none of them, and no format goes across it."""
    used = set().union(*texts)
    free = next(each for each in map(chr, range(0xF0000, 0xFFFFE)) if each not in used)
    return f"\n-{free}-\n"


def _without_secrets(text: str) -> tuple[str, int]:
    lowered = text.lower()
    count = 0
    for each in FORMATS:
        if all(any(mark in lowered for mark in marks) for marks in each.marks):
            text, replaced = each.pattern.subn(rf"\g<keep>{each.instead}", text)
            count += replaced
    return text, count
