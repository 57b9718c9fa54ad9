"""From a container's spec to the process to be: environment, command line, directory, identity."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kube.machinery.resources import SERVICEACCOUNTS, SERVICES
from solo.node import addresses, environment, podspec, servicelinks, volumespec
from solo.node.addresses import Addresses
from solo.node.context import NodeContext
from solo.node.credentials import Credentials
from solo.node.environment import ConfigError
from solo.node.host import Host, allocatable, has_selinux
from solo.node.launch import Launch
from solo.node.mounts import Mount
from solo.node.podspec import Refusal
from solo.node.procfs import MARKER
from solo.node.records import PodRecord
from solo.node.volumes import Volumes

Obj = dict[str, Any]


class Planner:
    """Says what one pod cannot have, makes its launch plans and keeps its credentials."""

    def __init__(self, context: NodeContext, pod: Obj, directory: Path, record: PodRecord) -> None:
        self._context = context
        self._record = record
        self._directory = directory
        self.pod = pod
        self._plans: dict[str, Launch] = {}
        self._prepared = False
        self._credentials: Credentials | None = None
        self._volumes = Volumes(context, directory)

    @property
    def addresses(self) -> Addresses:
        """Where the node is reached, and the pod."""
        return addresses.of(self.pod, self._record.address)

    def refusals(self) -> list[Refusal]:
        """Everything in the pod that cannot be honoured here; empty when it can run."""
        found = podspec.refusals(self.pod, agent_uid=self._context.uid, selinux=has_selinux())
        found += volumespec.refusals(self.pod, can_mount=self._context.is_administrator)
        if self._record.address is None:
            found += addresses.refusals(self.pod, self._context.pod_network)
        return found

    @property
    def renew_at(self) -> float:
        """When `renew` is due, seconds since the epoch; infinity when there is nothing to renew."""
        token = self._credentials.renew_at if self._credentials is not None else math.inf
        return min(token, self._volumes.refresh_at)

    async def renew(self) -> None:
        """Renew the token, and what has changed in the volumes, if due. MountError, StatusError or OSError."""
        now = time.time()
        if self._credentials is not None and self._credentials.renew_at <= now:
            await self._credentials.renew()
        if self._volumes.refresh_at <= now:
            await self._volumes.write(self._mounted_pod(), self.addresses)

    def _mounted_pod(self) -> Obj:
        """The pod with all mounts that it is to have."""
        has_token = self._credentials is not None and self._context.is_administrator
        return volumespec.with_token(self.pod) if has_token else self.pod

    async def prepare(self) -> None:
        """Make the pod's directory, credentials and volumes, once. ConfigError, StatusError or OSError as it fails."""
        if self._prepared:
            return
        if self._record.address is None:
            self._record.address = addresses.settle(self.pod, self._context.pod_network)
        self._directory.mkdir(mode=0o711, exist_ok=True)
        self._directory.chmod(0o711)  # Its processes may be of another user: they pass through, but do not list.
        pod, namespace = self.pod, self.pod["metadata"]["namespace"]
        account = None
        if pod["spec"].get("automountServiceAccountToken") is None:
            name = pod["spec"].get("serviceAccountName") or "default"
            account = await self._context.read(SERVICEACCOUNTS, namespace, name)
            if account is None:
                raise ConfigError(f'serviceaccount "{name}" not found')
        if self._credentials is None and podspec.wants_token(pod, account):
            context = self._context
            made = Credentials(context.client, pod, self._directory, context.api_server, context.ca_pem)
            owner = self._owner()
            if owner is not None:
                _check_reachable(self._directory, *owner)
            await made.write(owner)
            self._credentials = made
        await self._volumes.look_at_host(pod)
        await self._volumes.write(self._mounted_pod(), self.addresses)
        self._prepared = True

    def _owner(self) -> tuple[int, int] | None:
        owners = set()
        for container in podspec.all_containers(self.pod):
            who = podspec.identity(self.pod, container, agent_uid=self._context.uid)
            owners.add(None if who.uid is None else (who.uid, who.gid))
        if len({owner and owner[0] for owner in owners}) > 1:
            raise ConfigError(
                "containers that run as different users cannot share the service account's token: "
                "give them one runAsUser or set automountServiceAccountToken: false"
            )
        return next(iter(owners))

    async def plan(self, container: Obj) -> Launch:
        """The container's process. Raises ConfigError when something it names is missing, StatusError."""
        context = self._context
        who = podspec.identity(self.pod, container, agent_uid=context.uid)
        env = environment.base_environment(context.uid if who.uid is None else who.uid)
        services = await self._services()
        env.update(services)
        if self._credentials is not None:
            env["KUBECONFIG"] = str(self._credentials.kubeconfig)
        host = Host(self.addresses, allocatable())
        env.update(await environment.resolve(self.pod, container, host, context.read, services))
        argv = environment.command_line(container, env)
        env[MARKER] = str(self._directory / container["name"])
        if any("\0" in text for text in (*argv, *env.values(), *env)):
            raise ConfigError("command, args and env must not contain NUL characters")
        plan = Launch(
            argv=argv,
            env=env,
            cwd=container.get("workingDir") or str(self._directory),
            uid=who.uid,
            gid=who.gid,
            groups=who.groups,
            ambient=who.ambient,
            drop=who.drop,
            no_new_privileges=who.no_new_privileges,
            oom_score_adj=podspec.oom_score_adj(self.pod, container, context.memory),
            hostname=self.pod["spec"].get("hostname") or "",
            mounts=self._mounts(container["name"], env),
        )
        self._plans[container["name"]] = plan
        return plan

    async def _services(self) -> dict[str, str]:
        """The variables that say where the API and the namespace's Services are."""
        found: dict[str, str] = {}
        if self.pod["spec"].get("enableServiceLinks", True):
            listed = await self._context.client.list(SERVICES, self.pod["metadata"]["namespace"])
            found = servicelinks.variables(listed["items"])
        server = urlsplit(self._context.api_server)
        here = {"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port or 443)}
        return {**found, **here}

    def _mounts(self, name: str, env: dict[str, str]) -> tuple[Mount, ...]:
        pod = self._mounted_pod()
        return self._volumes.mounts(
            pod, next(each for each in podspec.all_containers(pod) if each["name"] == name), env
        )

    async def exec_plan(self, container: Obj, command: list[str]) -> Launch:
        """A process beside the container: same environment, directory and identity."""
        plan = self._plans.get(container["name"]) or await self.plan(container)
        return replace(plan, argv=command)

    async def remove_directory(self) -> None:
        """Remove everything that the pod has on disk."""
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)


def _check_reachable(directory: Path, uid: int, gid: int) -> None:
    """Raises ConfigError when a process of `uid` cannot pass through to `directory`."""
    if uid == 0:
        return
    for ancestor in (directory, *directory.parents):
        stat = ancestor.stat()
        bit = 0o100 if stat.st_uid == uid else 0o010 if stat.st_gid == gid else 0o001
        if not stat.st_mode & bit:
            raise ConfigError(
                f"user {uid} cannot read the service account's token: it has no search permission on {ancestor}; "
                "grant it, or set automountServiceAccountToken: false"
            )
