"""The one option style of all verbs: how arguments are read and how `--help` is written.

Options stand anywhere before `--`, as `--name VALUE` or `--name=VALUE`; `-h` is `--help`. What begins with a dash and a
digit is a word (a number), and so is a lone `-` (standard input).

Rule: standard library's builtins only, no imports at all on the way of a correct command: this is on the fast path.
"""

from __future__ import annotations

from cosession.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: The longest wait that can be asked for: a day. Beyond that it is a mistake or a daemon's job.
TIMEOUT_S_MAX = 86_400.0
TIMEOUT_S = 10.0
#: `messages.limits.TTL_S_MAX`, which is not light: a leap year.
TTL_S_MAX = 366 * 24 * 3600.0
#: Those of the largest 64-bit integer.
DIGITS_MAX = 19


class Option:
    """One option: `value` is the placeholder of what follows it, "" for a flag."""

    __slots__ = ("help", "name", "value")

    def __init__(self, name: str, value: str, help: str) -> None:  # noqa: A002 (the word of the trade)
        self.name = name
        self.value = value
        self.help = help


#: What every verb takes.
COMMON = (
    Option("--json", "", "one JSON object on standard output, also for an error"),
    Option("--project", "P", "the project, instead of the one of the working directory"),
    Option("--global", "", "what belongs to no project"),
    Option("--session", "ID", "act for this session, when you have several ($COSESSION_SESSION)"),
    Option("--socket", "PATH", "the daemon's socket ($COSESSION_SOCKET)"),
    Option("--no-spawn", "", "never start a daemon ($COSESSION_NO_SPAWN=1)"),
    Option("--timeout", "S", f"seconds to wait for the daemon (default {TIMEOUT_S:g})"),
)


class Verb:
    """One verb of the command line: what it takes, how it explains itself, and the function that does it.

    `words` bounds the positional words. `takes_command`: all that follows `--` is a command to run, not words.
    """

    __slots__ = ("examples", "name", "options", "run", "summary", "takes_command", "text", "usage", "words")

    def __init__(
        self,
        name: str,
        usage: str,
        run: Callable[[Given], int],
        *,
        summary: str,
        text: str = "",
        examples: Sequence[tuple[str, str]] = (),
        options: Sequence[Option] = (),
        words: tuple[int, int] = (0, 0),
        takes_command: bool = False,
    ) -> None:
        self.name = name
        self.usage = usage
        self.run = run
        self.summary = summary
        self.text = text
        self.examples = examples
        self.options = options
        self.words = words
        self.takes_command = takes_command


class Given:
    """The arguments as read: `words` in order, `command` after `--`, and the options by name."""

    __slots__ = ("_options", "command", "verb", "words")

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.words: list[str] = []
        self.command: list[str] = []
        self._options: dict[str, str] = {}

    def flag(self, name: str) -> bool:
        """Whether the flag was given."""
        return name in self._options

    def text(self, name: str, default: str = "") -> str:
        """The option as text."""
        return self._options.get(name, default)

    def number(self, name: str, default: float, *, low: float = 0.0, high: float = 1e15) -> float:
        """The option as a number within bounds, both inclusive."""
        if name not in self._options:
            return default
        text = self._options[name]
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise usage_error(self.verb, f"{name} takes a number from {low:.12g} to {high:.12g}, not {text!r}")
        return number

    def integer(self, name: str, default: int, *, low: int = 0, high: int = 2**63 - 1) -> int:
        """The option as a whole number within bounds, both inclusive."""
        if name not in self._options:
            return default
        text = self._options[name]
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else -1
        if not low <= number <= high:
            raise usage_error(self.verb, f"{name} takes a whole number from {low} to {high}, not {text!r}")
        return number

    def put(self, name: str, value: str) -> None:
        """Set an option, whatever it was."""
        self._options[name] = value

    def timeout_s(self) -> float:
        """How long to wait for the daemon, in all."""
        return self.number("--timeout", TIMEOUT_S, low=0.001, high=TIMEOUT_S_MAX)

    def _take(self, option: Option, value: str) -> None:
        if option.name in self._options and option.value and self._options[option.name] != value:
            raise usage_error(self.verb, f"{option.name} is given twice with different values")
        self._options[option.name] = value


def parse(verb: Verb, arguments: Sequence[str]) -> Given | None:
    """The arguments of a verb, None when help is asked for; raises InvalidRequest."""
    given = Given(verb)
    known = {option.name: option for option in (*COMMON, *verb.options)}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            (given.command if verb.takes_command else given.words).extend(rest)
        elif argument in ("--help", "-h"):
            return None
        elif not argument.startswith("-") or argument == "-" or argument[1:2].isdigit():
            given.words.append(argument)
        else:
            name, equals, value = argument.partition("=")
            option = known.get(name)
            if option is None:
                raise usage_error(verb, f"there is no option {name!r}{did_you_mean(name, known)}")
            given._take(option, _value(verb, option, value if equals else None, rest))  # noqa: SLF001 (its own parser)
    _check(given)
    return given


def usage_error(verb: Verb, why: str) -> InvalidRequest:
    """The error for arguments that do not fit, with what to do next."""
    return InvalidRequest(f"cannot run `cosession {verb.name}`: {why}; do: cosession {verb.name} --help")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean ...?` for the nearest known word, or nothing."""
    from cosession.nearest import nearest  # for mistakes only

    near = nearest(word, known)
    return f", did you mean {near}?" if near else ""


def help_text(verb: Verb) -> str:
    """What `cosession VERB --help` prints."""
    lines = [f"usage: cosession {verb.name} {verb.usage}".rstrip(), "", verb.summary]
    if verb.text:
        lines += ["", verb.text.strip("\n")]
    if verb.options:
        lines += ["", "options:", *_option_lines(verb.options)]
    lines += ["", "common options:", *_option_lines(COMMON)]
    if verb.examples:
        lines += ["", "examples:"]
        for command, what in verb.examples:
            lines += [f"  # {what}", f"  {command}"]
    return "\n".join(lines) + "\n"


def _option_lines(options: Iterable[Option]) -> list[str]:
    return [f"  {f'{option.name} {option.value}'.rstrip():<18} {option.help}" for option in options]


def _value(verb: Verb, option: Option, value: str | None, rest: Iterable[str]) -> str:
    if not option.value:
        if value is not None:
            raise usage_error(verb, f"{option.name} takes no value")
        return ""
    if value is None:
        value = next(iter(rest), None)
    if value is None:
        raise usage_error(verb, f"{option.name} needs a value, {option.name} {option.value}")
    return value


def _check(given: Given) -> None:
    verb = given.verb
    low, high = verb.words
    if len(given.words) < low:
        raise usage_error(verb, f"it takes {verb.usage or 'no words'}")
    if len(given.words) > high:
        raise usage_error(verb, f"there is a word too many, {given.words[high]!r}")
    if given.flag("--project") and given.flag("--global"):
        raise usage_error(verb, "--project and --global exclude one another")
    if verb.takes_command and not given.command:
        raise usage_error(verb, "it needs a command after --")
