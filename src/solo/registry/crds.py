"""CustomResourceDefinitions: what makes one valid, and the kinds that it serves (apiextensions/v1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import Cause
from kube.machinery.resources import Resource
from solo.registry.crd_form import read_form, unknown_formats
from solo.registry.crd_rules import approval, validate_definition, validate_names
from solo.registry.custom import CustomStrategy, Family
from solo.registry.kinds import CUSTOM_VERBS, SCALE, STATUS, Kind, PrinterColumn, Subresource
from solo.registry.objects import child, dig, quote
from solo.registry.strategy import ALL_METADATA, BuiltinStrategy

Obj = dict[str, Any]

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_NOT_AT_THE_END = ("create", "patch", "update")
_STAGES = {None: 3, "beta": 2, "alpha": 1}


class CrdStrategy(BuiltinStrategy):
    """CRDs. Names are accepted and the definition is established in the very write that makes it, unless another
    definition of its group has accepted one of the names before.

    `neighbours` gives all definitions that there are.
    """

    has_status = True
    tracks_generation = True
    allow_unconditional_update = False
    records_deletion = False
    kept_by_status = ALL_METADATA
    neighbours: Callable[[], Iterable[Obj]] = tuple

    def decode(self, obj: Obj) -> list[str]:
        unknown = super().decode(obj)
        return unknown + read_form(obj)

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        kinds = child(spec, "names")
        if not kinds.get("singular") and kinds.get("kind"):
            kinds["singular"] = kinds["kind"].lower()
        if not kinds.get("listKind") and kinds.get("kind"):
            kinds["listKind"] = kinds["kind"] + "List"
        conversion = spec.setdefault("conversion", {"strategy": "None"})
        service = dig(conversion, "webhook", "clientConfig", "service")
        if isinstance(service, dict):
            service.setdefault("port", 443)

    def prepare_create(self, obj: Obj) -> None:
        finalizers = obj["metadata"].setdefault("finalizers", [])
        if CLEANUP_FINALIZER not in finalizers:
            finalizers.append(CLEANUP_FINALIZER)
        obj["status"] = {"conditions": [], "acceptedNames": {}, "storedVersions": []}
        self._establish(obj)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        if not dig(old, "metadata", "deletionTimestamp"):
            self._establish(obj)

    def _establish(self, obj: Obj) -> None:
        self._decide_names(obj)
        approved = approval(obj)
        if approved is not None:
            set_condition(obj["status"], "KubernetesAPIApprovalPolicyConformant", *approved)

    def _decide_names(self, obj: Obj) -> None:
        spec = obj.get("spec") or {}
        status = obj["status"] = {**(obj.get("status") or {})}
        accepted, refused = self._accept_names(obj, status.get("acceptedNames") or {})
        status["acceptedNames"] = accepted
        storage = next((item.get("name") for item in spec.get("versions") or [] if item.get("storage")), None)
        stored = list(status.get("storedVersions") or [])
        if storage and storage not in stored:
            stored.append(storage)
        status["storedVersions"] = stored
        if refused is not None:
            set_condition(status, "NamesAccepted", "False", *refused)
            if not established(obj):
                set_condition(status, "Established", "False", "NotAccepted", "not all names are accepted")
            return
        set_condition(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found")
        set_condition(status, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted")

    def _accept_names(self, obj: Obj, accepted: Obj) -> tuple[Obj, tuple[str, str] | None]:
        """The names that no other definition of the group has, and reason and message for the last of the others
        (apiextensions `pkg/controller/status/naming_controller.go`)."""
        wanted = dict(dig(obj, "spec", "names") or {})
        resources, kinds = self._taken(dig(obj, "spec", "group"), dig(obj, "metadata", "name"))
        problem: tuple[str, str] | None = None
        for key in ("plural", "singular", "shortNames", "kind", "listKind"):
            taken = kinds if key in ("kind", "listKind") else resources
            names = wanted.get(key) or []
            refused = [name for name in ([names] if isinstance(names, str) else names) if name in taken]
            if refused:
                text = ", ".join(f"{quote(name)} is already in use" for name in refused)
                problem = (f"{key[0].upper()}{key[1:]}Conflict", f"[{text}]" if len(refused) > 1 else text)
                wanted[key] = accepted.get(key) or type(names)()
        return wanted, problem

    def _taken(self, group: Any, name: Any) -> tuple[set[str], set[str]]:
        """The resource names and the kinds that the other definitions of a group have accepted."""
        resources: set[str] = set()
        kinds: set[str] = set()
        for other in self.neighbours():
            if dig(other, "spec", "group") == group and dig(other, "metadata", "name") != name:
                names = dig(other, "status", "acceptedNames") or {}
                resources.update(names.get(key) or "" for key in ("plural", "singular"))
                resources.update(names.get("shortNames") or ())
                kinds.update(names.get(key) or "" for key in ("kind", "listKind"))
        return resources - {""}, kinds - {""}

    def begin_deletion(self, obj: Obj) -> None:
        status = obj["status"] = {**(obj.get("status") or {})}
        message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        set_condition(status, "Terminating", "True", "InstanceDeletionPending", message)

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        return validate_definition(obj, old)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        known = unknown_formats(old) if old is not None else []
        return [f"unrecognized format {quote(name)}" for name in unknown_formats(obj) if name not in known]

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        return validate_names(dig(obj, "status", "acceptedNames") or {}, "status.acceptedNames")


def established(crd: Obj) -> bool:
    """Whether a definition is served."""
    return condition_is_true(crd, "Established")


def condition_is_true(crd: Obj, type_: str) -> bool:
    """Whether a condition of a definition holds."""
    conditions = dig(crd, "status", "conditions") or []
    return any(item.get("type") == type_ and item.get("status") == "True" for item in conditions)


def set_condition(status: Obj, type_: str, value: str, reason: str, message: str) -> None:
    """Set a condition in a new list; the transition time changes only with its status."""
    conditions = [item for item in status.get("conditions") or [] if item.get("type") != type_]
    before = next((item for item in status.get("conditions") or [] if item.get("type") == type_), None)
    since = before["lastTransitionTime"] if before and before.get("status") == value else now_rfc3339()
    conditions.append(
        {"lastTransitionTime": since, "message": message, "reason": reason, "status": value, "type": type_}
    )
    status["conditions"] = conditions


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key of versions, highest first when reversed: GA, beta, alpha, others (CRD "Version priority")."""
    found = _VERSION.fullmatch(version)
    if not found:
        return (0, 0, 0, version)
    return (_STAGES[found[2]], int(found[1]), int(found[3] or 0), "")


