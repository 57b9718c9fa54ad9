"""Services that select VMs, and port-forwards to them, as clients of Kubernetes use them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.cluster import BIN, Cluster, eventually


def service(name: str, vm: str, port: int) -> dict[str, Any]:
    """A Service for a port of one VM."""
    spec = {"selector": {"kubevirt/vm": vm}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def endpoint(cluster: Cluster, name: str) -> tuple[str, int]:
    """Address and port of the one ready endpoint that a Service has, or comes to have."""

    def found() -> tuple[str, int] | None:
        slices = cluster.items("endpointslices", "-l", f"kubernetes.io/service-name={name}")
        ready = [
            (point["addresses"][0], entry["ports"][0]["port"])
            for entry in slices
            for point in entry.get("endpoints") or []
            if point["conditions"]["ready"]
        ]
        return ready[0] if len(ready) == 1 else None

    return eventually(found, 20, f"an endpoint of Service {name}")


@contextmanager
def forwarded(cluster: Cluster, target: str, port: int) -> Iterator[int]:
    """The local port of a `kubectl port-forward TARGET :PORT` that is under way."""
    command = [str(BIN / "kubectl"), "--kubeconfig", str(cluster.kubeconfig), "port-forward", target, f":{port}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cluster.environment()
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            local = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert local, line + process.stderr.read()
            yield int(local[1])
        finally:
            process.terminate()
