"""What a machine that is to start may have to wait for: its disks, networks, node and memory, and who has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vmruntime.api import virtualmachine
from vmruntime.api.meta import Obj, dig, name_of, namespace_of, uid_of
from vmruntime.controllers import connections, machine_request, placement
from vmruntime.controllers.cache import Key
from vmruntime.controllers.machine_decide import Problem
from vmruntime.controllers.stack import Stack
from vmruntime.engines.common import ConfigurationError


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a machine that was just told to start will have, while nothing else shows it yet. Memory in bytes."""

    uid: str
    memory: int


class MachineNeeds:
    """Claims bridge the time between a start and what the API and the engine show of it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._claims: dict[Key, _Claim] = {}

    def claim(self, vm: Obj) -> None:
        """Give the machine its disks, addresses and memory, against all other passes.

        Raises:
            ConfigurationError: its spec does not say how much memory.
        """
        self._claims[_key(vm)] = _Claim(uid_of(vm), self._memory(vm))

    def release(self, key: Key) -> None:
        """The machine does not run: it has only what its object still shows."""
        self._claims.pop(key, None)

    def disks_problem(self, vm: Obj) -> Problem | None:
        """The disk that is missing, not whole yet, or another machine's."""
        namespace = namespace_of(vm)
        others = [
            other
            for other in self._stack.machines.items()
            if namespace_of(other) == namespace and uid_of(other) != uid_of(vm)
        ]
        holders = [name_of(holder) for holder in self._holders(others)]
        return machine_request.disks_problem(vm, self._stack.disks, others, holders)

    def place_problem(self, vm: Obj) -> Problem | None:
        """A network that is not ready, an address that another has, a node that is missing or full."""
        holders = self._holders(self._stack.machines.items())
        return connections.problem(vm, self._stack.networks.get, holders) or self._room_problem(vm)

    def _holders(self, machines: Iterable[Obj]) -> Iterable[Obj]:
        """Those of `machines` that run, or were told to start."""
        return (vm for vm in machines if dig(vm, "status", "podName") or _key(vm) in self._claims)

    def _room_problem(self, vm: Obj) -> Problem | None:
        nodes = self._stack.nodes.items()
        others = (other for other in self._stack.machines.items() if uid_of(other) != uid_of(vm))
        if problem := placement.node_problem(vm, nodes, list(self._holders(others))):
            return problem
        try:
            needed = self._memory(vm)
        except ConfigurationError as exc:
            return Problem(virtualmachine.ERROR_CONFIGURATION, exc.reason, exc.message)
        in_use = {claim.uid: claim.memory for claim in self._claims.values()} | self._stack.engine.memory_in_use()
        in_use.pop(uid_of(vm), None)
        return placement.memory_problem(needed, in_use.values(), nodes)

    def _memory(self, vm: Obj) -> int:
        compute = machine_request.compute_of(vm, self._stack.types)
        return self._stack.engine.memory_needed(compute.memory, self._stack.settings)


def _key(vm: Obj) -> Key:
    return namespace_of(vm), name_of(vm)
