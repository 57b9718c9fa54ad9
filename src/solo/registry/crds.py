"""CustomResourceDefinitions: what makes one valid, and the kinds that it serves (apiextensions/v1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from kube.machinery import names
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import Cause, cause
from kube.machinery.resources import Resource
from solo.registry.custom import CustomStrategy
from solo.registry.kinds import CUSTOM_VERBS, SCALE, STATUS, Kind, PrinterColumn, Subresource
from solo.registry.objects import child, dig, quote
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_STAGES = {None: 3, "beta": 2, "alpha": 1}


class CrdStrategy(BuiltinStrategy):
    """CRDs. Names are accepted and the definition is established in the very write that makes it, unless another
    definition of its group has accepted one of the names before.

    `neighbours` gives all definitions that there are.
    """

    has_status = True
    tracks_generation = True
    records_deletion = False
    neighbours: Callable[[], Iterable[Obj]] = tuple

    def decode(self, obj: Obj) -> list[str]:
        defaults = _take_null_defaults(obj)
        unknown = super().decode(obj)
        for holder in defaults:
            holder["default"] = None
        return unknown

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        kinds = child(spec, "names")
        if not kinds.get("singular") and kinds.get("kind"):
            kinds["singular"] = kinds["kind"].lower()
        if not kinds.get("listKind") and kinds.get("kind"):
            kinds["listKind"] = kinds["kind"] + "List"
        child(spec, "conversion").setdefault("strategy", "None")

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
        causes = _validate_spec(obj)
        if old is not None:
            for path in (("group",), ("scope",), ("names", "kind"), ("names", "plural")):
                value = dig(obj, "spec", *path)
                if value != dig(old, "spec", *path):
                    field = ".".join(("spec", *path))
                    causes.append(cause("FieldValueInvalid", field, "field is immutable", quote(str(value))))
        return causes


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


def _take_null_defaults(value: Any) -> list[Obj]:
    """The schemas in which `default: null` is written, which must outlive the removal of nulls."""
    found = []
    if isinstance(value, dict):
        if "default" in value and value["default"] is None and "nullable" in value:
            found.append(value)
        for item in value.values():
            found += _take_null_defaults(item)
    elif isinstance(value, list):
        for item in value:
            found += _take_null_defaults(item)
    return found


def _validate_spec(obj: Obj) -> list[Cause]:
    spec = obj["spec"]
    kinds = spec.get("names") or {}
    causes = []
    group, plural = spec.get("group") or "", kinds.get("plural") or ""
    name = dig(obj, "metadata", "name") or ""
    if name != f"{plural}.{group}":
        causes.append(
            cause("FieldValueInvalid", "metadata.name", 'must be spec.names.plural+"."+spec.group', quote(name))
        )
    if not group:
        causes.append(cause("FieldValueRequired", "spec.group"))
    else:
        causes += [cause("FieldValueInvalid", "spec.group", text, quote(group)) for text in _group(group)]
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        printed = quote(spec.get("scope") or "")
        detail = 'supported values: "Cluster", "Namespaced"'
        causes.append(cause("FieldValueNotSupported", "spec.scope", detail, printed))
    causes += _validate_names(kinds)
    return causes + _validate_versions(spec)


def _group(group: str) -> list[str]:
    problems = names.dns1123_subdomain(group)
    if not problems and "." not in group:
        problems = ["should be a domain with at least one dot"]
    return problems


def _validate_names(kinds: Obj) -> list[Cause]:
    causes = []
    for key in ("plural", "singular", "kind", "listKind"):
        value = kinds.get(key) or ""
        if not value:
            causes.append(cause("FieldValueRequired", f"spec.names.{key}"))
            continue
        checked = value if key in ("plural", "singular") else value.lower()
        causes += [
            cause("FieldValueInvalid", f"spec.names.{key}", text, quote(value)) for text in names.dns1035_label(checked)
        ]
    for key in ("shortNames", "categories"):
        for index, value in enumerate(kinds.get(key) or []):
            causes += [
                cause("FieldValueInvalid", f"spec.names.{key}[{index}]", text, quote(value))
                for text in names.dns1035_label(value)
            ]
    if kinds.get("kind") and kinds.get("kind") == kinds.get("listKind"):
        detail = "kind and listKind may not be the same"
        causes.append(cause("FieldValueInvalid", "spec.names.listKind", detail, quote(kinds["listKind"])))
    return causes


def _validate_versions(spec: Obj) -> list[Cause]:
    versions = spec.get("versions") or []
    causes = []
    if not versions:
        causes.append(cause("FieldValueRequired", "spec.versions", "must have at least one version"))
    seen: set[str] = set()
    for index, version in enumerate(versions):
        field = f"spec.versions[{index}]"
        name = version.get("name") or ""
        causes += [cause("FieldValueInvalid", f"{field}.name", text, quote(name)) for text in names.dns1035_label(name)]
        if name in seen:
            causes.append(cause("FieldValueInvalid", f"{field}.name", "must be unique", quote(name)))
        seen.add(name)
        causes += _validate_schema(version, field, only=len(versions) == 1)
        causes += _validate_columns(version, field)
    stored = [version for version in versions if version.get("storage")]
    if versions and len(stored) != 1:
        detail = "must have exactly one version marked as storage version"
        causes.append(cause("FieldValueInvalid", "spec.versions", detail, "[]"))
    conversion = dig(spec, "conversion", "strategy")
    if conversion not in ("None", "Webhook"):
        detail = 'supported values: "None", "Webhook"'
        causes.append(cause("FieldValueNotSupported", "spec.conversion.strategy", detail, quote(str(conversion))))
    elif conversion == "Webhook":
        detail = "webhook conversion is not served here; use None"
        causes.append(cause("FieldValueForbidden", "spec.conversion.strategy", detail))
    return causes


def _validate_schema(version: Obj, field: str, *, only: bool) -> list[Cause]:
    from kube.machinery.schema import check_structural

    schema = dig(version, "schema", "openAPIV3Schema")
    if schema is None:
        detail = "schemas are required"
        return [cause("FieldValueRequired", f"{field}.schema.openAPIV3Schema", detail)]
    # A single version's schema is reported under the name that v1beta1 gave it, as kube-apiserver does.
    prefix = "spec.validation.openAPIV3Schema" if only else f"{field}.schema.openAPIV3Schema"
    return [
        Cause(item.reason, item.message, f"{prefix}{'.' if item.field and item.field[0] != '[' else ''}{item.field}")
        for item in check_structural(schema)
    ]


def _validate_columns(version: Obj, field: str) -> list[Cause]:
    from kube.machinery.jsonpath import compile_jsonpath

    causes = []
    for index, column in enumerate(version.get("additionalPrinterColumns") or []):
        place = f"{field}.additionalPrinterColumns[{index}]"
        if not column.get("name"):
            causes.append(cause("FieldValueRequired", f"{place}.name"))
        if column.get("type") not in ("string", "integer", "number", "boolean", "date"):
            detail = "must be one of boolean,date,integer,number,string"
            causes.append(cause("FieldValueInvalid", f"{place}.type", detail, quote(str(column.get("type") or ""))))
        path = column.get("jsonPath") or ""
        if not path:
            causes.append(cause("FieldValueRequired", f"{place}.JSONPath"))
            continue
        try:
            compile_jsonpath(path)
        except ValueError as problem:
            causes.append(cause("FieldValueInvalid", f"{place}.jsonPath", str(problem), quote(path)))
    return causes


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key of versions, highest first when reversed: GA, beta, alpha, others (CRD "Version priority")."""
    found = _VERSION.fullmatch(version)
    if not found:
        return (0, 0, 0, version)
    return (_STAGES[found[2]], int(found[1]), int(found[3] or 0), "")


def kinds_of(crd: Obj) -> list[Kind]:
    """The kinds that a definition serves, one a version, highest version first; none until it is established."""
    if not established(crd):
        return []
    spec = crd["spec"]
    kinds = spec["names"]
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    served = [version for version in spec["versions"] if version.get("served")]
    served.sort(key=lambda version: version_priority(version["name"]), reverse=True)
    terminating = bool(dig(crd, "metadata", "deletionTimestamp"))
    return [_kind(spec, kinds, version, storage, terminating=terminating) for version in served]


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
        warning = version.get("deprecationWarning") or f"{group}/{name} {kinds['kind']} is deprecated"
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
        verbs=CUSTOM_VERBS,
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
