"""Start-up data: read from where the spec says, and scripts made into something that cloud-init runs at every start."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube.machinery.errors import not_found
from vmruntime.controllers import startup_data
from vmruntime.controllers.startup_data import DataMissing, user_data_of_scripts
from vmruntime.engines.common import ConfigurationError
from vmruntime.engines.machine import Seed


class Secrets:
    """A client that knows Secrets and nothing else."""

    def __init__(self, **secrets: dict[str, str]) -> None:
        self._secrets = secrets

    async def get(self, resource: Any, name: str, namespace: str | None = None) -> dict[str, Any]:
        assert resource.plural == "secrets"
        if name not in self._secrets:
            raise not_found("secrets", name)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in self._secrets[name].items()}
        return {"metadata": {"name": name}, "data": data}


def vm(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "m", "namespace": "default"}, "spec": spec}


async def read(machine: dict[str, Any], **secrets: dict[str, str]) -> Seed | None:
    return await startup_data.read(machine, Secrets(**secrets))  # type: ignore[arg-type]


def no_cloud(**fields: Any) -> dict[str, Any]:
    return vm(cloudInit={"noCloud": fields})


async def test_the_three_forms_of_data() -> None:
    assert await read(vm()) is None
    assert await read(no_cloud(userData="a", networkDataBase64="Yg==")) == Seed(b"a", b"b")
    assert await read(no_cloud(userDataBase64="YWFh\nYWFh\n")) == Seed(b"aaaaaa", b"")
    secrets = {"s": {"userdata": "a"}, "n": {"networkData": "b"}}
    both = no_cloud(secretRef={"name": "s"}, networkDataSecretRef={"name": "n"})
    assert await read(both, **secrets) == Seed(b"a", b"b")


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (no_cloud(secretRef={"name": "absent"}), "SecretMissing"),
        (no_cloud(secretRef={"name": "s"}), "SecretKeyMissing"),
        (vm(startupScripts=[{"name": "a", "scriptSecretRef": {"name": "absent"}}]), "SecretMissing"),
    ],
)
async def test_what_is_missing_can_come_later(machine: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataMissing) as caught:
        await read(machine, s={"other": ""})
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (no_cloud(userDataBase64="?"), "cloudInit.noCloud.userDataBase64 is not base64"),
        (no_cloud(networkDataBase64="ü"), "cloudInit.noCloud.networkDataBase64 is not base64"),
        (
            vm(startupScripts=[{"name": "a", "scriptBase64": "YQ=="}]),
            "startupScripts[a]: a script has to begin with #!",
        ),
        (vm(startupScripts=[{"name": "a", "scriptSecretRef": {"name": "s"}}]), "begin with #!"),
    ],
)
async def test_what_is_wrong_is_said(machine: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await read(machine, s={"script": "echo"})
    assert not isinstance(caught.value, DataMissing)
    assert words in str(caught.value)


async def test_scripts_are_files_and_one_program_that_runs_them() -> None:
    scripts = [{"name": "one", "script": "#!/bin/sh\n"}, {"name": "two.sh", "scriptSecretRef": {"name": "s"}}]
    seed = await read(vm(startupScripts=scripts), s={"script": "#!/bin/sh\nfalse\n"})
    assert seed is not None
    assert seed.user_data.startswith(b"#cloud-config\n")
    files = yaml.safe_load(seed.user_data)["write_files"]
    assert [file["path"] for file in files] == [
        "/var/lib/google/startup-scripts/one",
        "/var/lib/google/startup-scripts/two.sh",
        "/var/lib/cloud/scripts/per-boot/vm-runtime-startup-scripts",
    ]
    assert {(file["permissions"], file["encoding"]) for file in files} == {("0755", "b64")}
    assert base64.b64decode(files[1]["content"]) == b"#!/bin/sh\nfalse\n"


def test_the_program_runs_all_in_order_says_what_failed_and_stops_when_the_data_changed(tmp_path: Path) -> None:
    scripts = [("first", b"#!/bin/sh\necho one; exit 3\n"), ("second", b"#!/bin/sh\necho two\n")]
    user_data = user_data_of_scripts(scripts)
    for file in yaml.safe_load(user_data)["write_files"]:
        content = base64.b64decode(file["content"]).replace(b"/var/lib/", f"{tmp_path}/".encode())
        path = Path(str(tmp_path) + file["path"].removeprefix("/var/lib"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    (tmp_path / "cloud" / "instance").mkdir()
    (tmp_path / "cloud" / "instance" / "user-data.txt").write_bytes(user_data)
    done = subprocess.run([path], capture_output=True, text=True, timeout=40)
    where = f"{tmp_path}/google/startup-scripts"
    assert done.stdout.splitlines() == [
        f"started to run the command {where}/first",
        "one",
        f"the command {where}/first failed with code 3",
        f"started to run the command {where}/second",
        "two",
    ]
    assert done.returncode == 1
    (tmp_path / "cloud" / "instance" / "user-data.txt").write_text("#cloud-config\n")
    done = subprocess.run([path], capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stdout) == (0, "")
