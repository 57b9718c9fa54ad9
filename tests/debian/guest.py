"""The Debian guest as a test sees it: from outside, by kubectl and by SSH."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster, vm

BOOT_SECONDS = 1200  # on a machine that does much else; minutes otherwise


@dataclass
class Guest:
    """`key` is the private key of the account erin, which the user data make."""

    cluster: Cluster
    name: str
    key: Path
    user_data: str

    def manifest(self, no_cloud: dict[str, Any]) -> dict[str, Any]:
        machine = vm(self.name, [f"{self.name}-disk"], osType="Linux", cloudInit={"noCloud": no_cloud})
        machine["spec"]["compute"] = {"cpu": {"vcpus": 2}, "memory": {"capacity": "1Gi"}}
        machine["spec"]["terminationGracePeriodSeconds"] = 120
        return machine

    def status(self) -> dict[str, Any]:
        return self.cluster.get("gvm", self.name).get("status", {})

    def synced(self) -> bool:
        conditions = {entry["type"]: entry["status"] for entry in self.status().get("conditions", [])}
        return conditions.get("GuestEnvironmentSynced") == "True"

    def wait_until_up(self) -> None:
        """Until the guest's agent answers; on failure the guest's console is shown."""
        deadline = time.monotonic() + BOOT_SECONDS
        while not self.synced():
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(0.5)

    def log(self) -> str:
        return self.cluster.kubectl("logs", self.status().get("podName", ""), ok=False).stdout

    def ssh(self, user: str, key: Path, command: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """A command in the guest, by the system's SSH client and without our own command."""
        interface = self.status()["interfaces"][0]
        port = next((port["host"] for port in interface.get("ports", []) if port["guest"] == 22), 22)
        words = ["ssh", "-p", str(port), "-i", str(key), "-F", "none"]
        options = (
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        )
        for option in (*options, "LogLevel=ERROR", "BatchMode=yes", "ConnectTimeout=20"):
            words += ["-o", option]
        destination = f"{user}@{interface['ipAddresses'][0]}"
        words += [destination, command]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)

    def wait_for_login(self, timeout: float) -> None:
        """Until erin gets in; on failure what SSH and the guest's console say is shown."""
        deadline = time.monotonic() + timeout
        while (done := self.ssh("erin", self.key, "true")).returncode != 0:
            assert time.monotonic() < deadline, f"{done.stderr}\n{self.log()[-4000:]}"
            time.sleep(1)

    def erin(self, command: str) -> str:
        """What a command of erin's prints; nothing while she cannot get in."""
        return self.ssh("erin", self.key, command).stdout
