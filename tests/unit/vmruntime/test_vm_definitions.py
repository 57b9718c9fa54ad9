"""The definitions of the kinds: accepted by an API server, and refusing what cannot work, with words that help."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kube.machinery.schema import check_schema, compile_schema
from vmruntime.api import (
    preflightcheck,
    virtualmachine,
    virtualmachineaccessrequest,
    virtualmachinedisk,
    virtualmachinetype,
    vmruntime,
)
from vmruntime.api.virtualmachine import Compute

DEFINITIONS = {
    "vmruntime": vmruntime.definition,
    "preflightcheck": preflightcheck.definition,
    "virtualmachine": virtualmachine.definition,
    "virtualmachinedisk": virtualmachinedisk.definition,
    "virtualmachinetype": virtualmachinetype.definition,
    "virtualmachineaccessrequest": virtualmachineaccessrequest.definition,
}


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def compiled(name: str):
    return compile_schema(schema_of(DEFINITIONS[name]()))


def obj(name: str, spec: dict[str, Any], kind: str = "X") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "vm.cluster.gke.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def errors(schema: str, candidate: dict[str, Any], old: dict[str, Any] | None = None) -> str:
    compiled_schema = compiled(schema)
    compiled_schema.default(candidate)
    return "\n".join(f"{cause.field}: {cause.message}" for cause in compiled_schema.validate(candidate, old))


def affinity(operator: str, *values: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "disk", "operator": operator, "values": list(values)}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_schema_is_structural(name: str) -> None:
    assert check_schema(schema_of(DEFINITIONS[name]())) == []


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_field_is_described_for_kubectl_explain(name: str) -> None:
    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        missing = []
        for key, value in schema.get("properties", {}).items():
            if "description" not in value and path + key not in ("metadata",):
                missing.append(path + key)
            missing += undescribed(value, f"{path}{key}.")
        if "items" in schema:
            missing += undescribed(schema["items"], path)
        return missing

    assert undescribed(schema_of(DEFINITIONS[name]()), "") == []


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("vmruntime", ["Enabled", "Ready", "PreflightCheck", "Age"]),
        ("preflightcheck", ["Pass", "Age"]),
        ("virtualmachine", ["Status", "Age", "IP"]),
        ("virtualmachinetype", ["vCPUs", "Memory", "Age"]),
        ("virtualmachinedisk", ["Phase", "Progress", "Size", "Format", "Age"]),
    ],
)
def test_columns_are_the_documented_ones(name: str, columns: list[str]) -> None:
    listed = DEFINITIONS[name]()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in listed if not column.get("priority")] == columns


def test_the_one_runtime() -> None:
    assert errors("vmruntime", obj("vmruntime", {})) == ""
    assert "its name is vmruntime" in errors("vmruntime", obj("other", {}))


def test_runtime_defaults_and_formats() -> None:
    runtime = obj("vmruntime", {})
    compiled("vmruntime").default(runtime)
    assert runtime["spec"] == {"enabled": False, "useEmulation": False}
    assert vmruntime.image_format(runtime) == "raw"
    text = errors("vmruntime", obj("vmruntime", {"vmImageFormat": "vmdk"}))
    assert 'spec.vmImageFormat: Unsupported value: "vmdk": supported values: "raw", "qcow2"' in text


def test_machine_defaults() -> None:
    machine = obj("m", {})
    del machine["spec"]
    compiled("virtualmachine").default(machine)
    spec = machine["spec"]
    assert spec["interfaces"] == [{"name": "eth0", "networkName": "pod-network", "default": True}]
    assert (spec["runningState"], spec["terminationGracePeriodSeconds"]) == ("Running", 30)
    assert virtualmachine.compute(machine, None) == Compute(2, 4 << 30)


def test_numbers_of_a_machine_and_of_its_type() -> None:
    machine = obj("m", {"compute": {"cpu": {"vcpus": 1}}})
    assert errors("virtualmachine", machine) == ""
    assert virtualmachine.compute(machine, None) == Compute(1, 4 << 30)
    typed = obj("m", {"compute": {"virtualMachineTypeName": "example-machinetype"}})
    assert errors("virtualmachine", typed) == ""
    assert virtualmachine.compute(typed, virtualmachinetype.predefined()) == Compute(2, 4 * 10**9)


def test_the_predefined_type_stays_as_it_is() -> None:
    predefined = virtualmachinetype.predefined()
    assert errors("virtualmachinetype", predefined) == ""
    changed = copy.deepcopy(predefined)
    changed["spec"]["cpu"]["vcpus"] = 4
    assert "is predefined and cannot be changed" in errors("virtualmachinetype", changed)
    mine = {**changed, "metadata": {"name": "mine"}}
    assert errors("virtualmachinetype", mine) == ""
    del mine["spec"]["memory"]
    assert "spec.memory: Required value" in errors("virtualmachinetype", mine)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"compute": {"cpu": {"vcpus": 0}}}, "spec.compute.cpu.vcpus"),
        (
            {"compute": {"memory": {"capacity": "20GiB"}}},
            'capacity: Invalid value: "20GiB": must be a quantity such as 512Mi',
        ),
        ({"compute": {"memory": {"capacity": "1k"}}}, "at least 1Mi"),
        (
            {"compute": {"cpu": {"vcpus": 2}, "virtualMachineTypeName": "t"}},
            "give either virtualMachineTypeName or cpu",
        ),
        ({"firmware": {"bootloader": {"enableSecureBoot": True}}}, "enableSecureBoot needs type uefi"),
        ({"firmware": {"bootloader": {"type": "coreboot"}}}, '"uefi"'),
        ({"firmware": {"uuid": "x"}}, "spec.firmware.uuid"),
        ({"firmware": {"serial": "a\nb"}}, "spec.firmware.serial"),
        ({"startupScripts": [{"name": "a"}]}, "exactly one of script, scriptBase64"),
        ({"startupScripts": [{"name": "a", "script": "echo"}]}, "spec.startupScripts[0].script"),
        ({"startupScripts": [{"name": "../a", "script": "#!x"}]}, "spec.startupScripts[0].name"),
        ({"startupScripts": [{"name": "a", "script": "#!" + "x" * 2047}]}, "name it in scriptSecretRef"),
        ({"startupScripts": [{"name": "a", "script": "#!x"}] * 2}, "Duplicate value"),
        ({"startupScripts": [{"name": "a", "script": "#!x"}], "cloudInit": {"noCloud": {}}}, "one excludes the other"),
        ({"startupScripts": [{"name": "a", "script": "#!x"}], "osType": "Windows"}, "need a Linux guest"),
        ({"runningState": "Perhaps"}, "spec.runningState"),
        ({"scheduling": affinity("In")}, "In and NotIn need values"),
        ({"scheduling": affinity("Gt", "many")}, "Gt and Lt need one whole number"),
        ({"scheduling": affinity("Near")}, "operator"),
        (
            {"scheduling": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}},
            "topologyKey: Required value",
        ),
        ({"osType": "linux"}, '"Linux"'),
        ({"disks": [{"virtualMachineDiskName": "a"}, {"virtualMachineDiskName": "a"}]}, "Duplicate value"),
        (
            {"disks": [{"virtualMachineDiskName": n, "boot": True} for n in "ab"]},
            "at most one disk can be the boot disk",
        ),
        ({"interfaces": [{"name": n, "default": True} for n in "ab"]}, "at most one interface can be the default"),
        ({"cloudInit": {"noCloud": {"userData": "a", "secretRef": {"name": "s"}}}}, "at most one of userData"),
        ({"cloudInit": {"noCloud": {"userData": "x" * 2049}}}, "name it in secretRef"),
        ({"cloudInit": {"noCloud": {"userData": "#!/bin/sh"}}}, "userData must start with #cloud-config"),
        ({"cloudInit": {"noCloud": {"userData": "é" * 1025}}}, "2048 bytes"),
        ({"cloudInit": {"noCloud": {"networkData": "x" * 2049}}}, "networkDataSecretRef"),
    ],
)
def test_machine_refuses(spec: dict[str, Any], expected: str) -> None:
    assert expected in errors("virtualmachine", obj("m", spec))


def test_machine_accepts_data_of_just_the_limit() -> None:
    assert (
        errors("virtualmachine", obj("m", {"cloudInit": {"noCloud": {"userData": "#cloud-config\n" + "é" * 1017}}}))
        == ""
    )


@pytest.mark.parametrize("name", ["a.b", "x" * 64])
def test_machine_names_are_labels(name: str) -> None:
    assert "metadata.name" in errors("virtualmachine", obj(name, {}))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"size": "20GiB"}, "spec.size"),
        ({"size": "0"}, "at least 1"),
        ({}, "spec.size: Required value"),
        ({"size": "1Gi", "source": {}}, "exactly one of http, s3, gcs, registry, file and virtualMachineDisk"),
        (
            {"size": "1Gi", "source": {"file": {"url": "file:///x"}, "virtualMachineDisk": {"name": "e"}}},
            "exactly one of http, s3, gcs, registry, file and virtualMachineDisk",
        ),
        ({"size": "1Gi", "source": {"virtualMachineDisk": {"name": "d"}}}, "a disk cannot be a copy of itself"),
        ({"size": "1Gi", "source": {"http": {"url": "http://x/y", "checksum": "md5:00"}}}, "spec.source.http.checksum"),
        ({"size": "1Gi", "source": {"http": {"url": "ftp://x/y"}}}, "spec.source.http.url"),
        ({"size": "1Gi", "source": {"http": {"url": "http://user:secret@x/y"}}}, "spec.source.http.url"),
        ({"size": "1Gi", "source": {"file": {"url": "file://host/x"}}}, "spec.source.file.url"),
        ({"size": "1Gi", "source": {"gcs": {"url": "gs://bucket"}}}, "spec.source.gcs.url"),
    ],
)
def test_disk_refuses(spec: dict[str, Any], expected: str) -> None:
    assert expected in errors("virtualmachinedisk", obj("d", spec))


@pytest.mark.parametrize("url", ["http://x/y.img", "https://10.0.0.1:8443/a/b?c=d@e", "http://x"])
def test_disk_accepts_addresses(url: str) -> None:
    assert errors("virtualmachinedisk", obj("d", {"size": 1024, "source": {"http": {"url": url}}})) == ""


def test_disk_grows_but_neither_shrinks_nor_changes_its_source() -> None:
    old = obj("d", {"size": "1Gi", "source": {"http": {"url": "http://x/y"}}})
    for size, expected in (("2Gi", ""), ("1024Mi", ""), ("1000Mi", "not shrink")):
        new = copy.deepcopy(old)
        new["spec"]["size"] = size
        text = errors("virtualmachinedisk", new, old)
        assert (expected in text) if expected else text == ""
    for status, expected in (
        ({"phase": "Succeeded", "virtualSize": "1000000000"}, ""),
        ({"phase": "Succeeded", "virtualSize": "1073741824"}, "not shrink"),
        ({"phase": "Failed"}, ""),
        ({"phase": "ImportInProgress"}, "not shrink"),
    ):
        text = errors("virtualmachinedisk", obj("d", {**old["spec"], "size": "1000Mi"}), {**old, "status": status})
        assert (expected in text) if expected else text == ""
    changed = copy.deepcopy(old)
    changed["spec"]["source"]["http"]["url"] = "http://x/z"
    assert "cannot be changed" in errors("virtualmachinedisk", changed, old)
    removed = copy.deepcopy(old)
    del removed["spec"]["source"]
    assert "cannot be changed" in errors("virtualmachinedisk", removed, old)


_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHDKibWPAMP1z0XZVwYdYdffudZT+N/YMqCD8xVwL5j8"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"ssh": {"key": f"{_KEY} me@home", "ttl": "10m"}}, ""),
        ({"user": "root"}, ""),
        ({"user": "-x"}, "spec.user: "),
        ({"user": "a b"}, "spec.user: "),
        ({"user": "a\nb"}, "spec.user: "),
        ({"user": ""}, "spec.user: "),
        ({"user": "x" * 33}, "spec.user: "),
        ({"vm": ""}, "spec.vm: "),
        ({"ssh": {"key": f"{_KEY}\n", "ttl": "10m"}}, "spec.ssh.key: "),
        ({"ssh": {"key": f"{_KEY} a\n{_KEY}", "ttl": "10m"}}, "spec.ssh.key: "),
        ({"ssh": {"key": f'command="x" {_KEY}', "ttl": "10m"}}, "spec.ssh.key: "),
        ({"ssh": {"key": "ssh-dss AAAA", "ttl": "10m"}}, "spec.ssh.key: "),
        ({"ssh": {"key": _KEY, "ttl": "10"}}, "spec.ssh.ttl: "),
        ({"ssh": {"key": _KEY, "ttl": "0m"}}, "spec.ssh.ttl: "),
        ({"ssh": {"key": _KEY}}, "spec.ssh.ttl: "),
        ({"password": {"secretRef": {"name": "s"}}}, "exactly one of ssh and password"),
        ({"ssh": None}, "exactly one of ssh and password"),
    ],
)
def test_access_requests(change: dict[str, Any], says: str) -> None:
    spec = {"vm": "m", "user": "alice", "ssh": {"key": _KEY, "ttl": "10m"}} | change
    spec = {key: value for key, value in spec.items() if value is not None}
    found = errors("virtualmachineaccessrequest", obj("r", spec))
    assert (says in found) if says else (found == "")


def test_an_access_request_cannot_be_changed() -> None:
    spec = {"vm": "m", "user": "alice", "ssh": {"key": _KEY, "ttl": "10m"}}
    old, new = obj("r", spec), obj("r", copy.deepcopy(spec))
    assert errors("virtualmachineaccessrequest", new, old) == ""
    new["spec"]["user"] = "bob"
    assert "cannot be changed" in errors("virtualmachineaccessrequest", new, old)
