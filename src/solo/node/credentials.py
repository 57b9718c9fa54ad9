"""How a pod's processes reach the API: a service-account token and a kubeconfig in the pod's directory.

The token is asked for with TokenRequest, bound to the pod, and renewed when four fifths of its life are over. The
kubeconfig points at the token's file, so that a renewal needs no restart.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kube.client.aio import AsyncClient
from kube.machinery.resources import SERVICEACCOUNTS
from solo.node.volumespec import TOKEN_SECONDS

log = logging.getLogger(__name__)

Obj = dict[str, Any]


async def request_token(client: AsyncClient, pod: Obj, seconds: int, audience: str = "") -> tuple[str, float]:
    """A token of the pod's service account, bound to the pod, and when it is to be renewed (seconds since the epoch).

    `audience`: whom it is for, the API itself if empty. StatusError or ConnectionFailed as the API answers.
    """
    metadata = pod["metadata"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
    spec: Obj = {"expirationSeconds": seconds, "boundObjectRef": bound}
    if audience:
        spec["audiences"] = [audience]
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    account = pod["spec"].get("serviceAccountName") or "default"
    answer = await client.create(SERVICEACCOUNTS, request, metadata["namespace"], name=account, subresource="token")
    now = time.time()
    expires = datetime.fromisoformat(answer["status"]["expirationTimestamp"].replace("Z", "+00:00")).astimezone(UTC)
    # Spread, so that the pods that were started together do not renew together for ever.
    renew_at = now + max(10.0, (expires.timestamp() - now) * random.uniform(0.75, 0.85))
    return answer["status"]["token"], renew_at


class Credentials:
    """The token, CA and kubeconfig files of one pod, owned by the user that its processes run as."""

    def __init__(self, client: AsyncClient, pod: Obj, directory: Path, api_server: str, ca_pem: bytes) -> None:
        self._client = client
        self._namespace: str = pod["metadata"]["namespace"]
        self._pod = pod
        self._directory = directory
        self._api_server = api_server
        self._ca_pem = ca_pem
        self._owner: tuple[int, int] | None = None
        self.renew_at = 0.0
        """When the token is to be renewed, seconds since the epoch; 0 before there is one."""

    @property
    def kubeconfig(self) -> Path:
        """The value of KUBECONFIG."""
        return self._directory / "kubeconfig"

    async def write(self, owner: tuple[int, int] | None) -> None:
        """Get a token and write all files for `owner` (uid, gid). StatusError or ConnectionFailed without a token."""
        self._owner = owner
        await self.renew()
        self._replace("ca.crt", self._ca_pem)
        self._replace("namespace", self._namespace.encode())
        self._replace("kubeconfig", json.dumps(self._kubeconfig_document(), indent=1).encode())

    async def renew(self) -> None:
        """Replace the token by a new one."""
        token, renew_at = await request_token(self._client, self._pod, TOKEN_SECONDS)
        self._replace("token", token.encode())
        self.renew_at = renew_at

    def _kubeconfig_document(self) -> Obj:
        files = self._directory
        cluster = {"server": self._api_server, "certificate-authority": str(files / "ca.crt")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "solo", "cluster": cluster}],
            "users": [{"name": "pod", "user": {"tokenFile": str(files / "token")}}],
            "contexts": [{"name": "pod", "context": {"cluster": "solo", "user": "pod", "namespace": self._namespace}}],
            "current-context": "pod",
        }

    def _replace(self, name: str, data: bytes) -> None:
        temporary = self._directory / f".{name}"
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(data)
            if self._owner is not None and os.geteuid() == 0:
                os.fchown(file.fileno(), *self._owner)
        os.replace(temporary, self._directory / name)
