"""What an import needs beside its arguments: credentials and certificates, as references that its pod resolves.

The Secret is looked into here only to say which key is missing; what is in it goes from the API server to the node
and into the environment of the one process, and never onto a command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kube.client.aio import AsyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS, SECRETS, Resource
from vmruntime.api.meta import Obj, dig
from vmruntime.engines.common import ConfigurationError
from vmruntime.engines.disk import DiskSource
from vmruntime.engines.qemu.importer import (
    CERTIFICATES_PREFIX,
    DOCKER_VARIABLE,
    GOOGLE_VARIABLE,
    PASSWORD_VARIABLE,
    USER_VARIABLE,
)

# By the keys that a Secret has to have: the variables that they go to.
_Keys = Mapping[tuple[str, ...], tuple[str, ...]]
_PASSWORD = (USER_VARIABLE, PASSWORD_VARIABLE)
# As CDI has them, and as Secrets of type kubernetes.io/basic-auth do.
_KEYS: _Keys = {("accessKeyId", "secretKey"): _PASSWORD, ("username", "password"): _PASSWORD}
_GOOGLE_KEYS: _Keys = {("creds-gcp.json",): (GOOGLE_VARIABLE,)}
# Also Secrets for pulling images, of types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg.
_REGISTRY_KEYS: _Keys = {**_KEYS, (".dockerconfigjson",): (DOCKER_VARIABLE,), (".dockercfg",): (DOCKER_VARIABLE,)}
_KEYS_OF_KIND = {"gcs": _GOOGLE_KEYS, "registry": _REGISTRY_KEYS}


async def environment(client: AsyncClient, namespace: str, source: DiskSource) -> list[Obj]:
    """The `env` of an import's container. ConfigurationError where a Secret, a ConfigMap or a key is missing."""
    result: list[Obj] = []
    if source.secret:
        secret = await _get(client, SECRETS, namespace, source.secret)
        alternatives = _KEYS_OF_KIND.get(source.kind, _KEYS)
        keys = _present(source.secret, dig(secret, "data", default={}), alternatives)
        for variable, key in zip(alternatives[keys], keys, strict=True):
            result.append(_variable(variable, "secretKeyRef", source.secret, key))
    if source.certificates:
        found = await _get(client, CONFIGMAPS, namespace, source.certificates)
        names = sorted(dig(found, "data", default={}))
        if not names:
            raise ConfigurationError("CertificatesMissing", f'ConfigMap "{source.certificates}" has no certificates')
        for index, key in enumerate(names):
            variable = f"{CERTIFICATES_PREFIX}{index:03}"
            result.append(_variable(variable, "configMapKeyRef", source.certificates, key))
    return result


def _present(name: str, present: Iterable[str], alternatives: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The first of the alternatives of which a Secret has all keys."""
    present = set(present)
    for keys in alternatives:
        if present.issuperset(keys):
            return keys
    wanted = ", or ".join(" and ".join(keys) for keys in alternatives)
    raise ConfigurationError("SecretKeyMissing", f'Secret "{name}" has to have the keys {wanted}')


def _variable(variable: str, kind: str, name: str, key: str) -> Obj:
    return {"name": variable, "valueFrom": {kind: {"name": name, "key": key}}}


async def _get(client: AsyncClient, resource: Resource, namespace: str, name: str) -> Obj:
    try:
        return await client.get(resource, name, namespace)
    except StatusError as exc:
        if exc.code != 404:
            raise
        message = f'{resource.kind} "{name}" does not exist in namespace {namespace}'
        raise ConfigurationError(f"{resource.kind}Missing", message) from exc
