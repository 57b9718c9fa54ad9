"""Kubeconfig files: where the API server is, whom to trust and who we are.

Reads what client-go reads (`clientcmd`): one file or the list in $KUBECONFIG, merged so that the first file to set a
value wins; relative paths inside a file are relative to that file. What this client cannot honour (exec and auth
provider plug-ins, proxies, impersonation, passwords) is refused by name: credentials silently ignored would send a
request as somebody else.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"

_REFUSED_USER = ("exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups", "as-user-extra")


class KubeConfigError(Exception):
    """The kubeconfig cannot be used; the one-line message names the file and the remedy."""


@dataclass(frozen=True)
class KubeConfig:
    """One cluster, one identity, one default namespace."""

    server: str
    ca_data: bytes | None = None
    insecure: bool = False
    client_cert_data: bytes | None = field(default=None, repr=False)
    client_key_data: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    namespace: str = "default"
    tls_server_name: str | None = None
    source: str = "the kubeconfig"
    """What error messages call the origin of these values: a path, or `the pod's service account`."""


def load_kubeconfig(path: str | None, context: str | None = None) -> KubeConfig:
    """Read `path`; without one $KUBECONFIG, else ~/.kube/config, else the service account of the pod we run in.

    Raises KubeConfigError, naming the file and the remedy.
    """
    if path:
        return _load_files([path], context)
    listed = [entry for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry]
    if listed:
        # As kubectl does: of several files some may be missing, but not all.
        present = [entry for entry in listed if os.path.exists(entry)]
        return _load_files(present or listed[:1], context)
    home = os.path.join(os.path.expanduser("~"), ".kube", "config")
    if os.path.exists(home):
        return _load_files([home], context)
    if os.environ.get("KUBERNETES_SERVICE_HOST") and os.path.exists(f"{SERVICE_ACCOUNT_DIR}/token"):
        return _in_cluster()
    raise KubeConfigError(f"no kubeconfig: {home} does not exist; name a file with --kubeconfig or in $KUBECONFIG")


def _in_cluster() -> KubeConfig:
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    source = "the pod's service account"
    namespace = _read_file(f"{SERVICE_ACCOUNT_DIR}/namespace", source).decode().strip()
    return KubeConfig(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca_data=_read_file(f"{SERVICE_ACCOUNT_DIR}/ca.crt", source),
        token_file=f"{SERVICE_ACCOUNT_DIR}/token",
        namespace=namespace or "default",
        source=source,
    )


def _load_files(paths: list[str], context: str | None) -> KubeConfig:
    merged = _Merged()
    for path in paths:
        merged.add(path, _parse(path))
    source = paths[0] if len(paths) == 1 else os.pathsep.join(paths)
    name = context or merged.current_context
    if not name:
        known = ", ".join(sorted(merged.contexts)) or "none"
        raise KubeConfigError(
            f"kubeconfig {source} has no current-context (contexts: {known}): "
            "choose one with --context or `kubectl config use-context`"
        )
    chosen = merged.contexts.get(name)
    if chosen is None:
        known = ", ".join(sorted(merged.contexts)) or "none"
        raise KubeConfigError(f"kubeconfig {source} has no context {name!r} (contexts: {known}): choose one of them")
    cluster = merged.pick(merged.clusters, chosen, "cluster", name, source)
    user = (
        merged.pick(merged.users, chosen, "user", name, source) if chosen.values.get("user") else _Entry("", source, {})
    )
    return _build(cluster, user, str(chosen.values.get("namespace") or "default"), source)


@dataclass(frozen=True)
class _Entry:
    """One named cluster, user or context and the file it came from."""

    name: str
    path: str
    values: Mapping[str, Any]

    def fail(self, problem: str) -> KubeConfigError:
        return KubeConfigError(f"kubeconfig {self.path}: {problem}")

    def data(self, key: str) -> bytes | None:
        """The bytes of `KEY-data` (base64), else of the file that `KEY` names."""
        inline = self.values.get(f"{key}-data")
        if inline:
            try:
                return base64.b64decode("".join(str(inline).split()), validate=True)
            except binascii.Error as exc:
                raise self.fail(
                    f"{key}-data of {self.name!r} is not base64 ({exc}); get a new copy of the file"
                ) from exc
        path = self.file(key)
        return _read_file(path, f"{key} of {self.name!r} in kubeconfig {self.path}") if path else None

    def file(self, key: str) -> str | None:
        """The path that `key` holds, made absolute."""
        value = self.values.get(key)
        return os.path.join(os.path.dirname(os.path.abspath(self.path)), str(value)) if value else None


class _Merged:
    """Several kubeconfig files as one: the first to name something wins."""

    def __init__(self) -> None:
        self.clusters: dict[str, _Entry] = {}
        self.users: dict[str, _Entry] = {}
        self.contexts: dict[str, _Entry] = {}
        self.current_context = ""

    def add(self, path: str, document: Mapping[str, Any]) -> None:
        self.current_context = self.current_context or str(document.get("current-context") or "")
        for plural, into in (("clusters", self.clusters), ("users", self.users), ("contexts", self.contexts)):
            entries = document.get(plural) or []
            if not isinstance(entries, list):
                raise KubeConfigError(f"kubeconfig {path}: {plural} is not a list; get a new copy of the file")
            for entry in entries:
                if not isinstance(entry, dict) or not entry.get("name"):
                    raise KubeConfigError(f"kubeconfig {path}: an entry of {plural} has no name; correct the file")
                values = entry.get(plural[:-1])
                name = str(entry["name"])
                into.setdefault(name, _Entry(name, path, values if isinstance(values, dict) else {}))

    @staticmethod
    def pick(entries: Mapping[str, _Entry], context: _Entry, what: str, name: str, source: str) -> _Entry:
        wanted = str(context.values.get(what) or "")
        found = entries.get(wanted)
        if found is None:
            raise KubeConfigError(
                f"kubeconfig {source}: context {name!r} names {what} {wanted!r}, which is missing; correct it"
            )
        return found


def _build(cluster: _Entry, user: _Entry, namespace: str, source: str) -> KubeConfig:
    server = str(cluster.values.get("server") or "")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise cluster.fail(f"server {server!r} of cluster {cluster.name!r} is not an http(s) URL; correct it")
    if cluster.values.get("proxy-url"):
        raise cluster.fail(f"cluster {cluster.name!r} uses proxy-url, which is not supported; use a direct address")
    refused = [key for key in _REFUSED_USER if user.values.get(key)]
    if refused:
        raise user.fail(
            f"user {user.name!r} uses {refused[0]}, which is not supported; use a token or a client certificate"
        )
    cert, key = user.data("client-certificate"), user.data("client-key")
    if (cert is None) != (key is None):
        present, missing = ("client-certificate", "client-key") if key is None else ("client-key", "client-certificate")
        raise user.fail(f"user {user.name!r} has {present} but no {missing}; get a new copy of the file")
    token = user.values.get("token")
    return KubeConfig(
        server=server.rstrip("/"),
        ca_data=cluster.data("certificate-authority"),
        insecure=cluster.values.get("insecure-skip-tls-verify") is True,
        client_cert_data=cert,
        client_key_data=key,
        token=str(token) if token else None,
        token_file=user.file("tokenFile"),
        namespace=namespace,
        tls_server_name=str(cluster.values["tls-server-name"]) if cluster.values.get("tls-server-name") else None,
        source=source,
    )


def _read_file(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise KubeConfigError(f"cannot read {path} ({what}): {exc.strerror or exc}") from exc


def _parse(path: str) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise KubeConfigError(
            f"kubeconfig {path} does not exist: name an existing file with --kubeconfig or in $KUBECONFIG"
        ) from None
    except OSError as exc:
        raise KubeConfigError(f"kubeconfig {path} cannot be read ({exc.strerror}): check its owner and mode") from exc
    # Loaded here because commands that never open a kubeconfig should not pay for it.
    import yaml

    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise KubeConfigError(f"kubeconfig {path} is not YAML{where}: get a new copy of the file") from exc
    if document is None:
        raise KubeConfigError(f"kubeconfig {path} is empty: get a new copy of the file")
    if not isinstance(document, dict):
        raise KubeConfigError(f"kubeconfig {path} is not a kubeconfig: name another file with --kubeconfig")
    return document


def write_kubeconfig(
    path: str,
    *,
    cluster: str,
    user: str,
    server: str,
    ca_pem: bytes,
    cert_pem: bytes | None = None,
    key_pem: bytes | None = None,
    token: str | None = None,
    token_file: str | None = None,
    namespace: str | None = None,
) -> None:
    """Write a kubeconfig with one context, mode 0600, whole or not at all. Raises OSError."""
    identity: dict[str, str] = {}
    if cert_pem is not None:
        identity["client-certificate-data"] = base64.b64encode(cert_pem).decode()
    if key_pem is not None:
        identity["client-key-data"] = base64.b64encode(key_pem).decode()
    if token is not None:
        identity["token"] = token
    if token_file is not None:
        identity["tokenFile"] = token_file
    name = f"{user}@{cluster}"
    authority = {"server": server, "certificate-authority-data": base64.b64encode(ca_pem).decode()}
    context = {"cluster": cluster, "user": user} | ({"namespace": namespace} if namespace else {})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": authority}],
        "users": [{"name": user, "user": identity}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
        "preferences": {},
    }
    # Who only reads one starts without these.
    from pathlib import Path

    from kube.durable import write_private

    write_private(Path(path), _dump(document).encode())


def _dump(document: Mapping[str, Any]) -> str:
    """YAML with all values in quotes: readers differ in which plain words (`n`, `1e3`, `0o7`) are texts to them."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """SafeDumper, but for the values of mappings."""

        def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
            node = super().represent_mapping(tag, mapping, flow_style)
            for _, value in node.value:
                if isinstance(value, yaml.ScalarNode):
                    value.style = '"'
            return node

    return yaml.dump(document, Dumper=Dumper, sort_keys=False, width=float("inf"))
