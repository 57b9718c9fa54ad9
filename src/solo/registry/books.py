"""Who owns which field: the field managers of a kind, made when the kind is first written.

`metadata.managedFields` is kept by every write (KEP-555); the rules are in `kube.machinery.apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kube.machinery.resources import Resource

if TYPE_CHECKING:
    from kube.machinery.apply import FieldManager, Type
    from solo.registry.strategy import Strategy

Obj = dict[str, Any]


class FieldBooks:
    """The field managers of one kind in one version: of the kind itself and of each of its subresources."""

    def __init__(self, resource: Resource, strategy: Strategy) -> None:
        self._resource = resource
        self._strategy = strategy
        self._type: Type | None = None
        self._managers: dict[str, FieldManager] = {}

    def of(self, subresource: str) -> FieldManager:
        """The manager of the kind ("") or of one of its subresources."""
        found = self._managers.get(subresource)
        if found is None:
            found = self._managers[subresource] = self._make(subresource)
        return found

    def merged(self, obj: Obj, configuration: Obj) -> Obj:
        """`obj` with what an apply configuration says, merged by the schema's list and map types; nobody owns it."""
        from kube.machinery.apply.typed import merge

        result: Obj = merge(self._compiled(), obj, configuration)
        return result

    def _compiled(self) -> Type:
        if self._type is None:
            from kube.machinery.apply import compile_type

            self._type = compile_type(self._strategy.openapi_schema())
        return self._type

    def _make(self, subresource: str) -> FieldManager:
        from kube.machinery.apply import FieldManager

        return FieldManager(
            self._compiled(),
            self._resource.api_version,
            self._resource.kind,
            subresource=subresource,
            reset_fields=self._strategy.reset_fields(subresource),
        )


def same_but_for_times(new: Obj, old: Obj) -> bool:
    """Whether two objects differ in nothing but the times in their managedFields: such a write changes nothing."""
    after, before = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not after or not before or len(after) != len(before):
        return False
    if any({**one, "time": ""} != {**other, "time": ""} for one, other in zip(after, before, strict=True)):
        return False
    return {**new, "metadata": {**new["metadata"], "managedFields": before}} == old
