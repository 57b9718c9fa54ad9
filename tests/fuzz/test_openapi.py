"""Requests made from the server's own OpenAPI documents, fitting them and not."""

from __future__ import annotations

import json
import random

import pytest
import requests
import schemathesis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from fuzz.effort import FACTOR, effort

pytestmark = pytest.mark.filterwarnings("default")
# Most kinds share their paths' code, so a few operations of each document stand for it; `make fuzz` takes more.
# Admission is left out: a webhook that is made up would, rightly, keep all others from writing.
OPERATIONS = 2 * FACTOR
DOCUMENTS = [
    "api/v1",
    "apis/apps/v1",
    "apis/batch/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/networking.k8s.io/v1",
]
DOCUMENTS += ["apis/apiextensions.k8s.io/v1", "apis/coordination.k8s.io/v1"]


@pytest.fixture(scope="module")
def session(wire, tmp_path_factory):
    authority = tmp_path_factory.mktemp("authority") / "ca.crt"
    authority.write_text(wire.authority)
    with requests.Session() as made:
        made.trust_env = False  # or the environment's authorities would take the place of ours
        made.cert, made.verify = str(wire.pem), str(authority)
        yield made


def check(response):
    assert response.status_code < 500 or "esource version" in response.text or "resourceVersion: Inv" in response.text
    if response.text == "404 page not found\n":
        assert response.status_code == 404
        return
    (media_type,) = response.headers["content-type"]
    if media_type.startswith("application/json"):
        answer = json.loads(response.content)
        if response.status_code >= 400:
            assert (answer["kind"], answer["status"], answer["code"]) == ("Status", "Failure", response.status_code)
            assert answer["message"]
    else:
        assert "yaml" in media_type, (response.status_code, media_type, response.text)


def operations(wire, document):
    """Some of a document's operations, always the same of them for the same effort."""
    _, text = wire("GET", f"/openapi/v3/{document}")
    found = []
    for result in schemathesis.openapi.from_dict(text).get_all_operations():
        operation = result.ok()
        if "/exec" in operation.path or "/attach" in operation.path or "/portforward" in operation.path:
            continue  # streams, which answer with an upgrade
        found.append(operation)
    return random.Random(document).sample(found, min(OPERATIONS, len(found)))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_answer_is_one(wire, session, document):
    base = f"https://{wire.address.netloc}"
    modes = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    for operation in operations(wire, document):
        strategies = modes.flatmap(lambda mode, operation=operation: operation.as_strategy(generation_mode=mode))

        @settings(effort(4), phases=[Phase.generate])  # a case is short enough to be read as it is
        @given(strategies)
        def send(case):
            case.query = {key: value for key, value in (case.query or {}).items() if key not in ("watch", "follow")}
            if case.method.upper() == "DELETE":
                case.query["dryRun"] = "All"
            check(case.call(base_url=base, session=session, timeout=20, verify=session.verify))

        send()
