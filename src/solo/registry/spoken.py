"""The kinds that subresources speak instead of their resource's: admission sees these, and they are never stored."""

from __future__ import annotations

from collections.abc import Mapping

from solo.registry.builtin_schema import BuiltinSchema

SPOKEN: Mapping[str, BuiltinSchema] = {
    "binding": BuiltinSchema("io.k8s.api.core.v1.Binding", "Binding", "v1"),
    "eviction": BuiltinSchema("io.k8s.api.policy.v1.Eviction", "Eviction", "v1"),
    "scale": BuiltinSchema("io.k8s.api.autoscaling.v1.Scale", "Scale", "v1"),
    "token": BuiltinSchema("io.k8s.api.authentication.v1.TokenRequest", "TokenRequest", "v1"),
}
"""By the name of the subresource."""
