"""Deletion of many objects. One after another, each would wait for the disk by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kube.machinery.errors import StatusError
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.kinds import Kind
from solo.registry.registry import Registry
from solo.store import Stored

TOGETHER = 64


async def delete_all(
    registry: Registry, kind: Kind, items: Sequence[Stored], options: DeleteOptions, context: RequestContext
) -> list[Stored]:
    """Delete objects, some at a time, so that they share commits; returns those that were still there.

    Raises the first refusal, as `Registry.delete` does, when the others of its batch are done.
    """

    async def one(stored: Stored) -> bool:
        try:
            await registry.delete(kind, stored.key.namespace, stored.key.name, options, context)
        except StatusError as problem:
            if problem.reason != "NotFound":
                raise
            return False
        return True

    deleted: list[Stored] = []
    for start in range(0, len(items), TOGETHER):
        batch = items[start : start + TOGETHER]
        outcomes = await asyncio.gather(*(one(stored) for stored in batch), return_exceptions=True)
        for stored, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome:
                deleted.append(stored)
    return deleted
