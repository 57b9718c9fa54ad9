"""Start-up scripts in a guest that boots, and what becomes of them when their Secret is gone."""

from __future__ import annotations

from pathlib import Path

from e2e.cluster import Cluster, disk, eventually, vm


def console_log(cluster: Cluster) -> str:
    pod = cluster.get("gvm", "scripted").get("status", {}).get("podName", "")
    return cluster.kubectl("logs", pod, ok=False).stdout


def test_scripts_run_at_every_start_and_outlive_their_secret(runtime: Cluster, guest: Path) -> None:
    image = runtime.directory / "images" / "tiny.qcow2"
    image.write_bytes((guest / "tiny.qcow2").read_bytes())
    runtime.kubectl("create", "secret", "generic", "later", "--from-literal=script=#!/bin/sh\necho FROM-THE-SECRET\n")
    scripts = [
        {"name": "first", "script": "#!/bin/sh\necho FROM-THE-OBJECT\n"},
        {"name": "second", "scriptSecretRef": {"name": "later"}},
    ]
    machine = vm("scripted", ["scripted-disk"], startupScripts=scripts)
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    runtime.apply(disk("scripted-disk", "64Mi", source={"file": {"url": f"file://{image}"}}), machine)
    eventually(lambda: "TINY-READY" in console_log(runtime), 60, "the guest is up")
    log = console_log(runtime)
    lines = [
        "started to run the command /var/lib/google/startup-scripts/first",
        "FROM-THE-OBJECT",
        "started to run the command /var/lib/google/startup-scripts/second",
        "FROM-THE-SECRET",
    ]
    positions = [log.find(line) for line in lines]
    assert -1 not in positions
    assert positions == sorted(positions)

    runtime.kubectl("delete", "secret", "later")
    first = runtime.get("gvm", "scripted")["status"]["podName"]
    runtime.virt("restart", "scripted")
    eventually(lambda: runtime.get("gvm", "scripted")["status"].get("podName") not in (None, first), 30, "a new pod")
    eventually(lambda: "FROM-THE-SECRET" in console_log(runtime), 60, "the old script runs again")
    events = runtime.items("events", "--field-selector", "involvedObject.name=scripted,reason=SecretMissing")
    assert events
    assert "with the data of its last start" in events[0]["message"]
