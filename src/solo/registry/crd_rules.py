"""What makes a CustomResourceDefinition valid (apiextensions `pkg/apis/apiextensions/validation`), its versions
aside.
"""

from __future__ import annotations

import contextlib
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.gourl import UrlError, parse_url
from solo.registry.conversion import REVIEW_VERSIONS
from solo.registry.crd_version_rules import invalid, validate_common, validate_versions
from solo.registry.objects import dig, quote, quote_json
from solo.registry.rules.clientconfig import validate_client_config

Obj = dict[str, Any]

APPROVAL = "api-approved.kubernetes.io"
_APPROVAL_HELP = "see https://github.com/kubernetes/enhancements/pull/1111"


def validate_definition(obj: Obj, old: Obj | None) -> list[Cause]:
    """All that is wrong with a definition; `old` is given on update."""
    spec = obj["spec"]
    causes = _validate_name(obj, spec) + _validate_spec(spec, _known_schemas(old))
    if old is not None:
        causes += _validate_immutable(spec, old)
    return causes + _validate_stored_versions(obj) + _validate_approval(obj, old) + _validate_preserve(spec, old)


def approval(obj: Obj) -> tuple[str, str, str] | None:
    """Status, reason and message of the condition KubernetesAPIApprovalPolicyConformant.

    None for a group that is not Kubernetes' own.
    """
    group = dig(obj, "spec", "group") or ""
    if not any(group == name or group.endswith(f".{name}") for name in ("k8s.io", "kubernetes.io")):
        return None
    given = (dig(obj, "metadata", "annotations") or {}).get(APPROVAL) or ""
    if not given:
        text = f'protected groups must have approval annotation "{APPROVAL}", {_APPROVAL_HELP}'
        return "False", "MissingAnnotation", text
    if given.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f"not approved: {quote(given)}"
    with contextlib.suppress(UrlError):
        parts = parse_url(given)
        if parts.scheme and parts.host:
            return "True", "ApprovedAnnotation", f"approved in {given}"
    text = (
        f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason starting with '
        f'"unapproved", {_APPROVAL_HELP}'
    )
    return "False", "InvalidAnnotation", text


def _validate_approval(obj: Obj, old: Obj | None) -> list[Cause]:
    found = approval(obj)
    if found is None or found[1] in ("ApprovedAnnotation", "UnapprovedAnnotation"):
        return []
    if old is not None and (before := approval(old)) is not None and before[1] == found[1]:
        return []
    field = f"metadata.annotations[{APPROVAL}]"
    if found[1] == "MissingAnnotation":
        return [cause("FieldValueRequired", field, found[2])]
    return [cause("FieldValueInvalid", field, found[2], quote(dig(obj, "metadata", "annotations")[APPROVAL]))]


def _validate_preserve(spec: Obj, old: Obj | None) -> list[Cause]:
    if spec.get("preserveUnknownFields") is not True:
        return []
    if old is not None and dig(old, "spec", "preserveUnknownFields") is True:
        return []
    detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return [cause("FieldValueInvalid", "spec.preserveUnknownFields", detail, "true")]


def _validate_immutable(spec: Obj, old: Obj) -> list[Cause]:
    conditions = dig(old, "status", "conditions") or []
    established = any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions)
    paths = [("scope",), ("names", "kind")] if established else []
    causes = []
    for path in (*paths, ("group",), ("names", "plural")):
        value = dig(spec, *path)
        if value != dig(old, "spec", *path):
            field = ".".join(("spec", *path))
            causes.append(cause("FieldValueInvalid", field, "field is immutable", quote(str(value or ""))))
    return causes


def _validate_name(obj: Obj, spec: Obj) -> list[Cause]:
    wanted = f"{dig(spec, 'names', 'plural') or ''}.{spec.get('group') or ''}"
    given = [(key, dig(obj, "metadata", key) or "") for key in ("generateName", "name")]
    return [
        cause("FieldValueInvalid", f"metadata.{key}", 'must be spec.names.plural+"."+spec.group', quote(name))
        for key, name in given
        if name and name != wanted
    ]


def _validate_stored_versions(obj: Obj) -> list[Cause]:
    """A version in which objects may still be stored must stay in the definition."""
    listed = dig(obj, "spec", "versions") or []
    versions = {item.get("name") for item in listed}
    stored, field = dig(obj, "status", "storedVersions") or [], "status.storedVersions"
    if not stored:
        return [cause("FieldValueInvalid", field, "must have at least one stored version", "null")]
    missing = [
        item["name"]
        for index, item in enumerate(listed)
        if item.get("storage") and _is_missing(item, listed[:index], stored)
    ]
    causes = [invalid(field, f"must have the storage version {name}", stored) for name in missing]
    for index, version in enumerate(stored):
        if version not in versions:
            detail = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {version} and removes "
                f"{version} from status.storedVersions"
            )
            causes.append(cause("FieldValueInvalid", f"status.storedVersions[{index}]", detail, quote(version)))
    return causes


