"""Go's regular expressions (RE2 syntax) with Python's engine.

The syntaxes agree on what schemas use; the differences that change an answer are translated: `$` means the end of the
text only, `\\d` and `\\w` are ASCII, `\\z`, `\\Q..\\E` and POSIX classes exist, look-around and back-references do not.
"""

from __future__ import annotations

import re
from functools import lru_cache

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_TOKEN = re.compile(
    r"""(?P<quoted>\\Q(?P<literal>.*?)(?:\\E|$))
      | (?P<escape>\\(?:x\{[0-9A-Fa-f]+\}|p\{\^?\w+\}|.))
      | (?P<posix>\[:(?P<negated>\^?)(?P<name>\w+):\])
      | (?P<group>\(\?(?P<kind><[=!]|[=!]|<(?=\w)|\#))
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


class RegexError(ValueError):
    """The pattern is not one that Go accepts."""


@lru_cache(maxsize=1024)
def compile_go_regex(pattern: str) -> re.Pattern[str]:
    """A compiled pattern with Go's meaning, for use with `search`. Raises RegexError."""
    parts: list[str] = []
    in_class = False
    multiline = re.search(r"\(\?[a-z]*m", pattern) is not None
    for token in _TOKEN.finditer(pattern):
        if token["quoted"] is not None:
            parts.append(re.escape(token["literal"]))
        elif token["escape"] is not None:
            parts.append(_escape(token["escape"]))
        elif token["posix"] is not None and in_class:
            parts.append(_posix_class(token["name"], token["negated"]))
        elif token["group"] is not None and not in_class:
            parts.append(_group(token["kind"]))
        else:
            text = token[0]
            if text == "[" and not in_class:
                in_class = True
            elif text == "]" and in_class and parts[-1] not in ("[", "^"):
                in_class = False
            elif text == "[" and in_class:
                text = r"\["
            elif text == "$" and not in_class and not multiline:
                text = r"\Z"
            parts.append(text)
    try:
        return re.compile("".join(parts), re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise RegexError(f"error parsing regexp: {error}") from error


def _escape(escape: str) -> str:
    if escape == r"\z":
        return r"\Z"
    if escape.startswith(r"\x{"):
        return re.escape(chr(min(int(escape[3:-1], 16), 0x10FFFF)))
    if escape[1] in "123456789Z":
        raise RegexError(f"error parsing regexp: invalid escape sequence: `{escape}`")
    if escape.startswith((r"\p", r"\P")):
        raise RegexError(f"error parsing regexp: character class `{escape}` is not supported")
    return escape


def _posix_class(name: str, negated: str) -> str:
    if negated or name not in _POSIX:
        raise RegexError(f"error parsing regexp: invalid character class range: `[:{negated}{name}:]`")
    return _POSIX[name]


def _group(kind: str) -> str:
    if kind == "<":
        return "(?P<"
    raise RegexError(f"error parsing regexp: invalid or unsupported Perl syntax: `(?{kind}`")
