"""All controllers at work on an API in memory."""

import asyncio
from contextlib import suppress

import pytest

from kube.machinery.resources import (
    CONFIGMAPS,
    NAMESPACES,
)
from solo.controllers import run_all
from unit.controllers.fake_api import FakeApi, until


@pytest.fixture
async def api():
    fake = FakeApi()
    fake.put(NAMESPACES, "ns", spec={"finalizers": ["kubernetes"]})
    task = asyncio.create_task(run_all(fake, "me", lambda *of: " ".join(of)))
    await until(lambda: fake.find(CONFIGMAPS, "kube-root-ca.crt", "ns"))
    yield fake
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
