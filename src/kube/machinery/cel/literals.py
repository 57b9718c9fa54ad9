"""Object literals of mutation expressions: `Object{spec: Object.spec{replicas: 1}}` and `JSONPatch{op: "add"}`.

The evaluator knows no types of our objects, and does not have to: such a literal means the map of its fields, so it is
rewritten to one, outside strings, before the expression is compiled.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    (?P<string>[rRbB]{0,2}(?:\"{3}(?s:.*?)\"{3}|'{3}(?s:.*?)'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))
    | (?P<comment>//[^\n]*)
    | (?P<literal>(?<![\w.])(?:Object(?:\.\w+)*|JSONPatch)\s*\{)
    | (?P<field>\w+(?=\s*:)|`[^`]+`(?=\s*:))
    | (?P<open>[\[({])
    | (?P<close>[\])}])
    | (?P<word>\w+)
    """,
    re.VERBOSE,
)


def without_types(expression: str) -> str:
    """The expression with map literals in place of typed ones; one that has none comes back as it is."""
    if "Object" not in expression and "JSONPatch" not in expression:
        return expression
    found: list[str] = []
    nesting: list[bool] = []  # for each open bracket, whether its fields are those of a typed literal
    position = 0
    for match in _TOKEN.finditer(expression):
        between = expression[position : match.start()]
        found.append(between)
        text = match.group()
        if match.lastgroup == "literal":
            nesting.append(True)
            text = "{"
        elif match.lastgroup == "open":
            nesting.append(False)
        elif match.lastgroup == "close" and nesting:
            nesting.pop()
        elif match.lastgroup == "field" and nesting and nesting[-1] and _begins_field(found):
            text = '"' + text.strip("`") + '"'
        found.append(text)
        position = match.end()
    return "".join(found) + expression[position:]


def _begins_field(before: list[str]) -> bool:
    """Whether a name stands where a field begins, and not after a `?` of a conditional."""
    text = "".join(before[-3:]).rstrip()
    if text.endswith("?"):
        text = text[:-1].rstrip()
    return text.endswith(("{", ","))
