"""`cosession complete`: what the word under the cursor could become. Asked by the scripts of `cosession completion`.

    cosession complete bash -- LINE             the line up to the cursor
    cosession complete zsh|fish -- WORDS ...    the words before the cursor, the last as it is typed, quotes and all

The first line printed is `words` or `files`. Behind `files`, which the shell knows better, stands the word without its
quotes; behind `words` a candidate on each line: for fish the word and what it is; for bash and zsh what must follow the
typed text, the word, and what it is; tabs between.

Rule: verbs, options and what they take are read from the tables that run them: nothing is listed here.
"""

from __future__ import annotations

import sys

from cosession.cli import main, quoting, render
from cosession.cli.options import COMMON, Given, Option, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cosession.cli.candidates import Candidate

#: What is asked of the daemon, by the placeholder of an option's value or a word.
_KEYS = ("KEY", "PREFIX")
_HELP = (Option("--help", "", "explain it, with examples"),)
_FRONT = (*_HELP, Option("--version", "", "print the version"))
#: Stands for: let the shell complete file names.
_FILES = ("", "files")


def run(given: Given) -> int:
    """Print the candidates; whatever the line says, that is no error."""
    shell, *words = given.words
    line = quoting.typed(words[0] if words else "") if shell == "bash" else None
    if line is None:
        line = quoting.typed(words[-1] if words else "")
        line.words, line.last = words[:-1], line.last if shell == "zsh" else quoting.fish_word((words or [""])[-1])
    found = candidates(line.words[1:], line.last)
    if found == [_FILES]:
        _print(f"files\n{line.last}\n")
        return 0
    out = ["words\n"]
    for value, about in found:
        if not value.startswith(line.last):
            continue
        columns = [render.escape(value), render.escape(about)]
        if shell == "fish":
            if not value.isprintable():  # it would print it as it is
                continue
            columns[0] = value
        else:
            ends = shell == "bash" and not line.quote and value[-1:] not in ("/", "=")
            columns.insert(0, quoting.rest_of(value, line) + (" " if ends else ""))
        out.append("\t".join(columns) + "\n")
    _print("".join(out))
    return 0


def _print(text: str) -> None:
    """In UTF-8 whatever the locale: the shell passes it on as it is."""
    if sys.stdout is not None:
        sys.stdout.buffer.write(text.encode())


def candidates(words: list[str], last: str) -> list[Candidate]:
    """What `last` could become behind `words`, the words of the command line without the program."""
    given, verb, rest = _verb_of(words)
    if verb is None:
        return _verbs(rest, last)
    left, taken, value_of = _read(given, verb, rest)
    if value_of is not None:
        return _values(given, value_of.value, last)
    if left is None:
        return [_FILES]  # the words of a command behind --
    if left and last.startswith("-"):
        return _options(verb, given, last)
    places = _places(verb)
    members = _verbs(verb.name.split(), last) if not taken else []
    if taken >= len(places):
        return members
    return _values(given, places[taken], last, is_word=_is_word if left else _any_word, ended=True) + members


def _is_word(value: str) -> bool:
    return not value.startswith("-") or value == "-" or value[1:2].isdigit()


def _any_word(_: str) -> bool:
    return True


def _verb_of(words: list[str]) -> tuple[Given, Verb | None, list[str]]:
    """The verb that stands in `words`, None while there is none, and the words behind it (or behind what leads)."""
    leading, rest = main.leading_options(words)
    if rest[:1] == ["help"]:
        return Given(_NONE), None, rest[1:]
    for count in (2, 1):  # `services restart` is another verb than `services`
        name = " ".join(rest[:count])
        if len(rest) >= count and name in main.VERBS:
            verb = main.load(main.VERBS[name])
            return Given(verb), verb, leading + rest[count:]
    return Given(_NONE), None, rest


