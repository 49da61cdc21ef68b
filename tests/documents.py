"""What the documents must say, as checks from a text to the list of what is wrong with it; nothing here runs anything.

`client/PROTOCOL.md`: every method, parameter, reply field, structure, limit, error code and space. `README.md`:
promises, configuration keys, environment variables, verbs, entry points. `daemon/ARCHITECTURE.md`: every module, the
tables of the schema, exit codes. All of them: links.

Rule: what is expected is derived from the code; a check takes the text, so that a test can hand it a wrong one.
"""

from __future__ import annotations

import ast
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from cosession import errors, model, reach, wire
from cosession.cli.main import VERBS
from cosession.config import APPLIES, WHEN, Config
from cosession.messages import REQUESTS, admin, debug, limits, recovery, reply_type, sessions, store, watches
from cosession.messages.base import Reply
from cosessiond import app
from cosessiond.sessions import verdict, watching
from cosessiond.store.migrations import m001, m002, m003
from proof.table import PROOFS
from source_tree import PACKAGES, ROOT, modules

#: Every structure that travels, beside the requests and replies.
STRUCTURES: Final[tuple[type[Struct], ...]] = (
    model.Entry,
    model.Written,
    model.Change,
    model.Version,
    model.AuditRecord,
    store.CompareEntry,
    store.CompareRange,
    store.TxnPut,
    store.TxnDelete,
    store.TxnMerge,
    store.TxnAdd,
    store.TxnAppend,
    model.Session,
    model.Checkpoint,
    model.CheckpointSummary,
    model.Decision,
    model.FileFact,
    model.GitFacts,
    model.ClaimFact,
    recovery.LostClaim,
    recovery.ChangedEntry,
    recovery.EndedEntry,
    recovery.Offer,
    model.Instance,
    sessions.Layer,
    watches.WatchEvent,
    admin.ConfigChange,
    debug.ClientState,
    debug.WatchState,
    debug.TaskState,
    debug.QueueState,
    debug.LockState,
    debug.Trace,
    debug.Latency,
    debug.Gauge,
    debug.Frame,
    wire.ErrorBody,
)
_PRIMITIVES: Final = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "value", Raw: "value"}

#: Numbers that clients meet beside those of `messages.limits`, and where they live.
NUMBERS: Final[tuple[tuple[str, object], ...]] = (
    ("HEARTBEAT_S_MIN", limits),
    ("HEARTBEAT_S_MAX", limits),
    ("missed_max", verdict.POLICY),
    ("idle_after_s", verdict.POLICY),
    ("lost_after_s", verdict.POLICY),
    ("POLL_S", watching),
    ("TURN_S", limits),
    ("TURN_WAIT_S_MAX", limits),
    ("SILENT_S", limits),
    ("DRAIN_S", app),
    ("LATCH_S", reach),
)
DATE: Final = r"20\d\d-\d\d-\d\d"
#: So many places to begin reading the README names.
ENTRY_POINTS: Final = 8

Row = list[str]


# -- markdown --------------------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """The text under each heading, up to the next heading of any level, by the heading without backticks."""
    found: dict[str, str] = {}
    parts = re.split(r"^#{1,4} (.+)$", _without_code(text), flags=re.MULTILINE)
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        found[heading.replace("`", "").strip()] = body
    return found


