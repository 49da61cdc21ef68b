"""What must not leave the machine with a support bundle, taken out of text: secrets, names, and what users wrote.

Known formats of secrets are replaced whatever stands around them, the user's name, home and host wherever they stand,
and every value whose name sounds like a secret. The same thing gets the same replacement within one bundle, so that
what belongs together can still be seen.

Rule: pure; when in doubt it takes out too much.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

#: Formats that are a secret by their look.
_SECRETS: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",
    re.DOTALL,
)
#: `name = value`, in shells, JSON, TOML and headers; what stands in quotes is one value, blanks and all.
_NAMED: Final = re.compile(
    r"""(?i)(?P<name>[A-Za-z0-9_-]*(?:token|secret|passw(?:or)?d|api_?key|credential|authorization)[A-Za-z0-9_-]*["']?"""
    r"""\s*[:=]\s*(?:(?:bearer|basic)\s+)?)"""
    r"""(?:(?P<quote>["'])(?P<quoted>(?:bearer\s+|basic\s+)?(?:\\.|(?!(?P=quote)).)*)|(?P<bare>[^\s"',;}\]]+))"""
)
#: What stands in the place of something already.
_MARK: Final = re.compile(r"<[a-z]+:[0-9a-f]{8}>")
_SECRET_NAME: Final = re.compile(r"(?i)token|secret|passw|api_?key|credential|authorization|cookie")
#: Members of answers that hold what users wrote or named.
_PRIVATE: Final = frozenset(
    ("usage", "project", "purpose", "name", "targets", "key", "value", "task", "subject", "body")
)


class Redaction:
    """One bundle's replacements. `counts` is how often each kind was made."""

    def __init__(self, *, home: str, user: str, host: str, salt: bytes) -> None:
        self._salt = salt
        self._names = [(text, mark) for text, mark in ((home, "~"), (host, "HOST"), (user, "USER")) if len(text) > 1]
        self.counts: dict[str, int] = {}

    def text(self, text: str) -> str:
        """`text` without them."""
        text = _SECRETS.sub(lambda found: self._mark("secret", found[0]), text)
        text = _NAMED.sub(self._named, text)
        for name, mark in self._names:
            pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])")
            text, count = pattern.subn(mark, text)
            self._count(mark, count)
        return text

    def data(self, value: Any, name: str = "") -> Any:
        """JSON data without them: private members become marks, texts are gone through."""
        if name and (name in _PRIVATE or _SECRET_NAME.search(name)) and value not in (None, "", 0, False, [], {}):
            return self._mark("private", repr(value))
        if isinstance(value, Mapping):
            return {str(key): self.data(each, str(key)) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(each) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def _named(self, found: re.Match[str]) -> str:
        secret = found["bare"] if found["quote"] is None else found["quoted"]
        return f"{found['name']}{found['quote'] or ''}{self._mark('secret', secret) if secret else ''}"

    def _mark(self, kind: str, secret: str) -> str:
        if _MARK.fullmatch(secret):
            return secret
        self._count(kind, 1)
        return f"<{kind}:{hashlib.blake2b(secret.encode(errors='replace'), key=self._salt, digest_size=4).hexdigest()}>"

    def _count(self, kind: str, count: int) -> None:
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count
