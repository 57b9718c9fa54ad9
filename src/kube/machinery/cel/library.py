"""All functions that an expression may call, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kube.machinery.cel.aggregates import COLLECTION_FUNCTIONS
from kube.machinery.cel.authorizer import AUTHORIZER_FUNCTIONS
from kube.machinery.cel.kubernetes import KUBERNETES_FUNCTIONS
from kube.machinery.cel.operators import OPERATORS
from kube.machinery.cel.texts import TEXT_FUNCTIONS

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **OPERATORS,
    **TEXT_FUNCTIONS,
    **COLLECTION_FUNCTIONS,
    **KUBERNETES_FUNCTIONS,
    **AUTHORIZER_FUNCTIONS,
}
NAMESPACED = frozenset(name for name in FUNCTIONS if "." in name)
