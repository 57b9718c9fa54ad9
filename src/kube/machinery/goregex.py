"""Go's regular expressions: RE2, whose syntax and meaning they have.

A match takes time that grows with the text and the pattern, whatever they are: both may come from anybody.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_WORDS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "trailing \\": "trailing backslash at end of expression",
}
"""RE2's errors as Go's package has them (regexp/syntax ErrorCode); others are the same."""


class RegexError(ValueError):
    """The pattern is not one that Go accepts."""


class Pattern:
    """A compiled pattern."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def test(self, text: str) -> bool:
        """Whether the text has a match."""
        return self._compiled.search(text) is not None

    def find_all(self, text: str) -> list[str]:
        """The matches in the text, from the left and without overlaps."""
        found, end = [], -1
        for match in self._compiled.finditer(text):
            # Nothing right behind a match is none, for Go.
            if match.start() != match.end() or match.start() != end:
                found.append(match.group())
            end = match.end()
        return found


@lru_cache(maxsize=1024)
def compile_go_regex(pattern: str) -> Pattern:
    """A compiled pattern. Raises RegexError with Go's message."""
    try:
        return Pattern(re2.compile(pattern, _OPTIONS))
    except re2.error as error:
        (said,) = error.args
        code, _, part = said.decode(errors="replace").partition(": ")
        raise RegexError(f"error parsing regexp: {_WORDS.get(code, code)}: `{part}`") from None
