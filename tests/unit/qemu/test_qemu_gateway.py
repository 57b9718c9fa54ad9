"""A namespace's gateway and the manager that tells it what should be there, over a real socket; the bridge is none."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator

import pytest
from bench.processes import free_port

from vmruntime.engines.qemu import gateway_inside, host_tools, namespace, namespace_bridge, uplink
from vmruntime.engines.qemu.gateway_messages import SOCKET
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.namespace_bridge import GatewayAway, NamespaceBridge
from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_network import Port

STATE = NetworkState("abcde", ipaddress.IPv4Network("10.144.0.0/29"))


class NoBridge:
    """Takes note of what a bridge is told to be."""

    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}
        self.refusal = ""

    async def make(self, state: NetworkState, ports: dict[str, Port]) -> None:
        if self.refusal:
            raise ToolError(self.refusal)
        self.ports.update(ports)

    async def add(self, state: NetworkState, port: Port) -> None:
        self.ports[port.tap] = port

    async def drop(self, state: NetworkState, name: str) -> None:
        self.ports.pop(name, None)

    def taps(self) -> set[str]:
        return set(self.ports)


class Gateway:
    """The inner part of a gateway in this process, as a pod that is started and removed."""

    def __init__(self) -> None:
        self.bridge = NoBridge()
        self.refusal = ""
        self.starts = 0
        self.comes = True
        self._serving: asyncio.Task[None] | None = None
        self._server: gateway_inside.Server | None = None

    async def ensure(self) -> None:
        if self.comes and self._serving is None:
            self.bridge = NoBridge()
            self.bridge.refusal = self.refusal
            self.starts += 1
            self._serving = asyncio.create_task(self._serve())
            await asyncio.sleep(0.01)

    async def _serve(self) -> None:
        self._server = server = gateway_inside.Server()
        server._bridge = self.bridge  # type: ignore[assignment]
        with gateway_inside._listen() as listener:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                await server.answer(connection)

    async def remove(self) -> None:
        """As a kill does: with its sockets."""
        if self._serving is not None and self._server is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            for tap in self._server._forwards.listening():
                self._server._forwards.close(tap)
            if self._server._follower is not None:
                self._server._follower.close()
            self._serving = None


@pytest.fixture
async def manager(tmp_path, monkeypatch) -> AsyncIterator[tuple[NamespaceBridge, Gateway]]:
    monkeypatch.chdir(tmp_path)

    async def settled(root, wanted: str, in_use: bool) -> NetworkState:
        return STATE

    monkeypatch.setattr(namespace_bridge, "settle_subnet", settled)
    gateway = Gateway()
    bridge = NamespaceBridge(tmp_path, gateway)
    running = asyncio.create_task(bridge.run())
    yield bridge, gateway
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bridge.down()


async def test_nothing_is_left_when_it_is_taken_down(tmp_path):
    (tmp_path / SOCKET).touch()
    await NamespaceBridge(tmp_path, Gateway()).down()
    assert list(tmp_path.iterdir()) == []


@contextlib.asynccontextmanager
async def guest() -> AsyncIterator[int]:
    """Something that answers, at this port of 127.0.0.1."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"guest says " + await reader.read())
        writer.write_eof()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: Port) -> bytes:
    reader, writer = await asyncio.open_connection(port.host_address, port.forwards[0][0])
    writer.write(b"hello")
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def port_to(guest_port: int, tap: str = "vmtabcde0000001") -> Port:
    forwards = ((free_port("127.64.9.9"), guest_port),)
    return Port(tap, "52:54:00:00:00:01", "127.0.0.1", "vm", host_address="127.64.9.9", forwards=forwards)


