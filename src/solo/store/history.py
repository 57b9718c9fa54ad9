"""The recent past in memory: what a watch needs to resume where it left off.

Bounded by number and by bytes, over all resources together; below the floor a watch has to start over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from solo.store.model import Event

# Watchers look at the parsed form of an event's objects when it is new; later it would only cost memory, several times
# that of the bytes. An object that is still looked at is parsed again, and that form stays until it changes.
PARSED_EVENTS = 256


class History:
    """Events in order of revision, per resource, with one common bound."""

    def __init__(self, floor: int, max_events: int, max_bytes: int) -> None:
        self.floor = floor
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._bytes = 0
        self._by_resource: dict[str, deque[Event]] = {}
        self._order: deque[str] = deque()
        self._recent: deque[Event] = deque()

    def append(self, event: Event) -> list[int]:
        """Add the newest event; the oldest go when a bound is exceeded. Returns the versions that went with them."""
        resource = event.stored.key.resource
        self._by_resource.setdefault(resource, deque()).append(event)
        self._order.append(resource)
        self._bytes += len(event.stored.raw)
        self._recent.append(event)
        if len(self._recent) > PARSED_EVENTS:
            _drop_parsed(self._recent.popleft())
        superseded: list[int] = []
        while len(self._order) > self._max_events or (self._bytes > self._max_bytes and len(self._order) > 1):
            oldest = self._by_resource[self._order.popleft()].popleft()
            self._bytes -= len(oldest.stored.raw)
            superseded += oldest.superseded
            self.floor = oldest.rv
        return superseded

    def since(self, resource: str, rv: int) -> list[Event]:
        """The events of `resource` after `rv`, oldest first. The caller has compared `rv` with `floor`."""
        return list(reversed(list(self._newer(resource, rv))))

    def _newer(self, resource: str, rv: int) -> Iterator[Event]:
        for event in reversed(self._by_resource.get(resource, ())):
            if event.rv <= rv:
                return
            yield event


def _drop_parsed(event: Event) -> None:
    if event.prev is not None:
        event.prev.drop_parsed()
    event.stored.drop_parsed()
