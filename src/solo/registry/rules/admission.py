"""The admission kinds as objects: policies are compiled when they are written, so that a broken one is refused."""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.cel.literals import without_types
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, dig, quote, quote_json
from solo.registry.rules.clientconfig import validate_client_config
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_ANNOTATION_KEYS = ("key", "valueExpression")
_WEBHOOK_VARIABLES = ("object", "oldObject", "request", "authorizer")
_WEBHOOK_CHOICES = {
    "sideEffects": ("None", "NoneOnDryRun"),
    "failurePolicy": ("Fail", "Ignore"),
    "matchPolicy": ("Equivalent", "Exact"),
    "reinvocationPolicy": ("IfNeeded", "Never"),
}
_VARIABLES = ("object", "oldObject", "request", "params", "namespaceObject", "variables", "authorizer")


class PolicyStrategy(BuiltinStrategy):
    """ValidatingAdmissionPolicy."""

    has_status = True
    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        spec.setdefault("failurePolicy", "Fail")
        if "matchConstraints" in spec:
            _default_match(spec["matchConstraints"])

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"observedGeneration": obj["metadata"]["generation"], "typeChecking": {}}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        generation = obj["metadata"].get("generation")
        obj["status"] = {**(obj.get("status") or {}), "observedGeneration": generation, "typeChecking": {}}

    def _content(self, spec: Obj) -> list[Cause]:
        if not spec.get("validations") and not spec.get("auditAnnotations"):
            detail = "validations or auditAnnotations must be specified"
            return [cause("FieldValueRequired", "spec.validations", detail)]
        return []

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = self._content(spec)
        if not spec.get("matchConstraints"):
            causes.append(cause("FieldValueRequired", "spec.matchConstraints"))
        elif not spec["matchConstraints"].get("resourceRules"):
            causes.append(cause("FieldValueRequired", "spec.matchConstraints.resourceRules"))
        if spec["failurePolicy"] not in ("Fail", "Ignore"):
            printed = quote(str(spec["failurePolicy"]))
            detail = 'supported values: "Fail", "Ignore"'
            causes.append(cause("FieldValueNotSupported", "spec.failurePolicy", detail, printed))
        kind = spec.get("paramKind")
        if kind is not None:
            causes += [
                cause("FieldValueRequired", f"spec.paramKind.{key}")
                for key in ("apiVersion", "kind")
                if not kind.get(key)
            ]
        return causes + _expressions(spec)


def _expressions(spec: Obj) -> list[Cause]:
    """Compile every expression of a policy."""
    causes: list[Cause] = []
    for index, item in enumerate(spec.get("auditAnnotations") or []):
        field = f"spec.auditAnnotations[{index}]"
        causes += [cause("FieldValueRequired", f"{field}.{key}") for key in _ANNOTATION_KEYS if not item.get(key)]
        if item.get("valueExpression"):
            causes += _compiles(item["valueExpression"], f"{field}.valueExpression")
    for part in ("matchConditions", "variables", "validations"):
        for index, item in enumerate(spec.get(part) or []):
            field = f"spec.{part}[{index}]"
            for key in ("expression", "messageExpression"):
                expression = item.get(key)
                if expression:
                    causes += _compiles(expression, f"{field}.{key}")
                elif key == "expression":
                    causes.append(cause("FieldValueRequired", f"{field}.expression", "expression is not specified"))
    return causes


def _compiles(expression: str, field: str, variables: tuple[str, ...] = _VARIABLES) -> list[Cause]:
    from kube.machinery.cel import CelError, compile_cel

    try:
        compile_cel(without_types(expression), variables)
    except CelError as problem:
        return [cause("FieldValueInvalid", field, f"compilation failed: {problem}", quote(expression))]
    return []


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

    def _content(self, spec: Obj) -> list[Cause]:
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
                causes += _compiles(mutation[part]["expression"], f"{field}.{part}.expression")
        return causes


_MUTATIONS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


class MutatingBindingStrategy(BuiltinStrategy):
    """MutatingAdmissionPolicyBinding."""

    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        if "matchResources" in spec:
            _default_match(spec["matchResources"])

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = [] if spec.get("policyName") else [cause("FieldValueRequired", "spec.policyName")]
        return causes + _param_reference(spec.get("paramRef"))