async def test_a_machine_is_reached_until_it_is_gone(manager) -> None:
    bridge, gateway = manager
    await bridge.up("", {})
    async with guest() as number:
        port = port_to(number)
        await bridge.add(port)
        assert gateway.bridge.ports == {port.tap: port}
        assert await ask(port) == b"guest says hello"
    with pytest.raises(OSError):
        await ask(port)  # it is listened for, and then nobody is there
    await bridge.drop(port.tap)
    assert gateway.bridge.ports == {}
    with pytest.raises(ConnectionRefusedError):
        await ask(port)
    assert bridge.state == STATE
    assert await bridge.command(["qemu"]) == [*namespace.command(os.getpid()), "qemu"]


async def test_a_gateway_that_was_killed_is_told_everything_again(manager) -> None:
    bridge, gateway = manager
    await bridge.up("", {})
    async with guest() as number:
        first, second = port_to(number), port_to(number, "vmtabcde0000002")
        await bridge.add(first)
        await gateway.remove()
        await bridge.add(second)
        assert gateway.starts == 2
        assert gateway.bridge.ports == {port.tap: port for port in (first, second)}
        assert [await ask(port) for port in (first, second)] == [b"guest says hello"] * 2


async def test_another_manager_finds_the_listeners_of_its_predecessor(manager, tmp_path) -> None:
    bridge, gateway = manager
    await bridge.up("", {})
    async with guest() as number:
        kept, gone = port_to(number), port_to(number, "vmtabcde0000002")
        await bridge.add(kept)
        await bridge.add(gone)
        successor = NamespaceBridge(tmp_path, gateway)
        running = asyncio.create_task(successor.run())
        await successor.up("", {kept.tap: kept})
        assert gateway.starts == 1 and gateway.bridge.ports == {kept.tap: kept}
        assert await ask(kept) == b"guest says hello"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_the_gateway_cannot_do_is_said(manager) -> None:
    bridge, gateway = manager
    await gateway.remove()
    gateway.refusal = "nftables: Operation not supported"
    with pytest.raises(ToolError, match="Operation not supported"):
        await bridge.up("", {})
    await gateway.remove()
    gateway.refusal = ""
    await asyncio.sleep(0.3)
    await bridge.up("", {})


async def test_a_gateway_that_does_not_come_is_waited_for_with_a_deadline(manager, monkeypatch) -> None:
    bridge, gateway = manager
    monkeypatch.setattr(namespace_bridge, "_UP_SECONDS", 0.1)
    gateway.comes = False
    await gateway.remove()
    with pytest.raises(GatewayAway, match="does not come up"):
        await bridge.up("", {})


async def test_a_port_that_another_program_has_is_an_error_of_this_machine_only(manager) -> None:
    bridge, _ = manager
    await bridge.up("", {})
    port = port_to(1)
    with socket.create_server((port.host_address, port.forwards[0][0])), pytest.raises(OSError, match="in use"):
        await bridge.add(port)
    await bridge.add(port_to(1, "vmtabcde0000002"))


def test_the_way_out_answers_for_name_servers_only_where_guests_cannot_ask_them(monkeypatch) -> None:
    monkeypatch.setattr(host_tools, "nameservers", lambda: ("10.1.1.1",))
    assert uplink.nameservers() == ("10.1.1.1",) and "--dns-forward" not in uplink.command(1)
    monkeypatch.setattr(host_tools, "nameservers", lambda: ())
    (address,) = uplink.nameservers()
    assert uplink.command(1)[-2:] == ["--dns-forward", address]
    assert "--no-map-gw" in uplink.command(1)


def test_the_namespace_itself_answers_nothing_that_comes_in_by_the_way_out() -> None:
    device = uplink.command(1)[uplink.command(1).index("--ns-ifname") + 1]
    assert f'iifname "{device}" drop' in uplink.rules()


def test_what_a_host_lacks_for_a_namespace_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert namespace.why_not() == "pasta is not installed (package passt)"


def test_no_process_is_taken_for_one_of_the_namespace(tmp_path) -> None:
    """One in the right directory and in the host's own namespace is none."""
    (tmp_path / "machine").mkdir()
    with contextlib.chdir(tmp_path / "machine"):
        assert namespace.find(tmp_path) is None
