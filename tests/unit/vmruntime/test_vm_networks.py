"""Networks and interfaces: their definitions, what a machine asks an engine for, and what keeps it from starting."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kube.machinery.cel import compile_cel
from kube.machinery.schema import check_schema, compile_schema
from vmruntime.api import admission, names, network, networkinterface, virtualmachine
from vmruntime.controllers import connections, machine_request
from vmruntime.engines.common import ConfigurationError
from vmruntime.engines.network import Interface, Port, Segment
from vmruntime.engines.qemu.engine_launch import LAUNCH_ANNOTATION, Launch

Obj = dict[str, Any]
COMPLETE: Obj = {
    "type": "L2",
    "nodeInterfaceMatcher": {"interfaceName": "eth1"},
    "l2NetworkConfig": {"vlanID": 100},
    "gateway4": "10.0.0.1",
    "dnsConfig": {"nameservers": ["10.0.0.2"], "searches": ["lab.example"]},
    "routes": [{"to": "10.50.0.0/16"}],
}


def schema(kind: Any) -> Obj:
    found: Obj = kind.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def errors(kind: Any, obj: Obj, old: Obj | None = None) -> str:
    compiled = compile_schema(schema(kind))
    compiled.default(obj)
    return "\n".join(f"{cause.field}: {cause.message}" for cause in compiled.validate(obj, old))


def net(spec: Obj, name: str = "lab", ready: str = "True") -> Obj:
    conditions = [{"type": "Ready", "status": ready, "message": "no eth1"}]
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "Network",
        "metadata": {"name": name, "uid": name},
        "spec": spec,
        "status": {"conditions": conditions},
    }


def machine(name: str = "web", *interfaces: Obj, **status: Any) -> Obj:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {
        "apiVersion": "vm.cluster.gke.io/v1",
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": {"interfaces": list(interfaces)} if interfaces else {},
        "status": status,
    }


def without(*path: str, spec: Obj = COMPLETE, **changes: Any) -> Obj:
    result = copy.deepcopy({**spec, **changes})
    for key in path:
        del result[key]
    return result


@pytest.mark.parametrize("kind", [network, networkinterface, virtualmachine])
def test_schemas_are_structural_and_described(kind: Any) -> None:
    assert check_schema(schema(kind)) == []

    def undescribed(part: Obj) -> list[str]:
        missing = []
        for key, value in part.get("properties", {}).items():
            missing += [key] if "description" not in value and key != "metadata" else undescribed(value)
        return missing + (undescribed(part["items"]) if "items" in part else [])

    assert undescribed(schema(kind)) == []


def test_columns_of_an_interface_are_the_documented_ones() -> None:
    columns = networkinterface.definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"].upper() for column in columns] == ["AGE", "IP", "MAC", "NETWORK"]


@pytest.mark.parametrize(
    "spec", [COMPLETE, without("gateway4", "dnsConfig", externalDHCP4=True), without("l2NetworkConfig")]
)
def test_networks_that_are_accepted(spec: Obj) -> None:
    assert errors(network, net(spec)) == ""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (without("type"), "spec.type: Required value"),
        (without(type="L3"), "networks of type L2 are the only ones"),
        (without("nodeInterfaceMatcher"), "nodeInterfaceMatcher.interfaceName is required"),
        (without(nodeInterfaceMatcher={}), "nodeInterfaceMatcher.interfaceName is required"),
        (without(nodeInterfaceMatcher={"interfaceName": "eth0; reboot"}), "interfaceName"),
        (without("gateway4"), "gateway4 is required"),
        (without("dnsConfig"), "dnsConfig.nameservers is required"),
        (without(dnsConfig={"nameservers": []}), "dnsConfig.nameservers is required"),
        (without(gateway4="10.0.0.256"), "spec.gateway4"),
        (without(routes=[{"to": "0.0.0.0/0"}]), "0.0.0.0/0 cannot be a route"),
        (without(routes=[{"to": "10.0.0.0"}]), "spec.routes[0].to"),
        (without(l2NetworkConfig={"vlanID": 4095}), "vlanID"),
        (without("l2NetworkConfig", networkLifecycle="AnthosManaged"), "networkLifecycle needs l2NetworkConfig.vlanID"),
    ],
)
def test_networks_that_are_refused(spec: Obj, expected: str) -> None:
    assert expected in errors(network, net(spec))


def test_the_host_side_of_a_network_stays() -> None:
    old = net(COMPLETE)
    moved = net(without(nodeInterfaceMatcher={"interfaceName": "eth2"}))
    assert "nodeInterfaceMatcher.interfaceName cannot be changed" in errors(network, moved, old)
    for spec in (without(l2NetworkConfig={"vlanID": 101}), without("l2NetworkConfig")):
        assert "l2NetworkConfig.vlanID cannot be changed" in errors(network, net(spec), old)
    assert errors(network, net(without(gateway4="10.0.0.3")), old) == ""


def test_the_pod_network_is_predefined() -> None:
    pod = network.pod_network("10.144.0.0/22", "10.144.0.1", ("9.9.9.9",))
    assert errors(network, pod) == ""
    changed = copy.deepcopy(pod)
    changed["spec"]["gateway4"] = "10.144.0.2"
    assert "pod-network is predefined and cannot be changed" in errors(network, changed, pod)


@pytest.mark.parametrize(
    ("name", "annotations", "user", "allowed"),
    [
        ("lab", None, "admin", True),
        ("lab", {}, "admin", True),
        ("lab", {names.IN_USE_ANNOTATION: "true"}, "admin", False),
        ("lab", {names.IN_USE_ANNOTATION: "false"}, "admin", True),
        ("pod-network", None, "admin", False),
        ("pod-network", None, names.MANAGER_USER, True),
    ],
)
def test_who_may_delete_a_network(name: str, annotations: Obj | None, user: str, allowed: bool) -> None:
    old = net(COMPLETE, name)
    if annotations is not None:
        old["metadata"]["annotations"] = annotations
    given = {"oldObject": old, "request": {"userInfo": {"username": user}}}
    answers = [
        compile_cel(entry["expression"], ("oldObject", "request")).evaluate(given)
        for entry in admission.network_policy()["spec"]["validations"]
    ]
    assert all(answers) is allowed


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        ([{"name": "eth0"}], ""),
        ([{"name": "eth0", "networkName": "lab", "ipAddresses": ["10.0.0.5/24"]}], ""),
        ([{"name": "eth0", "ipAddresses": ["10.0.0.5/24"]}], "addresses on pod-network are given by the cluster"),
        ([{"name": "eth0", "networkName": "lab", "ipAddresses": ["10.0.0/24"]}], "ipAddresses[0]"),
        ([{"name": "eth0"}, {"name": "eth1", "networkName": "lab"}], "one of several interfaces must be the default"),
        ([{"name": "eth0", "default": True}, {"name": "eth0", "networkName": "lab"}], "Duplicate value"),
        ([{"name": "eth0: x"}], "spec.interfaces[0].name"),
    ],
)
def test_interfaces_of_a_machine(interfaces: list[Obj], expected: str) -> None:
    text = errors(virtualmachine, machine("web", *interfaces))
    assert (expected in text) if expected else text == ""


STATIC = {"name": "eth1", "networkName": "lab", "ipAddresses": ["10.0.0.5/24"]}
DYNAMIC = {"name": "eth1", "networkName": "lab"}


def problem(vm: Obj, found: Obj | None, *others: Obj) -> tuple[str, str]:
    result = connections.problem(vm, lambda namespace, name: found, [vm, *others])
    return (result.state, result.reason) if result else ("", "")


def test_what_keeps_a_machine_from_its_network() -> None:
    error = virtualmachine.ERROR_CONFIGURATION
    lab, dhcp = net(COMPLETE), net(without("gateway4", "dnsConfig", externalDHCP4=True))
    assert problem(machine(), None) == ("", "")
    assert problem(machine("web", STATIC), lab) == ("", "")
    assert problem(machine("web", DYNAMIC), dhcp) == ("", "")
    assert problem(machine("web", STATIC), None) == (error, "NetworkMissing")
    assert problem(machine("web", DYNAMIC), lab) == (error, "AddressRequired")
    assert problem(machine("web", STATIC), net(COMPLETE, ready="False")) == ("Pending", "NetworkNotReady")
    going = net(COMPLETE)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert problem(machine("web", STATIC), going) == (error, "NetworkDeleted")
    same = {**STATIC, "ipAddresses": ["10.0.0.5/16"]}
    assert problem(machine("web", STATIC), lab, machine("db", same)) == (error, "AddressInUse")
    elsewhere = {**STATIC, "networkName": "other"}
    assert problem(machine("web", STATIC), lab, machine("db", elsewhere)) == ("", "")


def test_an_address_of_two_interfaces_is_refused_with_their_names() -> None:
    lab, second = net(COMPLETE), {**STATIC, "name": "eth2", "ipAddresses": ["10.0.0.6/24", "10.0.0.5/16"]}
    found = connections.problem(machine("web", STATIC, second), lambda namespace, name: lab, [])
    assert found is not None and (found.state, found.reason) == ("ErrorConfiguration", "InvalidSpec")
    assert found.message == 'spec.interfaces: address 10.0.0.5 on Network "lab" is given 2 times (eth1, eth2)'
    assert problem(machine("web", STATIC, {**second, "networkName": "other"}), lab) == ("", "")


def asked(vm: Obj, found: Obj, kept: Obj | None = None) -> tuple[Interface, ...]:
    return connections.interfaces(vm, lambda namespace, name: found, lambda namespace, name: kept)


def test_static_addresses_bring_what_the_network_says_and_dhcp_nothing() -> None:
    (static,) = asked(machine("web", STATIC), net(COMPLETE))
    assert static.segment == Segment("eth1", 100, managed=True)
    assert (static.addresses, static.gateway, static.routes) == (("10.0.0.5/24",), "10.0.0.1", ("10.50.0.0/16",))
    assert (static.nameservers, static.searches, static.default) == (("10.0.0.2",), ("lab.example",), True)
    (dynamic,) = asked(machine("web", DYNAMIC), net({**COMPLETE, "networkLifecycle": "UserManaged"}))
    assert dynamic.segment == Segment("eth1", 100, managed=False)
    assert (dynamic.addresses, dynamic.gateway, dynamic.routes, dynamic.nameservers) == ((), "", (), ())


def test_what_a_machine_had_before_is_asked_for_again() -> None:
    before = {"name": "eth0", "ipAddresses": ["10.144.0.9"], "macAddress": "52:54:00:00:00:09"}
    (entry,) = asked(machine(interfaces=[before]), net(COMPLETE))
    assert (entry.addresses, entry.mac, entry.segment) == (("10.144.0.9",), "52:54:00:00:00:09", None)
    assert entry.resource == networkinterface.name_for("default", "web", "eth0")
    assert (entry.any_mac, entry.any_address) == (False, False)
    allowed = {"metadata": {"annotations": {networkinterface.ANY_MAC_ANNOTATION: "true"}}}
    (entry,) = asked(machine(), net(COMPLETE), allowed)
    assert (entry.any_mac, entry.any_address) == (True, False)


def test_status_and_objects_say_what_an_interface_is() -> None:
    entry = Interface("eth1", "lab", False, "52:54:00:00:00:05", ("10.0.0.5/24",), gateway="10.0.0.1", resource="r")
    written = connections.to_status(entry)
    assert (written["ipAddresses"], written["gateway4"], written["resourceName"]) == (["10.0.0.5"], "10.0.0.1", "r")
    vm = machine("web", STATIC, interfaces=[written], podName="p")
    (made,) = connections.resources(vm)
    assert made["spec"] == {
        "networkName": "lab",
        "macAddress": "52:54:00:00:00:05",
        "ipAddresses": ["10.0.0.5/24"],
    }
    assert made["status"]["podName"] == "p"
    assert errors(networkinterface, made) == ""
    assert connections.to_status(Interface("eth0", "n", ports=(Port(22, 10022),)))["ports"] == [
        {"guest": 22, "host": 10022}
    ]


@pytest.mark.parametrize(("text", "ports"), [("", ()), ("8081", (8081,)), ("8081, 9000", (8081, 9000))])
def test_further_ports_of_a_machine(text: str, ports: tuple[int, ...]) -> None:
    vm = machine()
    vm["metadata"]["annotations"] = {names.FORWARD_PORTS_ANNOTATION: text}
    assert machine_request.forwarded_ports(vm) == ports


@pytest.mark.parametrize("text", ["0", "65536", "ssh", "22;rm", "-1"])
def test_what_is_no_port_is_refused(text: str) -> None:
    vm = machine()
    vm["metadata"]["annotations"] = {names.FORWARD_PORTS_ANNOTATION: text}
    with pytest.raises(ConfigurationError, match="ports are numbers"):
        machine_request.forwarded_ports(vm)


def test_ports_of_a_machine_are_bounded() -> None:
    """All of them stand in one word of a command line, which the kernel bounds."""
    vm = machine()
    vm["metadata"]["annotations"] = {names.FORWARD_PORTS_ANNOTATION: ",".join(map(str, range(2000, 2101)))}
    with pytest.raises(ConfigurationError, match="101 ports, more than the 100"):
        machine_request.forwarded_ports(vm)


def test_a_launch_with_every_kind_of_interface_survives_its_annotation() -> None:
    interfaces = (
        Interface("eth0", "pod-network", True, "52:54:00:00:00:01", ("10.144.0.2",), gateway="10.144.0.1", device="t0"),
        Interface(
            "eth1", "lab", False, "52:54:00:00:00:02", ("10.0.0.5/24",), segment=Segment("eth1", 7, True),
            routes=("10.50.0.0/16",), nameservers=("10.0.0.2",), searches=("a.b",), any_mac=True, any_address=True,
            resource="web-eth1-0", device="m1",
        ),
        Interface("eth2", "lab", segment=Segment("eth1")),
    )  # fmt: skip
    launch = Launch("tcg", interfaces)
    assert Launch.of({"metadata": {"annotations": {LAUNCH_ANNOTATION: launch.to_json()}}}) == launch