class PolicyBindingStrategy(MutatingBindingStrategy):
    """ValidatingAdmissionPolicyBinding."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = super().validate(obj, old)
        if not spec.get("validationActions"):
            causes.append(cause("FieldValueRequired", "spec.validationActions"))
        for action in spec.get("validationActions") or []:
            if action not in ("Deny", "Warn", "Audit"):
                detail = 'supported values: "Audit", "Deny", "Warn"'
                causes.append(cause("FieldValueNotSupported", "spec.validationActions", detail, quote(action)))
        if {"Deny", "Warn"} <= set(spec.get("validationActions") or []):
            detail = "must not contain both Deny and Warn (repeating the same validation failure information in the "
            detail += "API response and headers serves no purpose)"
            causes.append(cause("FieldValueInvalid", "spec.validationActions", detail, '["Deny","Warn"]'))
        return causes


def _param_reference(reference: Obj | None) -> list[Cause]:
    if reference is None:
        return []
    causes = []
    if bool(reference.get("name")) == ("selector" in reference):
        detail = "one of name or selector must be specified"
        causes.append(cause("FieldValueRequired", "spec.paramRef.name", detail))
    if reference.get("parameterNotFoundAction") not in ("Allow", "Deny"):
        causes.append(cause("FieldValueRequired", "spec.paramRef.parameterNotFoundAction"))
    return causes


class WebhookStrategy(BuiltinStrategy):
    """Webhook configurations."""

    tracks_generation = True

    def default(self, obj: Obj) -> None:
        for hook in obj.get("webhooks") or []:
            hook.setdefault("failurePolicy", "Fail")
            hook.setdefault("timeoutSeconds", 10)
            if self.kind.startswith("Mutating"):
                hook.setdefault("reinvocationPolicy", "Never")
            _default_match(hook, rules="rules")
            service = dig(hook, "clientConfig", "service")
            if service is not None:
                service.setdefault("port", 443)

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        seen: set[str] = set()
        for index, hook in enumerate(obj.get("webhooks") or []):
            field = f"webhooks[{index}]"
            name = hook.get("name") or ""
            if name in seen:
                causes.append(cause("FieldValueDuplicate", f"{field}.name", "", quote(name)))
            seen.add(name)
            causes += (
                _webhook_name(name, f"{field}.name")
                + _webhook(hook, field)
                + validate_client_config(hook.get("clientConfig") or {}, f"{field}.clientConfig")
            )
        return causes


def _webhook_name(name: str, field: str) -> list[Cause]:
    problems = names.dns1123_subdomain(name) if name else []
    if not name:
        return [cause("FieldValueRequired", field)]
    if not problems and name.count(".") < 2:
        problems = ["should be a domain with at least three segments separated by dots"]
    return [cause("FieldValueInvalid", field, text, quote(name)) for text in problems]


def _webhook(hook: Obj, field: str) -> list[Cause]:
    causes = []
    versions = hook.get("admissionReviewVersions") or []
    if not versions:
        detail = "must specify one of v1, v1beta1"
        causes.append(cause("FieldValueRequired", f"{field}.admissionReviewVersions", detail))
    elif "v1" not in versions:
        detail = "must include at least one of v1"
        causes.append(cause("FieldValueInvalid", f"{field}.admissionReviewVersions", detail, quote_json(versions)))
    for key, allowed in _WEBHOOK_CHOICES.items():
        value = hook.get(key)
        if value is None and key == "sideEffects":
            detail = "must specify one of None, NoneOnDryRun"
            causes.append(cause("FieldValueRequired", f"{field}.sideEffects", detail))
        elif value is not None and value not in allowed:
            detail = "supported values: " + ", ".join(map(quote, allowed))
            causes.append(cause("FieldValueNotSupported", f"{field}.{key}", detail, quote(str(value))))
    seconds = hook["timeoutSeconds"]
    if not 1 <= seconds <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        causes.append(cause("FieldValueInvalid", f"{field}.timeoutSeconds", detail, str(seconds)))
    for index, condition in enumerate(hook.get("matchConditions") or []):
        place = f"{field}.matchConditions[{index}].expression"
        if not condition.get("expression"):
            causes.append(cause("FieldValueRequired", place))
        else:
            causes += _compiles(condition["expression"], place, _WEBHOOK_VARIABLES)
    return causes


def _default_match(match: Obj, rules: str = "resourceRules") -> None:
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for key in (rules, "excludeResourceRules"):
        for rule in match.get(key) or []:
            rule.setdefault("scope", "*")
