"""What makes a CustomResourceDefinition valid (apiextensions `pkg/apis/apiextensions/validation`), its schemas aside,
which `kube.machinery.schema` checks.
"""

from __future__ import annotations

import contextlib
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.gourl import UrlError, parse_url
from solo.registry.conversion import REVIEW_VERSIONS
from solo.registry.objects import dig, quote, quote_json
from solo.registry.rules.clientconfig import validate_client_config

Obj = dict[str, Any]

APPROVAL = "api-approved.kubernetes.io"
_APPROVAL_HELP = "see https://github.com/kubernetes/enhancements/pull/1111"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MAX_SELECTABLE_FIELDS = 8
# With a status subresource the status is validated alone, so the root may say nothing about the whole.
_ROOT_FIELDS = (
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
    "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
    "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
)  # fmt: skip
_ROOT_KEYS = {name[0].lower() + name[1:] for name in _ROOT_FIELDS} | {
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


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
    causes = [_invalid(field, f"must have the storage version {name}", stored) for name in missing]
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
        causes.append(_invalid("spec.group", ",".join(problems), group))
    elif "." not in group:
        causes.append(_invalid("spec.group", "should be a domain with at least one dot", group))
    causes += _choice("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    causes += _validate_versions(spec, known)
    causes += validate_names(spec.get("names") or {}, "spec.names", required=("plural", "singular", "kind", "listKind"))
    return causes + _validate_common(spec, known) + _validate_conversion(spec)


def _invalid(field: str, detail: str, value: Any) -> Cause:
    return cause("FieldValueInvalid", field, detail, quote_json(value))


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
            causes.append(_invalid(f"{field}.{key}", ",".join(problems), kinds[key]))
    for key in ("kind", "listKind"):
        problems = names.dns1035_label(kinds[key].lower()) if kinds.get(key) else []
        if problems:
            detail = f"may have mixed case, but should otherwise match: {','.join(problems)}"
            causes.append(_invalid(f"{field}.{key}", detail, kinds[key]))
    causes += _validate_listed(kinds, "shortNames", field)
    if kinds.get("kind") and kinds.get("kind") == kinds.get("listKind"):
        causes.append(_invalid(f"{field}.listKind", "kind and listKind may not be the same", kinds["listKind"]))
    return causes + _validate_listed(kinds, "categories", field)


def _validate_listed(kinds: Obj, key: str, field: str) -> list[Cause]:
    return [
        _invalid(f"{field}.{key}[{index}]", ",".join(problems), value)
        for index, value in enumerate(kinds.get(key) or [])
        if (problems := names.dns1035_label(value))
    ]


# ---- versions


def _shared(versions: list[Obj], key: str) -> bool:
    """Whether all versions say the same: such a part is reported under the name that v1beta1 gave it, without a
    version, as kube-apiserver does."""
    return all(version.get(key) == versions[0].get(key) for version in versions)


def _validate_versions(spec: Obj, known: list[Any]) -> list[Cause]:
    """What is wrong with the versions one by one, then with the list, then with what they have in common."""
    versions: list[Obj] = spec.get("versions") or []
    causes = []
    for index, version in enumerate(versions):
        if dig(version, "schema", "openAPIV3Schema") is None:
            causes.append(cause("FieldValueRequired", f"spec.versions[{index}].schema.openAPIV3Schema"))
    for index, version in enumerate(versions):
        field, name = f"spec.versions[{index}]", version.get("name") or ""
        if problems := names.dns1035_label(name):
            causes.append(_invalid(f"{field}.name", ",".join(problems), name))
        causes += _validate_deprecation(version, field)
        for key, _, check in _PARTS:
            if not _shared(versions, key):
                causes += check(version, f"{field}.{key}", known)
    return causes + _validate_list(versions)


def _validate_list(versions: list[Obj]) -> list[Cause]:
    found = [version.get("name") or "" for version in versions]
    causes = []
    if len(set(found)) < len(found):
        causes.append(_invalid("spec.versions", "must contain unique version names", found))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(_invalid("spec.versions", "must have exactly one version marked as storage version", found))
    if found and found[0] and (problems := names.dns1035_label(found[0])):
        causes.append(_invalid("spec.version", ",".join(problems), found[0]))
    return causes


def _validate_common(spec: Obj, known: list[Any]) -> list[Cause]:
    versions: list[Obj] = spec.get("versions") or []
    shared = [(key, common, check) for key, common, check in _PARTS if versions and _shared(versions, key)]
    return [problem for _, common, check in shared for problem in check(versions[0], f"spec.{common}", known)]


def _validate_deprecation(version: Obj, field: str) -> list[Cause]:
    warning = version.get("deprecationWarning")
    if warning is None:
        return []
    if not version.get("deprecated"):
        return [_invalid(f"{field}.deprecationWarning", "can only be set for deprecated versions", warning)]
    problems = []
    if len(warning.encode()) > 256:
        problems.append("must be <= 256 characters long")
    if not warning:
        problems.append("must not be an empty string")
    place = next((index for index, char in enumerate(warning) if not char.isprintable()), None)
    if place is not None:
        problems.append(f"must only contain printable UTF-8 characters; non-printable character found at index {place}")
    return [_invalid(f"{field}.deprecationWarning", text, warning) for text in problems]


def _known_schemas(old: Obj | None) -> list[Any]:
    return [dig(item, "schema", "openAPIV3Schema") for item in dig(old, "spec", "versions") or []] if old else []


def _validate_schema(version: Obj, field: str, known: list[Any]) -> list[Cause]:
    from kube.machinery.schema import check_schema

    schema = dig(version, "schema", "openAPIV3Schema")
    if schema is None or schema in known:
        return []  # accepted once, accepted again: rules for new schemas must not lock up what is there
    place = f"{field}.openAPIV3Schema"
    causes = []
    if "status" in (version.get("subresources") or {}):
        if schema.get("type") not in (None, "object"):
            detail = (
                'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            )
            causes.append(_invalid(f"{place}.type", detail, schema["type"]))
        elif schema.keys() - _ROOT_KEYS:
            allowed = " ".join(_ROOT_FIELDS)
            detail = (
                f"only [{allowed}] fields are allowed at the root of the schema if the status subresource is enabled"
            )
            causes.append(_invalid(place, detail, schema))
    if schema.get("nullable"):
        causes.append(cause("FieldValueForbidden", f"{place}.nullable", "nullable cannot be true at the root"))
    return causes + check_schema(schema, place)


def _simple_path(path: str, field: str) -> list[Cause]:
    if not path.startswith("."):
        return [_invalid(field, "must be a simple json path starting with .", path)]
    return []


def _validate_subresources(version: Obj, field: str, _: list[Any]) -> list[Cause]:
    scale = dig(version, "subresources", "scale")
    if scale is None:
        return []
    causes: list[Cause] = []
    for key, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        place, path = f"{field}.scale.{key}", scale.get(key) or ""
        if not path:
            causes.append(cause("FieldValueRequired", place))
        elif problems := _simple_path(path, place):
            causes += problems
        elif not path.startswith(root):
            causes.append(_invalid(place, f"should be a json path under {root.rstrip('.')}", path))
    path, place = scale.get("labelSelectorPath") or "", f"{field}.scale.labelSelectorPath"
    if path and (problems := _simple_path(path, place)):
        causes += problems
    elif path and not path.startswith((".spec.", ".status.")):
        causes.append(_invalid(place, "should be a json path under either .spec or .status", path))
    return causes


def _validate_columns(version: Obj, field: str, _: list[Any]) -> list[Cause]:
    causes = []
    for index, column in enumerate(version.get("additionalPrinterColumns") or []):
        place = f"{field}[{index}]"
        if not column.get("name"):
            causes.append(cause("FieldValueRequired", f"{place}.name"))
        kind, form, path = (column.get(key) or "" for key in ("type", "format", "jsonPath"))
        detail = f"must be one of {','.join(_COLUMN_TYPES)}"
        if not kind:
            causes.append(cause("FieldValueRequired", f"{place}.type", detail))
        elif kind not in _COLUMN_TYPES:
            causes.append(_invalid(f"{place}.type", detail, kind))
        if form and form not in _COLUMN_FORMATS:
            causes.append(_invalid(f"{place}.format", f"must be one of {','.join(_COLUMN_FORMATS)}", form))
        if not path:
            causes.append(cause("FieldValueRequired", f"{place}.JSONPath"))
            continue
        causes += _simple_path(path, f"{place}.JSONPath")
    return causes


def _validate_selectable(version: Obj, field: str, _: list[Any]) -> list[Cause]:
    from kube.machinery.schema.fieldpath import FieldPathError, schema_at

    causes = []
    seen: set[str] = set()
    schema = dig(version, "schema", "openAPIV3Schema") or {}
    for index, item in enumerate(version.get("selectableFields") or []):
        place, path = f"{field}[{index}].jsonPath", item.get("jsonPath") or ""
        if not path:
            causes.append(cause("FieldValueRequired", place))
            continue
        try:
            found, keys = schema_at(path, schema, brackets=False)
        except FieldPathError as problem:
            causes.append(_invalid(place, f"is an invalid path: {problem}", path))
            continue
        if keys[0] == "metadata":
            causes.append(_invalid(place, "must not point to fields in metadata", path))
        if found.get("type") not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            causes.append(_invalid(place, detail, path))
        if ".".join(keys) in seen:
            causes.append(cause("FieldValueDuplicate", place, value=quote(path)))
        seen.add(".".join(keys))
    if len(seen) > _MAX_SELECTABLE_FIELDS:
        detail = f"must have at most {_MAX_SELECTABLE_FIELDS} items"
        causes.append(cause("FieldValueTooMany", field, detail, str(len(seen))))
    return causes


_PARTS = (
    ("schema", "validation", _validate_schema),
    ("subresources", "subresources", _validate_subresources),
    ("additionalPrinterColumns", "additionalPrinterColumns", _validate_columns),
    ("selectableFields", "selectableFields", _validate_selectable),
)


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
        causes.append(_invalid("spec.conversion.strategy", detail, strategy))
    if config is None:
        causes.append(cause("FieldValueRequired", place, "required when strategy is set to Webhook"))
    else:
        causes += validate_client_config(config, place)
    if not versions:
        return [*causes, cause("FieldValueRequired", listed)]
    for index, version in enumerate(versions):
        if version in versions[:index]:
            causes.append(_invalid(f"{listed}[{index}]", "duplicate version", version))
        if problems := names.dns1035_label(version):
            causes.append(_invalid(f"{listed}[{index}]", ",".join(problems), version))
    if not set(versions) & set(REVIEW_VERSIONS):
        causes.append(_invalid(listed, f"must include at least one of {', '.join(REVIEW_VERSIONS)}", versions))
    return causes
