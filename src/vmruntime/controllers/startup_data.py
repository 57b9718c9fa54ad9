"""A machine's start-up data: cloud-init's own, or scripts made into data for cloud-init; Secrets are read here.

Start-up scripts run at every start. cloud-init writes them and one program that runs them in order into the guest, the
latter to where cloud-init runs everything at every start (`scripts-per-boot`, in its final stage). That works with any
version of cloud-init; MIME parts of a per-boot type need 22.1 or newer.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from kube.client.aio import AsyncClient
from kube.machinery.resources import SECRETS
from vmruntime.api import names
from vmruntime.api.meta import Obj, dig, namespace_of
from vmruntime.controllers.objects import find
from vmruntime.engines.common import ConfigurationError
from vmruntime.engines.machine import Seed

_SCRIPTS = "/var/lib/google/startup-scripts"
_RUNNER = "/var/lib/cloud/scripts/per-boot/vm-runtime-startup-scripts"
# A comment in the user data. The runner stays on the guest's disk: without this mark it has nothing to run any more.
_MARK = f"{names.GROUP}/startup-scripts"


class DataMissing(ConfigurationError):
    """A Secret, or a key in it, isn't there. Old data are kept where there are any."""


@dataclass(frozen=True, slots=True)
class StartupData:
    """What a start gets: data, or those of the last start (`keep`), or none."""

    seed: Seed | None = None
    keep: bool = False


async def read(vm: Obj, client: AsyncClient) -> Seed | None:
    """The data that the spec asks for. Raises DataMissing, ConfigurationError."""
    namespace = namespace_of(vm)
    if scripts := dig(vm, "spec", "startupScripts"):
        found = [(str(entry["name"]), await _script(client, namespace, entry)) for entry in scripts]
        return Seed(user_data=user_data_of_scripts(found))
    no_cloud = dig(vm, "spec", "cloudInit", "noCloud")
    if not no_cloud:
        return None
    return Seed(
        await _data(client, namespace, no_cloud, "userData", "secretRef", "cloudInit.noCloud"),
        await _data(client, namespace, no_cloud, "networkData", "networkDataSecretRef", "cloudInit.noCloud"),
    )


def user_data_of_scripts(scripts: Sequence[tuple[str, bytes]]) -> bytes:
    """User data that put the scripts (name, content) into the guest and have them run at every start."""
    listed = " ".join(name for name, _ in scripts)
    runner = f"""\
#!/bin/sh
# Written by VM Runtime: runs the machine's start-up scripts at every start.
grep -q '{_MARK}' /var/lib/cloud/instance/user-data.txt || exit 0
cd /
failed=0
for name in {listed}; do
  script={_SCRIPTS}/$name
  echo "started to run the command $script"
  "$script" || {{ echo "the command $script failed with code $?"; failed=1; }}
done
exit $failed
"""
    files = [*((f"{_SCRIPTS}/{name}", content) for name, content in scripts), (_RUNNER, runner.encode())]
    lines = ["#cloud-config", f"# {_MARK}", "write_files:"]
    for path, content in files:
        encoded = base64.b64encode(content).decode()
        lines += [f"- path: {path}", '  permissions: "0755"', "  encoding: b64", f"  content: {encoded}"]
    return ("\n".join(lines) + "\n").encode()


async def _script(client: AsyncClient, namespace: str, entry: Obj) -> bytes:
    where = f"startupScripts[{entry['name']}]"
    content = await _data(client, namespace, entry, "script", "scriptSecretRef", where)
    if not content.startswith(b"#!"):
        raise ConfigurationError("InvalidStartupData", f"{where}: a script has to begin with #! and a program")
    return content


async def _data(client: AsyncClient, namespace: str, given: Obj, key: str, secret_key: str, where: str) -> bytes:
    """One piece of data in one of its three forms; `where` it stands is for messages."""
    if text := given.get(key):
        return str(text).encode()
    if encoded := given.get(f"{key}Base64"):
        try:
            # Of lines, as the program `base64` writes it.
            return base64.b64decode("".join(str(encoded).split()), validate=True)
        except ValueError as exc:
            raise ConfigurationError("InvalidStartupData", f"{where}.{key}Base64 is not base64") from exc
    secret_name = dig(given, secret_key, "name")
    if not secret_name:
        return b""
    secret = await find(client, SECRETS, str(secret_name), namespace)
    if secret is None:
        raise DataMissing("SecretMissing", f'Secret "{secret_name}" does not exist in namespace {namespace}')
    for candidate in (key, key.lower()):
        if candidate in dig(secret, "data", default={}):
            return base64.b64decode(secret["data"][candidate])
    raise DataMissing("SecretKeyMissing", f'Secret "{secret_name}" has no key {key}')
