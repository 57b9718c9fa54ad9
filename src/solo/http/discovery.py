"""Discovery: legacy group lists and the aggregated document (apidiscovery.k8s.io v2), with entity tags."""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

import msgspec
from aiohttp import web

from kube.machinery import errors
from kube.machinery.resources import Resource
from solo.http.negotiation import JSON, choose_output
from solo.http.responses import raw_json, value
from solo.registry.builtins import GROUP_ORDER
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind, Subresource

Obj = dict[str, Any]

GIT_VERSION = "v1.36.0+solo"
_encode = msgspec.json.Encoder().encode

REVIEWS: tuple[Resource, ...] = (
    Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False),
    Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False),
    Resource("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview"),
    Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False),
    Resource("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False),
    Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False),
)
BINDINGS = Resource("", "v1", "bindings", "Binding")
POSTED = (BINDINGS, *REVIEWS)
"""Kinds that only answer a POST and store nothing."""


def version_info() -> Obj:
    """The /version document."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": "1",
        "minor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": "0" * 40,  # git's id of nothing: clients look for hexadecimal digits
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{machine}",
    }


class Discovery:
    """The documents of discovery, made again only when the catalog has changed."""

    def __init__(self, catalog: Catalog, server_address: str) -> None:
        self._catalog = catalog
        self._address = server_address
        self._generation = -1
        self._documents: dict[str, tuple[bytes, str]] = {}

    def _document(self, key: str, build: Callable[[], Obj]) -> tuple[bytes, str]:
        if self._generation != self._catalog.generation:
            self._documents.clear()
            self._generation = self._catalog.generation
        found = self._documents.get(key)
        if found is None:
            body = _encode(build())
            found = self._documents[key] = (body, f'"{hashlib.sha256(body).hexdigest().upper()}"')
        return found

    def answer(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        """The document at `/api`, `/apis` and below. Raises 404 or 406."""
        if len(parts) == 1 and (wanted := _aggregated(request)):
            return self._aggregated(request, parts[0], wanted)
        output = choose_output(request.headers.get("Accept") or "")
        body = self._document("/".join(parts), lambda: self._build(parts))[0]
        return raw_json(body) if output.media_type == JSON else value(msgspec.json.decode(body), output)

    def _build(self, parts: list[str]) -> Obj:
        groups = self._groups()
        if parts == ["api"]:
            address = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": address}
        if parts == ["apis"]:
            listed = [_group(group, versions) for group, versions in groups.items() if group]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        match parts:
            case ["apis", group] if group in groups:
                return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, groups[group])}
            case ["api", version]:
                return _resources("", version, groups[""])
            case ["apis", group, version] if group in groups:
                return _resources(group, version, groups[group])
        raise errors.path_not_found()

    def _groups(self) -> dict[str, dict[str, list[Kind]]]:
        """The catalog's groups with those of reviews, which store nothing, at their places."""
        groups = self._catalog.groups()
        for item in POSTED:
            groups.setdefault(item.group, {}).setdefault(item.version, [])
        known = [group for group in GROUP_ORDER if group in groups]
        return {group: groups[group] for group in dict.fromkeys([*known, *groups])}

    def _aggregated(self, request: web.BaseRequest, root: str, version: str) -> web.Response:
        body, tag = self._document(f"{root};{version}", lambda: self._build_aggregated(root, version))
        content_type = f"{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": content_type})

    def _build_aggregated(self, root: str, version: str) -> Obj:
        items = []
        for group, versions in self._groups().items():
            if bool(group) is not (root == "apis"):
                continue
            listed = []
            for name, kinds in versions.items():
                resources = [_entry(kind) for kind in kinds]
                resources += [_posted_entry(item) for item in POSTED if (item.group, item.version) == (group, name)]
                if not any(kind.custom for kind in kinds):
                    resources.sort(key=itemgetter("resource"))
                listed.append({"version": name, "resources": resources, "freshness": "Current"})
            meta: Obj = {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}
            items.append({"metadata": meta, "versions": listed})
        api_version = f"apidiscovery.k8s.io/{version}"
        return {"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items}


def _aggregated(request: web.BaseRequest) -> str:
    """The version of the aggregated document that the client prefers, "" for none."""
    accept = request.headers.get("Accept") or ""
    for item in accept.split(","):
        params = dict(part.strip().partition("=")[::2] for part in item.split(";")[1:])
        if params.get("as") == "APIGroupDiscoveryList" and params.get("v") in ("v2", "v2beta1"):
            return params["v"]
        if item.strip() == JSON:
            return ""
    return ""


def _group(group: str, versions: Iterable[str]) -> Obj:
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _resources(group: str, version: str, versions: Mapping[str, Iterable[Kind]]) -> Obj:
    """An APIResourceList. Raises 404."""
    if version not in versions:
        raise errors.path_not_found()
    found = [entry for kind in versions[version] for entry in _legacy(kind)]
    found += [_posted(item) for item in POSTED if (item.group, item.version) == (group, version)]
    if not any(kind.custom for kind in versions[version]):
        found.sort(key=itemgetter("name"))
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}


def _legacy(kind: Kind) -> list[Obj]:
    resource = kind.resource
    entry: Obj = {
        "name": resource.plural,
        "singularName": kind.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    entry["storageVersionHash"] = _storage_hash(kind)
    return [entry, *(_legacy_subresource(kind, item) for item in kind.subresources)]


def _storage_hash(kind: Kind) -> str:
    """What tells whether objects are still stored as they were (apiserver `discovery.StorageVersionHash`)."""
    group, _, version = kind.storage_version.rpartition("/")
    digest = hashlib.sha256(f"{group}/{version}/{kind.resource.kind}".encode()).digest()[:8]
    return base64.b64encode(digest).decode()


def _legacy_subresource(kind: Kind, item: Subresource) -> Obj:
    entry: Obj = {
        "name": f"{kind.resource.plural}/{item.name}",
        "singularName": "",
        "namespaced": kind.resource.namespaced,
        "kind": item.kind or kind.resource.kind,
        "verbs": list(item.verbs),
    }
    if item.group:
        entry["group"], entry["version"] = item.group, item.version
    return entry


def _posted(item: Resource) -> Obj:
    return {
        "name": item.plural,
        "singularName": item.kind.lower(),
        "namespaced": item.namespaced,
        "kind": item.kind,
        "verbs": ["create"],
    }


def _entry(kind: Kind) -> Obj:
    resource = kind.resource
    entry: Obj = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = [
            {
                "subresource": item.name,
                "responseKind": {
                    "group": item.group if item.kind else resource.group,
                    "version": item.version or resource.version,
                    "kind": item.kind or resource.kind,
                },
                "verbs": list(item.verbs),
            }
            for item in kind.subresources
        ]
    return entry


def _posted_entry(item: Resource) -> Obj:
    return {
        "resource": item.plural,
        "responseKind": {"group": item.group, "version": item.version, "kind": item.kind},
        "scope": "Namespaced" if item.namespaced else "Cluster",
        "singularResource": item.kind.lower(),
        "verbs": ["create"],
    }