def _verbs(rest: list[str], last: str) -> list[Candidate]:
    """Verbs, word by word: those of a group behind its name."""
    about = {verb: text for group in main.GROUPS.values() for verb, (_, text) in group.items()}
    found: dict[str, str] = {}
    for verb, text in about.items():
        parts = verb.split()
        if parts[: len(rest)] == rest and len(parts) > len(rest):
            alone = len(parts) == len(rest) + 1
            found[parts[len(rest)]] = text if alone else "..."
    if not rest:
        found |= {option.name: option.help for option in (*_FRONT, *COMMON) if last.startswith("-")}
    return list(found.items())


def _read(given: Given, verb: Verb, rest: list[str]) -> tuple[bool | None, int, Option | None]:
    """What stands behind the verb: whether options may still follow (None: a command does), the number of words, and
    the option whose value comes next. Mistakes are passed over.
    """
    known = {option.name: option for option in (*COMMON, *verb.options)}
    may_follow, taken = True, 0
    following = iter(rest)
    for word in following:
        if not may_follow or _is_word(word):
            taken += 1
            continue
        if word == "--":
            if verb.takes_command:
                return None, taken, None
            may_follow = False
            continue
        name, equals, value = word.partition("=")
        option = known.get(name)
        if option is None:
            continue
        if option.value and not equals:
            value_or_none = next(following, None)
            if value_or_none is None:
                return True, taken, option
            value = value_or_none
        given.put(name, value)
    return may_follow, taken, None


def _options(verb: Verb, given: Given, last: str) -> list[Candidate]:
    """The options that are left; behind `--name=` its values."""
    known = (*verb.options, *COMMON)
    name, equals, value = last.partition("=")
    if equals:
        placeholder = next((option.value for option in known if option.name == name), "")
        found = _values(given, placeholder, value) if placeholder else []
        return found if found == [_FILES] else [(f"{name}={each}", about) for each, about in found]
    return [(option.name, option.help) for option in (*known, *_HELP) if not given.flag(option.name)]


def _places(verb: Verb) -> list[str]:
    """The placeholders of the words that a verb takes, from its usage."""
    found: list[str] = []
    words = iter(verb.usage.split())
    for word in words:
        bare = word.strip("[]()|")
        if bare == "--":
            break
        if bare.startswith("-"):
            next(words, None)  # an option that must be there, and its value
        elif bare not in ("...", ""):
            found.append(bare)
    # A path among the words is one into a value; files are named by FILE.
    return ["" if place == "PATH" else place for place in found[: verb.words[1]]]


def _values(
    given: Given, placeholder: str, last: str, *, is_word: Callable[[str], bool] = _any_word, ended: bool = False
) -> list[Candidate]:
    """What may stand at a placeholder; one with bars (`bash|zsh|fish`) names its words itself."""
    if "|" in placeholder and placeholder != "TARGET|CLAIM":
        return [(word, "") for word in placeholder.split("|") if word.islower() or word == "-"]
    if placeholder in ("PATH", "FILE", "TARGET", "TARGET|CLAIM"):
        return [_FILES]
    placeholder = placeholder.rstrip("0123456789")
    if placeholder == "METHOD":
        return [(method, "") for method in _methods()]
    if placeholder not in (*_KEYS, "ID", "P", "BACKUP", "CLAIM"):
        return []
    from cosession.cli import candidates as asked

    if placeholder == "BACKUP":
        return asked.backups()
    if placeholder in _KEYS:
        return asked.keys(given, last, is_word)
    if placeholder == "CLAIM":
        return asked.claims(given)
    return asked.projects(given) if placeholder == "P" else asked.sessions(given, ended=ended)


def _methods() -> list[str]:
    """Of the daemon, as `debug call` explains them."""
    return main.load(main.VERBS["debug call"]).text.partition("methods:\n")[2].split()


_NONE = Verb("", "", run, summary="")

COMPLETE = Verb(
    "complete",
    "SHELL -- WORDS ...",
    run,
    summary="Print what the last word could become; for the scripts of `cosession completion`.",
    words=(1, 10_000),
)