def _is_missing(version: Obj, before: list[Obj], stored: list[str]) -> bool:
    """Whether a version of a list is not among those in store, each of which counts for one of the list."""
    return version["name"] not in stored or any(item.get("name") == version["name"] for item in before)


def _validate_spec(spec: Obj, known: list[Any]) -> list[Cause]:
    group = spec.get("group") or ""
    causes = []
    if not group:
        causes.append(cause("FieldValueRequired", "spec.group"))
    elif problems := names.dns1123_subdomain(group):
        causes.append(invalid("spec.group", ",".join(problems), group))
    elif "." not in group:
        causes.append(invalid("spec.group", "should be a domain with at least one dot", group))
    causes += _choice("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    causes += validate_versions(spec, known)
    causes += validate_names(spec.get("names") or {}, "spec.names", required=("plural", "singular", "kind", "listKind"))
    return causes + validate_common(spec, known) + _validate_conversion(spec)


def _choice(field: str, value: Any, allowed: tuple[str, ...]) -> list[Cause]:
    if not value:
        return [cause("FieldValueRequired", field)]
    if value in allowed:
        return []
    detail = f"supported values: {', '.join(map(quote, allowed))}"
    return [cause("FieldValueNotSupported", field, detail, quote_json(value))]


def validate_names(kinds: Obj, field: str, required: tuple[str, ...] = ()) -> list[Cause]:
    """The names of a definition, or those that its status has accepted."""
    causes = [cause("FieldValueRequired", f"{field}.{key}") for key in required if not kinds.get(key)]
    for key in ("plural", "singular"):
        problems = names.dns1035_label(kinds[key]) if kinds.get(key) else []
        if problems:
            causes.append(invalid(f"{field}.{key}", ",".join(problems), kinds[key]))
    for key in ("kind", "listKind"):
        problems = names.dns1035_label(kinds[key].lower()) if kinds.get(key) else []
        if problems:
            detail = f"may have mixed case, but should otherwise match: {','.join(problems)}"
            causes.append(invalid(f"{field}.{key}", detail, kinds[key]))
    causes += _validate_listed(kinds, "shortNames", field)
    if kinds.get("kind") and kinds.get("kind") == kinds.get("listKind"):
        causes.append(invalid(f"{field}.listKind", "kind and listKind may not be the same", kinds["listKind"]))
    return causes + _validate_listed(kinds, "categories", field)


def _validate_listed(kinds: Obj, key: str, field: str) -> list[Cause]:
    return [
        invalid(f"{field}.{key}[{index}]", ",".join(problems), value)
        for index, value in enumerate(kinds.get(key) or [])
        if (problems := names.dns1035_label(value))
    ]


def _known_schemas(old: Obj | None) -> list[Any]:
    return [dig(item, "schema", "openAPIV3Schema") for item in dig(old, "spec", "versions") or []] if old else []


# ---- conversion


def _validate_conversion(spec: Obj) -> list[Cause]:
    conversion = spec.get("conversion") or {}
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook")
    causes = _choice("spec.conversion.strategy", strategy, ("None", "Webhook"))
    config, versions = dig(webhook, "clientConfig"), dig(webhook, "conversionReviewVersions") or []
    place, listed = "spec.conversion.webhookClientConfig", "spec.conversion.conversionReviewVersions"
    if strategy != "Webhook":
        detail = "should not be set when strategy is not set to Webhook"
        causes += [cause("FieldValueForbidden", place, detail)] if config is not None else []
        return causes + ([cause("FieldValueForbidden", listed, detail)] if versions else [])
    if spec.get("preserveUnknownFields"):
        detail = "must be None if spec.preserveUnknownFields is true"
        causes.append(invalid("spec.conversion.strategy", detail, strategy))
    if config is None:
        causes.append(cause("FieldValueRequired", place, "required when strategy is set to Webhook"))
    else:
        causes += validate_client_config(config, place)
    if not versions:
        return [*causes, cause("FieldValueRequired", listed)]
    for index, version in enumerate(versions):
        if version in versions[:index]:
            causes.append(invalid(f"{listed}[{index}]", "duplicate version", version))
        if problems := names.dns1035_label(version):
            causes.append(invalid(f"{listed}[{index}]", ",".join(problems), version))
    if not set(versions) & set(REVIEW_VERSIONS):
        causes.append(invalid(listed, f"must include at least one of {', '.join(REVIEW_VERSIONS)}", versions))
    return causes
