"""Mutating- and ValidatingWebhookConfigurations as objects."""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig, quote, quote_json
from solo.registry.rules.admissionmatch import (
    default_match,
    validate_conditions,
    validate_rule,
    validate_selectors,
)
from solo.registry.rules.clientconfig import validate_client_config
from solo.registry.rules.expressions import Scope
from solo.registry.rules.fieldchecks import among
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_SCOPE = Scope(("object", "oldObject", "request", "authorizer"))
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_CHOICES = {
    "failurePolicy": ("Fail", "Ignore"),
    "matchPolicy": ("Equivalent", "Exact"),
    "reinvocationPolicy": ("IfNeeded", "Never"),
}


class WebhookStrategy(BuiltinStrategy):
    """Webhook configurations."""

    tracks_generation = True

    def default(self, obj: Obj) -> None:
        for hook in obj.get("webhooks") or []:
            hook.setdefault("failurePolicy", "Fail")
            hook.setdefault("timeoutSeconds", 10)
            if self.kind.startswith("Mutating"):
                hook.setdefault("reinvocationPolicy", "Never")
            default_match(hook, rules="rules")
            service = dig(hook, "clientConfig", "service")
            if service is not None:
                service.setdefault("port", 443)

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        seen: set[str] = set()
        kept = old is not None and _conditions(obj) == _conditions(old)
        for index, hook in enumerate(obj.get("webhooks") or []):
            field = f"webhooks[{index}]"
            name = hook.get("name") or ""
            causes += _name(name, f"{field}.name") + _hook(hook, field)
            causes += validate_client_config(hook.get("clientConfig") or {}, f"{field}.clientConfig")
            if not kept:
                causes += validate_conditions(hook.get("matchConditions") or [], f"{field}.matchConditions", _SCOPE)
            causes += _review_versions(hook.get("admissionReviewVersions") or [], f"{field}.admissionReviewVersions")
            if name and name in seen:
                causes.append(cause("FieldValueDuplicate", f"{field}.name", "", quote(name)))
            seen.add(name)
        return causes


def _conditions(obj: Obj) -> list[Any]:
    return [hook.get("matchConditions") or [] for hook in obj.get("webhooks") or []]


def _name(name: str, field: str) -> list[Cause]:
    problems = names.dns1123_subdomain(name) if name else []
    if not name:
        return [cause("FieldValueRequired", field)]
    if not problems and name.count(".") < 2:
        problems = ["should be a domain with at least three segments separated by dots"]
    return [cause("FieldValueInvalid", field, text, quote(name)) for text in problems]


def _hook(hook: Obj, field: str) -> list[Cause]:
    causes = []
    for index, rule in enumerate(hook.get("rules") or []):
        causes += validate_rule(rule, f"{field}.rules[{index}]")
    for key, allowed in _CHOICES.items():
        if hook.get(key) is not None:
            causes += among(f"{field}.{key}", hook[key], allowed)
    if hook.get("sideEffects") is None:
        detail = f"must specify one of {', '.join(_SIDE_EFFECTS)}"
        causes.append(cause("FieldValueRequired", f"{field}.sideEffects", detail))
    else:
        causes += among(f"{field}.sideEffects", hook["sideEffects"], _SIDE_EFFECTS)
    seconds = hook["timeoutSeconds"]
    if not 1 <= seconds <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        causes.append(cause("FieldValueInvalid", f"{field}.timeoutSeconds", detail, str(seconds)))
    return causes + validate_selectors(hook, field)


def _review_versions(versions: list[str], field: str) -> list[Cause]:
    if not versions:
        return [cause("FieldValueRequired", field, "must specify one of v1, v1beta1")]
    causes = []
    for index, version in enumerate(versions):
        place = f"{field}[{index}]"
        problems = ["duplicate version"] if version in versions[:index] else names.dns1035_label(version)
        causes += [cause("FieldValueInvalid", place, text, quote(version)) for text in problems]
    if "v1" not in versions:
        causes.append(cause("FieldValueInvalid", field, "must include at least one of v1", quote_json(versions)))
    return causes
