"""Answers of upstream's apiextensions-apiserver 1.36, asked for again: definitions, custom resources, apply.

Each line of a file in `answers` is a request with what that server said to it: the status, and causes, message, object
and warnings. Times, uids and revisions are left out, and so are texts that quote Go or its parsers. A request without a
status is only sent: what it leaves behind counts. REDEFINE replaces the spec of a definition, and `$RV(path)` in a body
is the revision of an object.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ANSWERS = Path(__file__).parent / "answers"
OF_THE_SERVER = {"resourceVersion": "<resourceVersion>", "uid": "<uid>", "continue": "<continue>"}
TIMES = {"creationTimestamp", "time", "deletionTimestamp", "lastTransitionTime"}
UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
WORDS_OF_GO = [
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (r"json: cannot unmarshal .*", "<gojson>"),
        (r"(regular expression, but isn't: ).*", r"\1<re>"),
        (r"json parse error: .*", "<jsonparse>"),
        (r"yaml: .*", "<yaml>"),
        (r'(Invalid value: )\{"ID":.*(: only \[)', r"\1<go>\2"),
        (r'(Invalid value: )\{"properties".*(: only \[)', r"\1<go>\2"),
        (r'Invalid value: \[(\{"Name"|"|\]|null\]).*(: must (have|contain) )', r"Invalid value: <go>\2"),
    )
]


def without_chance(value, key=""):
    """The value without what differs between any two servers."""
    if isinstance(value, dict):
        return {name: without_chance(item, name) for name, item in value.items()}
    if isinstance(value, list):
        items = [without_chance(item) for item in value]
        # These are in the order of their seconds.
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if key == "managedFields" else items
    if not isinstance(value, str) or not value:
        return value
    if key in OF_THE_SERVER or key in TIMES:
        return OF_THE_SERVER.get(key, "<time>")
    value = TIME.sub("<time>", UID.sub("<uid>", value))
    for pattern, text in WORDS_OF_GO:
        value = pattern.sub(text, value)
    return value


def seen(status, headers, text):
    """An answer in the form in which it is recorded."""
    found = {"status": status, "warnings": headers.get_all("Warning") or []}
    body = without_chance(json.loads(text)) if text[:1] in "{n" else text
    if isinstance(body, dict) and body.get("kind") == "Status":
        causes = (body.get("details") or {}).get("causes") or []
        found["causes"] = sorted(
            ([item.get(key) for key in ("field", "reason", "message")] for item in causes), key=str
        )
        found["message"] = body.get("message")
    else:
        found["object"] = body
    return found


def redefine(wire, path, definition):
    present = wire("GET", path)[1]
    definition["metadata"] = {key: item for key, item in present["metadata"].items() if key != "managedFields"}
    assert wire("PUT", path, definition)[0] == 200


def filled(wire, body):
    """A body as it is sent."""
    if not isinstance(body, str):
        body = None if body is None else json.dumps(body)
    revision = lambda match: wire("GET", match[1])[1]["metadata"]["resourceVersion"]  # noqa: E731
    return body and re.sub(r"\$RV\(([^)]*)\)", revision, body)


@pytest.mark.parametrize("name", ["definitions", "objects", "apply"])
def test_answers(wire, name):
    for namespace in ("n1", "n2"):
        wire("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    wrong = []
    for line in (ANSWERS / f"{name}.jsonl").read_text().splitlines():
        record = json.loads(line)
        method, path, body = record["method"], record["path"], record.get("body")
        if method == "REDEFINE":
            redefine(wire, path, body)
            continue
        headers = {"User-Agent": "differ", **record.get("headers", {})}
        sent = {key: value for key, value in headers.items() if value}
        answer = seen(*wire.headers(method, path, filled(wire, body), sent))
        if "status" not in record:
            continue
        wanted = {"warnings": [], **{key: without_chance(record[key], key) for key in record if key in answer}}
        got = {key: answer.get(key) for key in wanted}
        if got != wanted:
            wrong.append((method, path, body, wanted, got))
    assert not wrong, f"{len(wrong)} answers differ, the first: {wrong[0]}"
