"""The one option style: what every verb takes, in which order, and what is said when it does not fit."""

from __future__ import annotations

import pytest

from cosession.cli.main import VERBS, load
from cosession.cli.options import Given, Option, Verb, help_text, parse
from cosession.errors import InvalidRequest


def verb(*, words=(0, 9), takes_command=False) -> Verb:
    options = (Option("--count", "N", "how many"), Option("--long", "", "more"))
    return Verb("try", "", lambda _: 0, summary="Try.", options=options, words=words, takes_command=takes_command)


def parsed(*arguments: str, **about) -> Given:
    given = parse(verb(**about), arguments)
    assert given is not None
    return given


def test_options_stand_anywhere_and_take_both_forms():
    given = parsed("a", "--count", "3", "b", "--long", "--project=p=q")
    assert given.words == ["a", "b"]
    assert given.integer("--count", 0) == 3
    assert given.flag("--long")
    assert given.text("--project") == "p=q"


def test_what_is_not_given_has_its_default():
    given = parsed()
    assert not given.flag("--long")
    assert given.integer("--count", 7) == 7
    assert given.timeout_s() == 10.0


@pytest.mark.parametrize("word", ["-", "-5", "-1.5e3", ""])
def test_numbers_and_the_lone_dash_are_words(word):
    assert parsed(word).words == [word]


def test_two_dashes_end_the_options():
    assert parsed("a", "--", "--long", "-x").words == ["a", "--long", "-x"]


def test_a_command_follows_two_dashes_and_keeps_its_own_options():
    given = parsed("a", "--long", "--", "sed", "--quiet", "--", takes_command=True)
    assert (given.words, given.command) == (["a"], ["sed", "--quiet", "--"])


@pytest.mark.parametrize("ask", ["--help", "-h"])
def test_help_wins_over_what_is_missing(ask):
    assert parse(verb(words=(2, 2)), [ask]) is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--cuont", "3"], "there is no option '--cuont', did you mean --count?"),
        (["--xyzzy"], "there is no option '--xyzzy'"),
        (["-x"], "there is no option '-x'"),
        (["--count"], "--count needs a value, --count N"),
        (["--long=yes"], "--long takes no value"),
        (["--count", "1", "--count", "2"], "--count is given twice with different values"),
        (["--project", "p", "--global"], "--project and --global exclude one another"),
    ],
)
def test_what_does_not_fit_is_said_with_what_to_do(arguments, why):
    with pytest.raises(InvalidRequest) as caught:
        parse(verb(), arguments)
    assert why in caught.value.message
    assert caught.value.message.startswith("cannot run `cosession try`: ")
    assert caught.value.message.endswith("do: cosession try --help")
    assert caught.value.exit_code == 64


@pytest.mark.parametrize("text", ["x", "", "-1", "1.5", "11", "9" * 40, "\u0663", "1_0"])
def test_whole_numbers_are_read_strictly(text):
    with pytest.raises(InvalidRequest, match="takes a whole number from 1 to 10"):
        parsed(f"--count={text}").integer("--count", 1, low=1, high=10)


@pytest.mark.parametrize("text", ["x", "", "nan", "-1", "inf", "1e9"])
def test_numbers_are_read_within_bounds(text):
    with pytest.raises(InvalidRequest, match="takes a number from"):
        parsed(f"--timeout={text}").timeout_s()


def test_words_are_counted():
    with pytest.raises(InvalidRequest, match="a word too many, 'b'"):
        parsed("a", "b", words=(0, 1))
    with pytest.raises(InvalidRequest, match="it takes"):
        parsed(words=(1, 1))
    with pytest.raises(InvalidRequest, match="needs a command after --"):
        parsed(takes_command=True)


@pytest.mark.parametrize("name", list(VERBS))
def test_every_verb_explains_itself_with_examples(name):
    verb = load(VERBS[name])
    assert verb.name == name
    text = help_text(verb)
    assert text.startswith(f"usage: cosession {name}")
    assert verb.summary.endswith(".")
    assert verb.examples, "at least one example"
    for command, what in verb.examples:
        assert f"cosession {name}" in command or (name == "sockname" and "cosession sockname" in command)
        assert what
    assert all(len(line) <= 120 for line in text.partition("\nexamples:\n")[0].splitlines())
    for option in verb.options:
        assert f"  {option.name}" in text
