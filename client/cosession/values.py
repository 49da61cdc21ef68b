"""The value domain: JSON data, checked once at admission and then carried as the same canonical MessagePack bytes.

In: null, bool, 64-bit signed integer, finite float, UTF-8 string, list, map with unique string keys, at most 32
levels deep. Out: bin, ext, timestamps, NaN and infinities, lone surrogates, duplicate keys, wider integers.

Rule: `admit` is the only door. Canonical means: what msgspec's encoder makes of the decoded value (the shortest form,
map order as given), so equal bytes are equal values and any client's encoding ends up the same.
"""

from __future__ import annotations

from itertools import chain
from math import isfinite
from typing import Any, Final, NoReturn

from msgspec import DecodeError, msgpack

from cosession.errors import InvalidRequest, TooLarge
from cosession.messages.limits import CALL_NODES_MAX, VALUE_DEPTH_MAX, VALUE_NODES_MAX

_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_ALLOWED: Final = _SCALARS | {list, dict}
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1

_decode = msgpack.Decoder().decode
_encode = msgpack.Encoder().encode


def admit(raw: bytes, *, what: str = "value", bytes_max: int) -> bytes:
    """The canonical bytes of one MessagePack value of at most `bytes_max` bytes.

    Raises TooLarge over the size, InvalidRequest outside the domain; the message names `what`.
    """
    return admit_counted(raw, what=what, bytes_max=bytes_max)[0]


def admit_counted(raw: bytes, *, what: str = "value", bytes_max: int) -> tuple[bytes, int]:
    """`admit`, and the nodes of the value: itself, and everything that is an element or a member in it."""
    if len(raw) > bytes_max:
        raise TooLarge(
            f"cannot take {what}: {len(raw)} bytes, the limit is {bytes_max}; split it over several keys",
            data={"size": len(raw), "limit": bytes_max},
        )
    try:
        value = _decode(raw)
        nodes, has_map = _check(value, what)
        canonical = _encode(value)
    except (DecodeError, RecursionError, UnicodeError, OverflowError) as error:
        _refuse(what, f"it is no valid MessagePack of JSON data ({_short(error)})")
    if canonical != raw:
        # Not the shortest form, or a key twice (the decoder keeps the last): only then is counting worth its price.
        if has_map and _count_pairs(raw) != _count_decoded_pairs(value):
            _refuse(what, "a map has the same key twice")
        if len(canonical) > bytes_max:
            raise TooLarge(f"cannot take {what}: over {bytes_max} bytes; split it over several keys")
    return canonical, nodes


def to_bytes(value: Any, *, what: str = "value", bytes_max: int) -> bytes:
    """Canonical bytes of a Python object made of JSON data; raises InvalidRequest or TooLarge.

    Tuples count as lists. Other types are refused rather than guessed (no bytes, sets, dates, numbers as keys).
    """
    try:
        raw = _encode(value)
    except (TypeError, UnicodeError, OverflowError, RecursionError, ValueError) as error:
        _refuse(what, f"it is not JSON data ({_short(error)})")
    return admit(raw, what=what, bytes_max=bytes_max)


def from_json(text: bytes) -> Any:
    """Strict JSON (RFC 8259): the Python object; raises InvalidRequest with code parse_error or invalid_params.

    Refuses duplicate names, NaN and infinities (also by overflow), integers beyond 64 bits, invalid UTF-8, and more
    than CALL_NODES_MAX nodes before any of them is made.
    """
    if len(text) > CALL_NODES_MAX and _json_nodes(text) > CALL_NODES_MAX:
        raise TooLarge(
            f"cannot read JSON: over {CALL_NODES_MAX} elements and members; split it over several calls",
            data={"limit": CALL_NODES_MAX},
        )
    import json  # only the daemon decodes JSON; a client that speaks MessagePack starts without it

    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_int64,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except InvalidRequest:
        raise
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidRequest(
            f"cannot read JSON: {_short(error)}; send one object per line", code="parse_error"
        ) from None


