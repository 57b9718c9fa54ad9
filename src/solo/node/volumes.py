"""The volumes of one pod: directories of the agent's that are mounted into its containers.

They are in `<pod>/.volumes`, which nobody but root can enter; the pod's processes see each at its mountPath. What comes
from API objects is looked at again now and then, and replaced as a whole when it has changed.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from solo.node import hostpath, payload, volumespec
from solo.node.addresses import Addresses
from solo.node.context import NodeContext
from solo.node.credentials import request_token
from solo.node.environment import ConfigError, expand
from solo.node.host import Host, allocatable
from solo.node.hostpath import HostPathError
from solo.node.mounts import Mount
from solo.node.podspec import all_containers

Obj = dict[str, Any]
REFRESH_SECONDS = 30.0
_SCRATCH_MODE = 0o777


class MountError(ConfigError):
    """A volume cannot be made: something that it names is missing."""


class Volumes:
    """The volumes that a pod's containers mount; each call is given the pod and its addresses as they are now."""

    def __init__(self, context: NodeContext, directory: Path) -> None:
        """`directory` is the pod's."""
        self._context = context
        self._directory = directory / ".volumes"
        self._tokens: dict[tuple[str, int], tuple[str, float]] = {}
        self.refresh_at = float("inf")
        """When `write` is due again, seconds since the epoch; infinity while nothing can change."""

    async def look_at_host(self, pod: Obj) -> None:
        """Have the host's paths be what the pod's volumes say. MountError where one is not."""
        try:
            await asyncio.to_thread(hostpath.ensure, pod)
        except HostPathError as error:
            raise MountError(str(error)) from error

    async def write(self, pod: Obj, addresses: Addresses) -> None:
        """Make the volumes what they should be now. MountError, StatusError or OSError when that cannot be done."""
        used = [pair[1] for container in all_containers(pod) for pair in volumespec.mounts_of(pod, container)]
        if not used:
            return
        self._directory.mkdir(mode=0o700, exist_ok=True)
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        for volume in {volume["name"]: volume for volume in used}.values():
            if volumespec.is_payload(volume):
                await self._write_payload(pod, addresses, volume, group)
            elif "emptyDir" in volume:
                self._make_scratch(self._directory / volume["name"], group)

    async def _write_payload(self, pod: Obj, addresses: Addresses, volume: Obj, group: int | None) -> None:
        async def token(audience: str, seconds: int) -> str:
            return await self._token(pod, audience, seconds)

        self.refresh_at = time.time() + REFRESH_SECONDS
        try:
            files = await payload.collect(pod, volume, Host(addresses, allocatable()), self._context.read, token)
        except ConfigError as error:
            raise MountError(f'MountVolume.SetUp failed for volume "{volume["name"]}": {error}') from error
        await asyncio.to_thread(payload.write, self._directory / volume["name"], files, group)

    async def _token(self, pod: Obj, audience: str, seconds: int) -> str:
        text, renew_at = self._tokens.get((audience, seconds), ("", 0.0))
        if renew_at <= time.time():
            text, renew_at = await request_token(self._context.client, pod, seconds, audience)
            self._tokens[audience, seconds] = text, renew_at
        return text

    @staticmethod
    def _make_scratch(directory: Path, group: int | None) -> None:
        if directory.is_dir():
            return
        made = directory.with_name(f".{directory.name}")
        made.mkdir(mode=0o700, exist_ok=True)
        if group is not None:
            os.chown(made, -1, group)
        made.chmod(_SCRATCH_MODE if group is None else _SCRATCH_MODE | 0o2000)
        made.rename(directory)

    def mounts(self, pod: Obj, container: Obj, env: dict[str, str]) -> tuple[Mount, ...]:
        """What is mounted for a container; `env` is what `$(NAME)` in subPathExpr refers to."""
        made = []
        for mount, volume in volumespec.mounts_of(pod, container):
            path = volume["hostPath"]["path"] if "hostPath" in volume else str(self._directory / volume["name"])
            sub_path = expand(mount["subPathExpr"], env) if mount.get("subPathExpr") else mount.get("subPath") or ""
            read_only = bool(mount.get("readOnly")) or volumespec.is_payload(volume)
            made.append(Mount(path, mount["mountPath"], read_only, sub_path))
        return tuple(made)
