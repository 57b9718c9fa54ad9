"""Admission policies as objects: they are compiled when they are written, so that a broken one is refused.

Rules of pkg/apis/admissionregistration/validation.
"""

from __future__ import annotations

import re
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, dig, quote, quote_json
from solo.registry.rules.admissionmatch import (
    default_match,
    validate_conditions,
    validate_match_resources,
)
from solo.registry.rules.expressions import Scope, check_expression
from solo.registry.rules.fieldchecks import among, label_selector
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_FAILURE_POLICIES = ("Fail", "Ignore")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_MOST_ANNOTATIONS = 20
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|"
    "while"
)


class PolicyStrategy(BuiltinStrategy):
    """ValidatingAdmissionPolicy."""

    has_status = True
    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        spec.setdefault("failurePolicy", "Fail")
        if "matchConstraints" in spec:
            default_match(spec["matchConstraints"])

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"observedGeneration": obj["metadata"]["generation"], "typeChecking": {}}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        generation = obj["metadata"].get("generation")
        obj["status"] = {**(obj.get("status") or {}), "observedGeneration": generation, "typeChecking": {}}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = among("spec.failurePolicy", spec["failurePolicy"], _FAILURE_POLICIES)
        causes += _param_kind(spec.get("paramKind"))
        if not spec.get("matchConstraints"):
            causes.append(cause("FieldValueRequired", "spec.matchConstraints"))
        else:
            causes += validate_match_resources(spec["matchConstraints"], "spec.matchConstraints")
            if not spec["matchConstraints"].get("resourceRules"):
                causes.append(cause("FieldValueRequired", "spec.matchConstraints.resourceRules"))
        if old is None or _conditions(spec) != _conditions(old["spec"]):
            causes += validate_conditions(spec.get("matchConditions") or [], "spec.matchConditions", _base_scope(spec))
        return causes + _variables(spec) + self._content(obj)

    def _content(self, obj: Obj) -> list[Cause]:
        """What is wrong with what the policy does."""
        spec = obj["spec"]
        validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
        if not validations and not annotations:
            detail = "validations or auditAnnotations must contain at least one item"
            return [cause("FieldValueRequired", f"spec.{key}", detail) for key in ("validations", "auditAnnotations")]
        scope = _scope(spec)
        causes = []
        for index, validation in enumerate(validations):
            causes += _validation(validation, f"spec.validations[{index}]", scope)
        return causes + _annotations(annotations, obj["metadata"].get("name") or "", scope)


def _conditions(spec: Obj) -> tuple[Any, Any]:
    """The match conditions with what they depend on."""
    return spec.get("matchConditions") or [], spec.get("paramKind")


def _base_scope(spec: Obj) -> Scope:
    """What the expressions see that do not know the policy's own variables."""
    params = ("params",) if spec.get("paramKind") is not None else ()
    return Scope(("object", "oldObject", "request", "namespaceObject", "authorizer", *params))


def _scope(spec: Obj) -> Scope:
    """What the expressions see that come after the policy's own variables."""
    declared = tuple(item.get("name") or "" for item in spec.get("variables") or [])
    base = _base_scope(spec)
    return Scope((*base.variables, "variables"), declared) if declared else base


def _param_kind(kind: Obj | None) -> list[Cause]:
    if kind is None:
        return []
    causes = _param_version(kind.get("apiVersion") or "", "spec.paramKind.apiVersion")
    name = kind.get("kind") or ""
    if not name:
        return [*causes, cause("FieldValueRequired", "spec.paramKind.kind")]
    if problems := names.dns1035_label(name.lower()):
        detail = f"may have mixed case, but should otherwise match: {','.join(problems)}"
        causes.append(cause("FieldValueInvalid", "spec.paramKind.kind", detail, quote(name)))
    return causes


def _param_version(api_version: str, field: str) -> list[Cause]:
    if not api_version:
        return [cause("FieldValueRequired", field)]
    if api_version.count("/") > 1:
        detail = f"unexpected GroupVersion string: {api_version}"
        return [cause("FieldValueInvalid", field, detail, quote(api_version))]
    group, _, version = api_version.rpartition("/")
    causes = []
    if group and (problems := names.dns1123_subdomain(group)):
        causes.append(cause("FieldValueInvalid", field, ",".join(problems), quote(group)))
    if not version:
        causes.append(cause("FieldValueInvalid", field, "version must be specified", quote(api_version)))
    elif problems := names.dns1035_label(version):
        causes.append(cause("FieldValueInvalid", field, ",".join(problems), quote(version)))
    return causes