def _check(root: Any, what: str) -> tuple[int, bool]:
    """Walk level by level, so that the work per element runs in C; the nodes, and whether there is a map anywhere."""
    level: list[Any] = [root]
    nodes = 0
    has_map = False
    for depth in range(VALUE_DEPTH_MAX + 1):
        nodes += len(level)
        if nodes > VALUE_NODES_MAX:
            raise TooLarge(
                f"cannot take {what}: over {VALUE_NODES_MAX} elements and members; split it over several keys",
                data={"limit": VALUE_NODES_MAX},
            )
        kinds = set(map(type, level))
        if not kinds <= _ALLOWED:
            names = ", ".join(sorted(kind.__name__ for kind in kinds - _ALLOWED))
            _refuse(what, f"{names} is not JSON data")
        if float in kinds and not all(map(isfinite, [x for x in level if type(x) is float])):
            _refuse(what, "NaN and infinities are not JSON data")
        if int in kinds:
            integers = [x for x in level if type(x) is int]
            if max(integers) > _INT_MAX or min(integers) < _INT_MIN:
                _refuse(what, "integers are 64-bit signed; send it as a string")
        if kinds <= _SCALARS:
            return nodes, has_map
        if depth == VALUE_DEPTH_MAX:
            break
        lists = [x for x in level if type(x) is list]
        maps = [x for x in level if type(x) is dict]
        if maps:
            has_map = True
            if not set(map(type, chain.from_iterable(maps))) <= {str}:
                _refuse(what, "map keys must be strings")
        level = list(chain(chain.from_iterable(lists), chain.from_iterable(map(dict.values, maps))))
        if not level:
            return nodes, has_map
    return _refuse(what, f"it is nested deeper than {VALUE_DEPTH_MAX} levels")


def _json_nodes(text: bytes) -> int:
    """A lower bound of the nodes of JSON text, and at least half of them, by counting what separates them."""
    if _separated(text) <= CALL_NODES_MAX:
        return 0
    # Perhaps it is text in strings that looks like that: count again without them.
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = bare.count(b'"') // 2
    if strings // 2 > CALL_NODES_MAX:
        return strings // 2  # each is a node or the name of one
    return _separated(b"".join(bare.split(b'"')[::2]))


def _separated(text: bytes) -> int:
    return max(text.count(b",") + 1, text.count(b"[") + text.count(b"{"))


def _count_decoded_pairs(root: Any) -> int:
    level: list[Any] = [root]
    pairs = 0
    while level:
        maps = [x for x in level if type(x) is dict]
        pairs += sum(map(len, maps))
        lists = [x for x in level if type(x) is list]
        level = list(chain(chain.from_iterable(lists), chain.from_iterable(map(dict.values, maps))))
    return pairs


# MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md): bytes after the type byte that hold a length,
# for the types whose payload follows; and the fixed sizes of the rest.
_FIXED: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8} | {
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
_STR: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY: Final = {0xDC: 2, 0xDD: 4}
_MAP: Final = {0xDE: 2, 0xDF: 4}


def _count_pairs(raw: bytes) -> int:
    """Map pairs as written in `raw`, which the decoder has accepted."""
    position = pairs = 0
    end = len(raw)
    while position < end:
        kind = raw[position]
        position += 1
        if kind < 0x80 or kind >= 0xE0:
            continue
        if kind < 0x90:
            pairs += kind & 0x0F
        elif kind < 0xA0:
            continue
        elif kind < 0xC0:
            position += kind & 0x1F
        elif kind in _FIXED:
            position += _FIXED[kind]
        elif kind in _STR:
            width = _STR[kind]
            position += width + int.from_bytes(raw[position : position + width])
        elif kind in _MAP:
            width = _MAP[kind]
            pairs += int.from_bytes(raw[position : position + width])
            position += width
        else:
            position += _ARRAY[kind]
    return pairs


def _refuse(what: str, why: str) -> NoReturn:
    raise InvalidRequest(f"cannot take {what}: {why}")


def _short(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest("cannot read JSON: an object has the same name twice; send each name once")
    return found


def _int64(text: str) -> int:
    if len(text) <= 20:
        number = int(text)
        if _INT_MIN <= number <= _INT_MAX:
            return number
    raise InvalidRequest("cannot read JSON: integers are 64-bit signed; send it as a string")


def _finite(text: str) -> float:
    number = float(text)
    if isfinite(number):
        return number
    raise InvalidRequest("cannot read JSON: a number is too large for a float; send it as a string")


def _no_constant(text: str) -> NoReturn:
    raise InvalidRequest(f"cannot read JSON: {text} is not JSON; send null or a string")
