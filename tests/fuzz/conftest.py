"""One server for all that is thrown at it; it must be alive after every test, and stop as it should at the end."""

from __future__ import annotations

import pytest

from compat.wire import Wire
from solo.testing import run_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with run_server(tmp_path_factory.mktemp("fuzz")) as running:
        yield running
    assert running.process.returncode == 0, running.log.read_text()
    assert "ERROR solo" not in running.log.read_text(), running.log.read_text()


@pytest.fixture(scope="session")
def wire(server, tmp_path_factory):
    return Wire(server.kubeconfig, tmp_path_factory.mktemp("wire"))


@pytest.fixture(autouse=True)
def alive(request):
    yield
    if "wire" in request.fixturenames:
        assert request.getfixturevalue("wire")("GET", "/readyz") == (200, "ok")
