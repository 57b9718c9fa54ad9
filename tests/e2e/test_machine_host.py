"""The machine under the cluster goes down and comes up again, by way of the unit file that the documents give."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
from pathlib import Path

import pytest

from e2e.cluster import BIN, Cluster, disk, eventually, vm

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "clusters.md"


def unit_text() -> str:
    (text,) = re.findall(r"```ini\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return str(text)


def command(cluster: Cluster, key: str) -> list[str]:
    """A command of the unit, for this cluster and this installation."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(unit_text())
    program, *words = shlex.split(unit["Service"][key])
    assert Path(program).name == "bmctl"
    place = {"-c": cluster.name, "--workspace": str(cluster.workspace)}
    values = [place.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    return [str(BIN / "bmctl"), *values]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(disabled: Cluster, tmp_path: Path) -> None:
    unit = tmp_path / "vmruntime-demo.service"
    unit.write_text(re.sub(r"=\S*/bmctl", f"={BIN}/bmctl", unit_text()).replace("/srv/vmruntime", str(tmp_path)))
    done = disabled.run("systemd-analyze", "verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_guests_shut_down_with_the_host_and_come_back(runtime: Cluster, guest: Path) -> None:
    target = runtime.directory / "images" / "tiny.qcow2"
    target.write_bytes((guest / "tiny.qcow2").read_bytes())
    machine = vm("host", ["host-disk"], runningState="RerunOnFailure")
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    runtime.apply(disk("host-disk", "64Mi", source={"file": {"url": f"file://{target}"}}), machine)
    runtime.apply(vm("off", runningState="Stopped"))
    runtime.wait_for(".status.state", "Running", "gvm", "host")
    before = runtime.get("gvm", "host")["status"]["podName"]
    eventually(lambda: "TINY-READY" in runtime.kubectl("logs", before, ok=False).stdout, 60, "the guest is up")
    stopped = runtime.run(*command(runtime, "ExecStop"), timeout=90)
    assert stopped.returncode == 0, stopped.stderr
    assert "switched off" not in stopped.stderr
    assert runtime.processes() == {}
    logs = [path.read_text(errors="replace") for path in runtime.directory.glob("solo/pods/*/compute/*.log")]
    assert any("TINY-POWEROFF" in text for text in logs)
    started = runtime.run(*command(runtime, "ExecStart"), timeout=90)
    assert started.returncode == 0, started.stderr
    eventually(lambda: runtime.get("gvm", "host")["status"].get("podName", before) != before, what="another pod")
    runtime.wait_for(".status.state", "Running", "gvm", "host")
    status = runtime.get("gvm", "host")["status"]
    assert (status.get("restarts", 0), status.get("failures", 0)) == (0, 0)
    assert len(runtime.qemu()) == 1
    assert runtime.get("gvm", "off")["status"]["state"] == "Stopped"
