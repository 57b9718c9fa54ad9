"""What an import needs beside its arguments: credentials and certificates, as references that its pod resolves.

The Secret is looked into here only to say which key is missing; what is in it goes from the API server to the node
and into the environment of the one process, and never onto a command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kube.client.aio import AsyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS, SECRETS, Resource
from vmruntime.api.meta import Obj, dig
from vmruntime.engines.common import ConfigurationError
from vmruntime.engines.disk import DiskSource
from vmruntime.engines.qemu.importer import CERTIFICATES_PREFIX, GOOGLE_VARIABLE, PASSWORD_VARIABLE, USER_VARIABLE

# As CDI has them, and as Secrets of type kubernetes.io/basic-auth do.
_KEYS = (("accessKeyId", "secretKey"), ("username", "password"))
_GOOGLE_KEYS = (("creds-gcp.json",),)


async def environment(client: AsyncClient, namespace: str, source: DiskSource) -> list[Obj]:
    """The `env` of an import's container. ConfigurationError where a Secret, a ConfigMap or a key is missing."""
    result: list[Obj] = []
    if source.secret:
        secret = await _get(client, SECRETS, namespace, source.secret)
        google = source.kind == "gcs"
        keys = _present(source.secret, dig(secret, "data", default={}), _GOOGLE_KEYS if google else _KEYS)
        for variable, key in zip(
            (GOOGLE_VARIABLE,) if google else (USER_VARIABLE, PASSWORD_VARIABLE), keys, strict=True
        ):
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


def _present(name: str, present: Iterable[str], alternatives: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
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