def _variables(spec: Obj) -> list[Cause]:
    """The policy's own variables, each of which sees those before."""
    causes = []
    scope = _scope(spec)
    for index, variable in enumerate(spec.get("variables") or []):
        field, name = f"spec.variables[{index}]", variable.get("name") or ""
        if not name.strip():
            causes.append(cause("FieldValueRequired", f"{field}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or _RESERVED.fullmatch(name):
            detail = "name is not a valid CEL identifier"
            causes.append(cause("FieldValueInvalid", f"{field}.name", detail, quote(name)))
        expression = variable.get("expression") or ""
        before = Scope(scope.variables, scope.declared[:index])
        causes += _expression(expression, f"{field}.expression", before)
    return causes


def _expression(expression: str, field: str, scope: Scope, wanted: tuple[str, ...] = ()) -> list[Cause]:
    if not expression.strip():
        return [cause("FieldValueRequired", field, "expression is not specified")]
    return check_expression(expression, field, scope, wanted)


def _validation(validation: Obj, field: str, scope: Scope) -> list[Cause]:
    causes = _expression(validation.get("expression") or "", f"{field}.expression", scope, ("bool",))
    told = validation.get("messageExpression") or ""
    if told.strip():
        causes += check_expression(told, f"{field}.messageExpression", scope.without("authorizer"), ("string",))
    elif told:
        detail = "must be non-empty if specified"
        causes.append(cause("FieldValueInvalid", f"{field}.messageExpression", detail, quote(told)))
    message = validation.get("message") or ""
    if message and not message.strip():
        detail = "message must be non-empty if specified"
        causes.append(cause("FieldValueInvalid", f"{field}.message", detail, quote(message)))
    elif {"\n", "\r"} & set(message.strip()):
        detail = "message must not contain line breaks"
        causes.append(cause("FieldValueInvalid", f"{field}.message", detail, quote(message)))
    if validation.get("reason") is not None:
        causes += among(f"{field}.reason", validation["reason"], _REASONS)
    return causes


def _annotations(annotations: list[Obj], policy: str, scope: Scope) -> list[Cause]:
    causes = []
    if len(annotations) > _MOST_ANNOTATIONS:
        detail = f"must not have more than {_MOST_ANNOTATIONS} auditAnnotations"
        causes.append(cause("FieldValueInvalid", "spec.auditAnnotations", detail, quote_json(annotations)))
    seen = set()
    for index, annotation in enumerate(annotations):
        field, key = f"spec.auditAnnotations[{index}]", annotation.get("key") or ""
        full = f"{policy}/{key}"
        causes += [cause("FieldValueInvalid", f"{field}.key", text, quote(full)) for text in names.qualified_name(full)]
        expression = (annotation.get("valueExpression") or "").strip()
        if expression:
            causes += check_expression(expression, f"{field}.valueExpression", scope, ("string", "null_type"))
        else:
            detail = "valueExpression is not specified"
            causes.append(cause("FieldValueRequired", f"{field}.valueExpression", detail))
        if key in seen:
            causes.append(cause("FieldValueDuplicate", f"{field}.key", "", quote(key)))
        seen.add(key)
    return causes


class MutatingPolicyStrategy(PolicyStrategy):
    """MutatingAdmissionPolicy."""

    has_status = False

    def default(self, obj: Obj) -> None:
        super().default(obj)
        obj["spec"].setdefault("reinvocationPolicy", "Never")

    def prepare_create(self, obj: Obj) -> None:
        """There is no status."""

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        BuiltinStrategy.prepare_update(self, obj, old)

    def _content(self, obj: Obj) -> list[Cause]:
        spec = obj["spec"]
        mutations = spec.get("mutations") or []
        if not mutations:
            return [cause("FieldValueRequired", "spec.mutations", "mutations must contain at least one item")]
        causes = []
        for index, mutation in enumerate(mutations):
            field = f"spec.mutations[{index}]"
            part = _MUTATIONS.get(mutation.get("patchType") or "")
            if part is None:
                detail = 'supported values: "ApplyConfiguration", "JSONPatch"'
                printed = quote(str(mutation.get("patchType") or ""))
                causes.append(cause("FieldValueNotSupported", f"{field}.patchType", detail, printed))
            elif not dig(mutation, part, "expression"):
                causes.append(cause("FieldValueRequired", f"{field}.{part}.expression"))
            else:
                causes += check_expression(mutation[part]["expression"], f"{field}.{part}.expression", _scope(spec))
        return causes


_MUTATIONS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


class MutatingBindingStrategy(BuiltinStrategy):
    """MutatingAdmissionPolicyBinding."""

    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        if "matchResources" in spec:
            default_match(spec["matchResources"])

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        policy = spec.get("policyName") or ""
        problems = names.dns1123_subdomain(policy) if policy else []
        causes = [cause("FieldValueInvalid", "spec.policyName", text, quote(policy)) for text in problems]
        if not policy:
            causes.append(cause("FieldValueRequired", "spec.policyName"))
        causes += _param_reference(spec.get("paramRef"), "spec.paramRef")
        if spec.get("matchResources") is not None:
            causes += validate_match_resources(spec["matchResources"], "spec.matchResources")
        return causes


class PolicyBindingStrategy(MutatingBindingStrategy):
    """ValidatingAdmissionPolicyBinding."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        return super().validate(obj, old) + _actions(obj["spec"].get("validationActions") or [])


def _actions(actions: list[str]) -> list[Cause]:
    field = "spec.validationActions"
    if not actions:
        return [cause("FieldValueRequired", field, "at least one validation action is required")]
    causes = []
    for index, action in enumerate(actions):
        causes += among(f"{field}[{index}]", action, _ACTIONS)
        if action in actions[:index]:
            causes.append(cause("FieldValueDuplicate", f"{field}[{index}]", "", quote(action)))
    if {"Deny", "Warn"} <= set(actions):
        detail = "must not contain both Deny and Warn (repeating the same validation failure information in the "
        detail += "API response and headers serves no purpose)"
        causes.append(cause("FieldValueInvalid", field, detail, quote_json(actions)))
    return causes


def _param_reference(reference: Obj | None, field: str) -> list[Cause]:
    if reference is None:
        return []
    name, selector = reference.get("name") or "", reference.get("selector")
    causes = [cause("FieldValueInvalid", f"{field}.name", text, quote(name)) for text in names.path_segment(name)]
    if selector is not None:
        causes += label_selector(selector, f"{field}.selector")
        if name:
            detail = "name and selector are mutually exclusive"
            causes += [cause("FieldValueForbidden", f"{field}.{key}", detail) for key in ("name", "selector")]
    elif not name:
        causes.append(cause("FieldValueRequired", field, "one of name or selector must be specified"))
    action = reference.get("parameterNotFoundAction")
    if not action:
        return [*causes, cause("FieldValueRequired", f"{field}.parameterNotFoundAction")]
    return causes + among(f"{field}.parameterNotFoundAction", action, ("Deny", "Allow"))
