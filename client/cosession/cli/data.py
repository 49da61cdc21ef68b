"""JSON text for the command line, without the price of the `json` package.

Importing `json` costs 7 ms, two thirds of starting Python, because it imports `re`; its two C halves are complete
without it. They are private to CPython, so whatever about them is not as expected falls back to the package.

Rule: no verb builds JSON text in another way; what goes to standard output passes through `render.json_text` as well.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Scan = Callable[[str, int], tuple[Any, int]]
    Encode = Callable[[Any], str]

_BLANKS = " \t\n\r"


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


class _Scanning:
    """What the C scanner reads its options from; the attributes of `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_constant)
    memo: dict[str, str] = {}


def _scanner() -> Scan:
    try:
        import _json  # type: ignore[import-not-found,unused-ignore]

        scanning: Any = _Scanning()
        scan: Scan = _json.make_scanner(scanning)
    except (ImportError, AttributeError, TypeError):  # another Python, or a later one
        import json

        return json.JSONDecoder(parse_constant=_constant).raw_decode
    return scan


def _encoder() -> Encode:
    try:
        import _json  # type: ignore[import-not-found,unused-ignore]

        # markers, default, string encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan
        make: Any = _json.make_encoder
        pieces = make(None, None, _json.encode_basestring, None, ": ", ", ", False, False, False)
    except (ImportError, AttributeError, TypeError):
        import json

        return json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode

    def encode(value: Any) -> str:
        return "".join(pieces(value, 0))

    return encode


def loads(text: str) -> Any:
    """The value of JSON text; raises ValueError ("not JSON: ...") on all else, also on NaN and on too deep a nest."""
    start = 0
    while start < len(text) and text[start] in _BLANKS:
        start += 1
    try:
        value, end = _scanner()(text, start)
    except StopIteration as stop:
        raise ValueError(f"not JSON: no value at character {int(stop.value or 0) + 1}") from None
    except (ValueError, RecursionError, SystemError):
        value, end = _judged(text, start)
    if text[end:].strip(_BLANKS):
        raise ValueError(f"not JSON: something follows at character {end + 1}")
    return value


def _judged(text: str, start: int) -> tuple[Any, int]:
    """The package's word on text that the C scanner refused: it makes its errors of `json.decoder`, and where that is
    not loaded it has no error to raise, which Python reports as SystemError.
    """
    import json

    try:
        return json.JSONDecoder(parse_constant=_constant).raw_decode(text, start)
    except RecursionError:
        raise ValueError("not JSON: nested too deep") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def dumps(value: Any) -> str:
    """JSON text on one line, non-ASCII characters as they are; raises ValueError or TypeError outside of JSON."""
    return _encoder()(value)
