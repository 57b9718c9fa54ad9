"""Mail addresses as Go's net/mail.ParseAddress takes them: `a@b`, `Name <a@b>`, with quoted parts (RFC 5322)."""

from __future__ import annotations

import re
from functools import cache

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]+"
_DOTTED = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x20-\x7e\t])*"'
_LITERAL = r"\[(?:[0-9.]+|[0-9a-fA-F:.]+)\]"
_ADDRESS = rf"(?:{_DOTTED}|{_QUOTED})@(?:{_DOTTED}|{_LITERAL})"
_WORD = rf"(?:{_ATOM}(?:\.{_ATOM})*\.?|{_QUOTED})"
_WHOLE = rf"[ \t]*(?:{_ADDRESS}|(?:{_WORD}(?:[ \t]+{_WORD}|{_QUOTED})*)?[ \t]*<{_ADDRESS}>)[ \t]*"


@cache
def _whole() -> re.Pattern[str]:
    """Compiled when the first address is looked at: it takes tens of milliseconds."""
    return re.compile(_WHOLE)


def is_mail_address(text: str) -> bool:
    """Whether a text is one address, with or without a name."""
    return _whole().fullmatch(text) is not None