@dataclass(frozen=True, slots=True)
class Served:
    """The kinds of a definition: those that are served, highest version first, and that of the storage version, by
    which all objects can be written whether it is served or not.
    """

    kinds: tuple[Kind, ...]
    storage: Kind


def kinds_of(crd: Obj, since: int) -> Served | None:
    """The kinds of a definition, which is as it is since a revision; None until it is established."""
    if not established(crd):
        return None
    spec = crd["spec"]
    kinds = {**spec["names"], **(dig(crd, "status", "acceptedNames") or {})}
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    versions = sorted(spec["versions"], key=lambda version: version_priority(version["name"]), reverse=True)
    terminating = bool(dig(crd, "metadata", "deletionTimestamp"))
    found = {version["name"]: _kind(spec, kinds, version, storage, terminating=terminating) for version in versions}
    webhook = dig(spec, "conversion", "webhook") if dig(spec, "conversion", "strategy") == "Webhook" else None
    strategies = {kind.resource.api_version: kind.strategy for kind in found.values()}
    family = Family(since, webhook, strategies)
    for kind in found.values():
        kind.family = family
    return Served(tuple(found[item["name"]] for item in versions if item.get("served")), found[storage])


def _deprecation(spec: Obj, name: str, kind: str) -> str:
    """The warning for a deprecated version, with the best of those that are better."""
    group, own = spec["group"], version_priority(name)
    others = [item["name"] for item in spec["versions"] if item.get("served") and not item.get("deprecated")]
    best = max((other for other in others if version_priority(other) > own), key=version_priority, default=None)
    return f"{group}/{name} {kind} is deprecated{f'; use {group}/{best} {kind}' if best else ''}"


def _kind(spec: Obj, kinds: Obj, version: Obj, storage: str, *, terminating: bool) -> Kind:
    group, name = spec["group"], version["name"]
    resource = Resource(group, name, kinds["plural"], kinds["kind"], spec["scope"] == "Namespaced")
    given = version.get("subresources") or {}
    subresources: list[Subresource] = []
    if "status" in given:
        subresources.append(STATUS)
    if "scale" in given:
        subresources.append(SCALE)
    schema = dig(version, "schema", "openAPIV3Schema") or {}
    warning = ""
    if version.get("deprecated"):
        warning = version.get("deprecationWarning") or _deprecation(spec, name, kinds["kind"])
    return Kind(
        resource,
        CustomStrategy(
            resource,
            schema,
            has_status="status" in given,
            scale=given.get("scale"),
            selectable=[item["jsonPath"] for item in version.get("selectableFields") or []],
            preserve_unknown=bool(spec.get("preserveUnknownFields")),
        ),
        short_names=tuple(kinds.get("shortNames") or ()),
        categories=tuple(kinds.get("categories") or ()),
        singular=kinds.get("singular") or "",
        list_kind=kinds.get("listKind") or "",
        subresources=tuple(subresources),
        verbs=tuple(verb for verb in CUSTOM_VERBS if not terminating or verb not in _NOT_AT_THE_END),
        storage_version=f"{group}/{storage}",
        custom=True,
        columns=tuple(
            PrinterColumn(
                column["name"],
                column["type"],
                column["jsonPath"],
                column.get("description") or "",
                column.get("format") or "",
                column.get("priority") or 0,
            )
            for column in version.get("additionalPrinterColumns") or []
        ),
        deprecation_warning=warning,
        schema=schema,
        terminating=terminating,
    )