def tables(body: str) -> dict[str, list[Row]]:
    """The tables of a section, by the name of their first column; cells without backticks and link targets."""
    found: dict[str, list[Row]] = {}
    rows: list[Row] | None = None
    for line in body.splitlines():
        if not line.startswith("|"):
            rows = None
            continue
        cells = [_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if rows is None:
            rows = found.setdefault(cells[0], [])
        elif set(cells[0]) - set("-: "):
            rows.append(cells)
    return found


def _plain(cell: str) -> str:
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", cell)
    return text.replace("`", "").replace("\\|", "|").strip()


def _without_code(text: str) -> str:
    """The text with the content of fenced blocks blanked, so that nothing in them looks like a heading."""
    return re.sub(r"^```.*?^```", "```\n```", text, flags=re.MULTILINE | re.DOTALL)


def _compare(what: str, shown: Sequence[tuple[str, ...]], wanted: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for row in wanted:
        if row not in shown:
            yield f"{what}: missing or different: {' | '.join(row)}"
    for row in shown:
        if row not in wanted:
            yield f"{what}: there is no such thing: {' | '.join(row)}"
    if not (set(shown) ^ set(wanted)) and list(shown) != list(wanted):
        yield f"{what}: the order is not that of the code"


def _cut(rows: Iterable[Row], count: int) -> list[tuple[str, ...]]:
    return [tuple(row[:count]) for row in rows]


# -- types and defaults as the documents say them --------------------------------------------------------------------


def type_text(annotation: Any) -> str:
    """An annotation in the words of the document."""
    if annotation in _PRIMITIVES:
        return _PRIMITIVES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (list, tuple):
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return "map"
    if origin is Literal:
        return "string"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            "null" if each is type(None) else type_text(each) for each in arguments if each is not UnsetType
        )
    return str(annotation.__name__)


def default_text(field: msgspec.structs.FieldInfo) -> str:
    """A default in the words of the document."""
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.json.encode(field.default_factory()).decode()
    if field.default is msgspec.NODEFAULT:
        return "required"
    if field.default is UNSET:
        return "absent"
    if isinstance(field.default, float):
        return f"{field.default:g}"
    return msgspec.json.encode(field.default).decode()


def _fields(struct: type[Struct]) -> list[tuple[str, str]]:
    tag = struct.__struct_config__.tag_field
    own = [(field.encode_name, type_text(field.type)) for field in msgspec.structs.fields(struct)]
    return [(tag, "string"), *own] if tag else own


# -- client/PROTOCOL.md ----------------------------------------------------------------------------------------------


def methods(text: str) -> list[str]:
    """Every method has a section with exactly its parameters, reply fields and at least the errors of its docstring."""
    found: list[str] = []
    shown = sections(text)
    documented = re.findall(r"^### `([a-z_.]+)`$", text, flags=re.MULTILINE)
    found += [f"{name}: there is no such method" for name in documented if name not in REQUESTS]
    for name, request in REQUESTS.items():
        if name not in documented:
            found.append(f"{name}: no section")
            continue
        body = tables(shown[name])
        parameters = [
            (field.encode_name, type_text(field.type), default_text(field)) for field in msgspec.structs.fields(request)
        ]
        found += _compare(f"{name}: parameters", _cut(body.get("parameter", []), 3), parameters)
        own = [field for field in _fields(reply_type(request)) if field not in _fields(Reply)]
        found += _compare(f"{name}: reply", _cut(body.get("reply", []), 2), own)
        promised = re.search(r"Errors?: ([a-z_, ]+)\.", request.__doc__ or "")
        codes = set(promised[1].split(", ")) if promised else set()
        listed = shown[name].partition("Errors: ")[2]
        if "as for `put`" in listed:
            listed += shown.get("put", "").partition("Errors: ")[2]
        found += [f"{name}: the error {code} is not listed" for code in codes if f"`{code}`" not in listed]
    return found


def structures(text: str) -> list[str]:
    """Every structure has a section with exactly its fields; the words of a closed list are all there."""
    found: list[str] = []
    shown = sections(text)
    for struct in STRUCTURES:
        rows = tables(shown.get(struct.__name__, "")).get("field", [])
        found += _compare(struct.__name__, _cut(rows, 2), _fields(struct))
        meaning = {row[0]: row[2] for row in rows if len(row) > 2}
        for field in msgspec.structs.fields(struct):
            for word in get_args(field.type) if get_origin(field.type) is Literal else ():
                if word not in re.findall(r"[a-z_]+", meaning.get(field.encode_name, "")):
                    found.append(f"{struct.__name__}.{field.encode_name}: {word!r} is not named")
        tag = struct.__struct_config__
        if tag.tag_field and f'"{tag.tag}"' not in meaning.get(tag.tag_field, ""):
            found.append(f"{struct.__name__}.{tag.tag_field}: {tag.tag!r} is not named")
    return found


def limit_values(text: str) -> list[str]:
    """Both tables of limits, with the values of the code."""
    rows = tables(_chapter(text, "Limits")).get("limit", [])
    announced = [(field.name, f"{field.default:,.0f}") for field in msgspec.structs.fields(limits.Limits)]
    fixed = [(name, f"{number:,}") for name, number in vars(limits).items() if type(number) is int]
    wrong = list(_compare("limits", _cut(rows, 2), announced + fixed))
    lowest = [(name, _number(getattr(limits.FLOORS, name))) for name, _ in announced]
    shown = [(row[0], row[2]) for row in tables(_chapter(text, "Limits")).get("limit", [])[: len(lowest)]]
    return wrong + list(_compare("floors", shown, lowest))


def other_numbers(text: str) -> list[str]:
    """The numbers that clients meet and that have their home elsewhere."""
    rows = tables(_chapter(text, "Limits")).get("number", [])
    return list(_compare("numbers", _cut(rows, 2), [(name, _number(getattr(home, name))) for name, home in NUMBERS]))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def error_codes(text: str) -> list[str]:
    """The catalogue, and no code that is not in it."""
    rows = tables(_chapter(text, "Errors")).get("code", [])
    wanted = [
        (code, str(number), "yes" if retryable else "no", str(exit_code))
        for code, (number, retryable, exit_code) in errors.CATALOGUE.items()
    ]
    found = list(_compare("errors", _cut(rows, 4), wanted))
    for line in re.findall(r"^Errors: (.*(?:\n\S.*)*)", text, flags=re.MULTILINE):
        named = re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", line))
        known = set(errors.CATALOGUE) | set(REQUESTS)
        found += [f"errors: {code} is named, but not in the catalogue" for code in named if code not in known]
    return found


def spaces(text: str) -> list[str]:
    """Every space is explained, and no other is named."""
    body = _chapter(text, "Names")
    explained = re.findall(r"`(context|\$[a-z]+)`", body)
    found = [f"spaces: {space} is not explained" for space in model.SPACES if space not in explained]
    named = re.findall(r"`(\$[a-z]+)`", text)
    return found + [f"spaces: there is no {name}" for name in sorted(set(named) - set(model.SPACES))]


def versions(text: str) -> list[str]:
    """The version of the protocol, in the title and in the rules."""
    number = limits.PROTOCOL_VERSION
    wanted = (f"# The cosession protocol, version {number}\n", f"The version of this protocol is {number}.")
    return [f"versions: {line.strip()!r} is missing" for line in wanted if line not in text]


def _chapter(text: str, heading: str) -> str:
    return sections(text).get(heading, "")


# -- README.md -------------------------------------------------------------------------------------------------------


def promises(text: str) -> list[str]:
    """The promises word for word, each with its limit and what is true of it now; the tests it names are there."""
    shown = tables(_chapter(text, "Promises")).get("#", [])
    data = (ROOT / "tests" / "data" / "promises.txt").read_text(encoding="utf-8")
    wanted = [tuple(_plain(cell) for cell in line.split("\t")) for line in data.splitlines()]
    found = list(_compare("promises", _cut(shown, 3), wanted))
    for row in shown:
        state = row[3] if len(row) > 3 else ""
        if not re.match(r"(kept|partly|not yet)\b", state):
            found.append(f"promises: {row[0]}: the state begins with kept, partly or not yet, not with {state!r}")
        paths = re.findall(r"tests/[\w/]+(?:\.py)?", state)
        found += [f"promises: {row[0]}: {path} is not there" for path in paths if not (ROOT / path).exists()]
        if state.startswith("kept") and not paths:
            found.append(f"promises: {row[0]}: kept, but by which test?")
    return found


def proofs(text: str) -> list[str]:
    """tests/PROOF.md: each promise of the README with its tests, its long proofs, a dated figure and its limit."""
    readme = tables(_chapter((ROOT / "README.md").read_text(encoding="utf-8"), "Promises")).get("#", [])
    shown = tables(_chapter(text, "Proofs")).get("proof", [])
    wanted = [(proof.name, proof.what, f"{proof.goal:,}", proof.unit) for proof in PROOFS]
    found = list(_compare("proofs", _cut(shown, 4), wanted))
    found += [f"proofs: {row[0]}: the last cell is no date" for row in shown if not re.fullmatch(DATE, row[-1])]
    bodies = sections(text)
    for promise in readme:
        body = bodies.get(promise[0], "")
        said = dict(re.findall(r"^- (tests|proofs|figure|limit): (.+)$", body, flags=re.MULTILINE))
        if said.keys() != {"tests", "proofs", "figure", "limit"}:
            found.append(f"proofs: {promise[0]} has {sorted(said)}, should have tests, proofs, figure and limit")
            continue
        tests = set(re.findall(r"tests/[\w/]+\.py", said["tests"]))
        named = {each for each in re.findall(r"tests/[\w/]+\.py", promise[3]) if "/prove_" not in each}
        found += [f"proofs: {promise[0]}: {each} is not there" for each in tests if not (ROOT / each).exists()]
        found += [f"proofs: {promise[0]}: the README names {each}" for each in sorted(named - tests)]
        names = ", ".join(proof.name for proof in PROOFS if promise[0] in proof.promises.split())
        if names != ("" if said["proofs"].startswith("none") else said["proofs"]):
            found.append(f"proofs: {promise[0]}: the proofs are {names or 'none'}, not {said['proofs']}")
        if not said["figure"].startswith("none") and not re.search(DATE, said["figure"]):
            found.append(f"proofs: {promise[0]}: a figure without a date")
    return found if readme else ["proofs: the README has no promises"]


def config_keys(text: str) -> list[str]:
    """Every key of the configuration, its default, when a change applies; every key of the example is valid."""
    body = _chapter(text, "Configuration")
    rows = tables(body).get("key", [])
    wanted = []
    for part in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(part.type):
            shown = str(field.default)
            if isinstance(field.default, int | float):
                is_whole = float(field.default).is_integer()
                shown = f"{field.default:_.0f}" if is_whole else f"{field.default:g}"
            key = f"{part.name}.{field.name}"
            wanted.append((key, shown, WHEN[APPLIES[key]].removeprefix("applies ")))
    found = list(_compare("configuration", _cut(rows, 3), wanted))
    examples = re.findall(r"^```toml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    if not examples:
        found.append("configuration: no example")
    for example in examples:
        try:
            msgspec.toml.decode(example, type=Config)
        except msgspec.DecodeError as error:
            found.append(f"configuration: the example is wrong: {error}")
    return found


def verbs(text: str) -> list[str]:
    """Every verb of the command line has a row, and every row is a verb."""
    rows = tables(_chapter(text, "Commands")).get("command", [])
    shown = [(re.split(r" (?=[A-Z[<-])", row[0].removeprefix("cosession "))[0],) for row in rows]
    return list(_compare("commands", shown, [(verb,) for verb in VERBS]))


def library_errors(text: str) -> list[str]:
    """Every class of errors with its code, and what to do; the base stands last, for all other codes."""
    rows = tables(_chapter(text, "From Python")).get("error", [])
    kinds = {type(errors.error_from(code, "")) for code in errors.CATALOGUE} - {errors.CosessionError}
    wanted = [
        (kind.__name__, kind.code) for kind in sorted(kinds, key=lambda kind: list(errors.CATALOGUE).index(kind.code))
    ]
    found = list(_compare("errors of the library", _cut(rows, 2), [*wanted, ("CosessionError", "any other")]))
    return found + [f"errors of the library: {row[0]}: what to do?" for row in rows if len(row) < 3 or not row[2]]


def variables(text: str) -> list[str]:
    """Every environment variable of ours that the code knows has a row, and every row is known."""
    shown = {row[0] for row in tables(_chapter(text, "Configuration")).get("variable", [])}
    known: set[str] = set()
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                known |= set(re.findall(r"\bCOSESSION_[A-Z_]*[A-Z]\b", node.value))
    found = [f"environment: {name} is not explained" for name in sorted(known - shown)]
    return found + [f"environment: {name} does not exist" for name in sorted(shown - known)]


def entry_points(text: str) -> list[str]:
    """Eight places to begin reading, each a file of the source, none twice."""
    places = re.findall(r"^\d\. \[([^]]+)\]\(([^)]+)\): \S", _chapter(text, "Reading the source"), flags=re.MULTILINE)
    found = [f"reading: {target} is not there" for _, target in places if not (ROOT / target).is_file()]
    found += [f"reading: {label} leads to {target}" for label, target in places if label != target]
    if len({target for _, target in places}) != ENTRY_POINTS:
        found.append(f"reading: {len(places)} places, not {ENTRY_POINTS}")
    return found


# -- daemon/ARCHITECTURE.md ------------------------------------------------------------------------------------------


def module_list(text: str) -> list[str]:
    """Every module of both packages has one line, and every line is a module."""
    shown = re.findall(r"^\| `((?:client|daemon)/[\w/]+\.py)` \| \S", text, flags=re.MULTILINE)
    wanted = [str(module.path.relative_to(ROOT)) for module in modules().values()]
    found = [f"modules: {path} has no line" for path in wanted if path not in shown]
    found += [f"modules: {path} is not there" for path in shown if path not in wanted]
    return found + [f"modules: {path} stands twice" for path in sorted({p for p in shown if shown.count(p) > 1})]


def schema_tables(text: str) -> list[str]:
    """The tables of schema 1, and those that later ones added, with their columns in order."""
    rows = tables(_chapter(text, "Schema 1")).get("table", [])
    wanted = []
    added = [each for each in (*m002._STEPS, *m003._STEPS) if re.match("CREATE TABLE (audit|ended|sweep)", each)]
    for statement in (*m001._TABLES, *added):
        name, body = re.findall(r"CREATE TABLE (\w+) \((.*)\)", statement, flags=re.DOTALL)[0]
        columns = re.findall(r"(\w+) (?:INTEGER|TEXT|BLOB)\b", body)
        wanted.append((name, ", ".join(columns)))
    return list(_compare("schema", _cut(rows, 2), wanted))


def exit_codes(text: str) -> list[str]:
    """The exit codes of the daemon, those of the catalogue among them."""
    rows = tables(_chapter(text, "Life of the daemon")).get("exit code", [])
    wanted = {0, app.EXIT_IO, *(errors.CATALOGUE[code][2] for code in ("already_running", "config", "invalid_params"))}
    shown = {int(row[0]) for row in rows if row[0].isdigit()}
    return [f"exit codes: {code} is missing or wrong" for code in sorted(wanted ^ shown)]


# -- every document --------------------------------------------------------------------------------------------------


def links(text: str, place: Path) -> list[str]:
    """Relative links lead to files that are there, and to headings that are there."""
    found: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (place.parent / path) if path else place
        if not goal.exists():
            found.append(f"links: {target} leads nowhere")
        elif anchor and goal.suffix == ".md":
            headings = _anchors(text if not path else goal.read_text(encoding="utf-8"))
            if anchor not in headings:
                found.append(f"links: {target}: there is no such heading")
    return found


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#{1,6} (.+)$", _without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def machine_paths(text: str) -> list[str]:
    """Nothing of the machine that a document was written on."""
    paths = re.findall(r"(?<![\w./~-])/(?:work|root|tmp)/(?!cosession)[/\w.-]*", text)
    return [f"machine paths: {path}" for path in paths]


def documents() -> list[Path]:
    """Every document of the repository."""
    places = (ROOT, ROOT / "tests", *(ROOT / place.parent for place in PACKAGES.values()))
    return sorted(path for place in places for path in place.glob("*.md"))
