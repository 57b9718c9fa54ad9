"""What makes the versions of a CustomResourceDefinition valid (apiextensions `pkg/apis/apiextensions/validation`)."""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig, quote, quote_json

Obj = dict[str, Any]

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


def invalid(field: str, detail: str, value: Any) -> Cause:
    """A value that is there and will not do."""
    return cause("FieldValueInvalid", field, detail, quote_json(value))


def _shared(versions: list[Obj], key: str) -> bool:
    """Whether all versions say the same: such a part is reported under the name that v1beta1 gave it, without a
    version, as kube-apiserver does."""
    return all(version.get(key) == versions[0].get(key) for version in versions)


def validate_versions(spec: Obj, known: list[Any]) -> list[Cause]:
    """What is wrong with the versions one by one, then with their list.

    `known` are the schemas that were accepted before.
    """
    versions: list[Obj] = spec.get("versions") or []
    causes = []
    for index, version in enumerate(versions):
        if dig(version, "schema", "openAPIV3Schema") is None:
            causes.append(cause("FieldValueRequired", f"spec.versions[{index}].schema.openAPIV3Schema"))
    for index, version in enumerate(versions):
        field, name = f"spec.versions[{index}]", version.get("name") or ""
        if problems := names.dns1035_label(name):
            causes.append(invalid(f"{field}.name", ",".join(problems), name))
        causes += _validate_deprecation(version, field)
        for key, _, check in _PARTS:
            if not _shared(versions, key):
                causes += check(version, f"{field}.{key}", known)
    return causes + _validate_list(versions)


def _validate_list(versions: list[Obj]) -> list[Cause]:
    found = [version.get("name") or "" for version in versions]
    causes = []
    if len(set(found)) < len(found):
        causes.append(invalid("spec.versions", "must contain unique version names", found))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(invalid("spec.versions", "must have exactly one version marked as storage version", found))
    if found and found[0] and (problems := names.dns1035_label(found[0])):
        causes.append(invalid("spec.version", ",".join(problems), found[0]))
    return causes


def validate_common(spec: Obj, known: list[Any]) -> list[Cause]:
    """What is wrong with what all versions have in common."""
    versions: list[Obj] = spec.get("versions") or []
    shared = [(key, common, check) for key, common, check in _PARTS if versions and _shared(versions, key)]
    return [problem for _, common, check in shared for problem in check(versions[0], f"spec.{common}", known)]


def _validate_deprecation(version: Obj, field: str) -> list[Cause]:
    warning = version.get("deprecationWarning")
    if warning is None:
        return []
    if not version.get("deprecated"):
        return [invalid(f"{field}.deprecationWarning", "can only be set for deprecated versions", warning)]
    problems = []
    if len(warning.encode()) > 256:
        problems.append("must be <= 256 characters long")
    if not warning:
        problems.append("must not be an empty string")
    place = next((index for index, char in enumerate(warning) if not char.isprintable()), None)
    if place is not None:
        problems.append(f"must only contain printable UTF-8 characters; non-printable character found at index {place}")
    return [invalid(f"{field}.deprecationWarning", text, warning) for text in problems]


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
            causes.append(invalid(f"{place}.type", detail, schema["type"]))
        elif schema.keys() - _ROOT_KEYS:
            allowed = " ".join(_ROOT_FIELDS)
            detail = (
                f"only [{allowed}] fields are allowed at the root of the schema if the status subresource is enabled"
            )
            causes.append(invalid(place, detail, schema))
    if schema.get("nullable"):
        causes.append(cause("FieldValueForbidden", f"{place}.nullable", "nullable cannot be true at the root"))
    return causes + check_schema(schema, place)


def _simple_path(path: str, field: str) -> list[Cause]:
    if not path.startswith("."):
        return [invalid(field, "must be a simple json path starting with .", path)]
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
            causes.append(invalid(place, f"should be a json path under {root.rstrip('.')}", path))
    path, place = scale.get("labelSelectorPath") or "", f"{field}.scale.labelSelectorPath"
    if path and (problems := _simple_path(path, place)):
        causes += problems
    elif path and not path.startswith((".spec.", ".status.")):
        causes.append(invalid(place, "should be a json path under either .spec or .status", path))
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
            causes.append(invalid(f"{place}.type", detail, kind))
        if form and form not in _COLUMN_FORMATS:
            causes.append(invalid(f"{place}.format", f"must be one of {','.join(_COLUMN_FORMATS)}", form))
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
            causes.append(invalid(place, f"is an invalid path: {problem}", path))
            continue
        if keys[0] == "metadata":
            causes.append(invalid(place, "must not point to fields in metadata", path))
        if found.get("type") not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            causes.append(invalid(place, detail, path))
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
