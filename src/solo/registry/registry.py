"""The verbs: create, update, delete, as kube-apiserver's generic registry performs them on every kind.

Reads do not come here: they are served from the store's bytes. Writes to one object go one after another (a lock per
key), so that read-modify-write never loses to itself; the store's check of the revision stays the last word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kube.machinery import errors
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError, cause
from solo.registry import deletion, meta
from solo.registry.body import check_type
from solo.registry.books import same_but_for_times
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.kinds import Kind
from solo.registry.objects import dig
from solo.registry.views import Views
from solo.store import Key, Store, Stored

Obj = dict[str, Any]
Change = Callable[[Obj], Obj]
Result = Stored | Obj
"""What a write answers with: the stored object, or an unstored one after a dry run."""

_GENERATE_ATTEMPTS = 8
# What metadata does not show when it is empty (`omitempty` of Go's ObjectMeta).
_NEVER_EMPTY = frozenset({"annotations", "finalizers", "labels", "ownerReferences"})
_APPLY_ATTEMPTS = 4


@dataclass(slots=True)
class Attributes:
    """What admission looks at."""

    operation: str
    kind: Kind
    namespace: str
    name: str
    obj: Obj | None
    old: Obj | None
    subresource: str
    context: RequestContext


class Mutation(Protocol):
    """An admission plug-in that may put another object into the attributes. It raises StatusError to refuse."""

    async def mutate(self, attributes: Attributes) -> None: ...


class Admission(Protocol):
    """One admission plug-in. It raises StatusError to refuse, and may add warnings to the context."""

    async def admit(self, attributes: Attributes) -> None: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """What a server-side apply asks for. `before_create` is called, and may refuse, when it would make the object."""

    body: Obj
    force: bool
    subresource: str
    before_create: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Deleted:
    """The outcome of a DELETE: the last or current state, and whether the object is gone."""

    result: Result
    gone: bool


class _Locks:
    """One lock per key, kept only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._held: dict[Key, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: Key) -> AsyncIterator[None]:
        lock, users = self._held.get(key, (None, 0))
        lock = lock or asyncio.Lock()
        self._held[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._held.pop(key)
            if users > 1:
                self._held[key] = (lock, users - 1)


class Registry:
    """All writes to all kinds."""

    def __init__(
        self, store: Store, catalog: Catalog, admission: Sequence[Admission] = (), views: Views | None = None
    ) -> None:
        self.store = store
        self.catalog = catalog
        self.views = views or Views()
        self._admission = list(admission)
        self._mutations: list[Mutation] = []
        self._locks = _Locks()

    def add_admission(self, plugin: Admission) -> None:
        """Let `plugin` judge every write from now on."""
        self._admission.append(plugin)

    def add_mutation(self, plugin: Mutation) -> None:
        """Let `plugin` change what is written from now on."""
        self._mutations.append(plugin)

    async def _mutate(self, attributes: Attributes) -> Obj:
        """The object after the plug-ins that may change it; decoded and defaulted anew if they did."""
        before = obj = attributes.obj
        assert obj is not None
        for plugin in self._mutations:
            await plugin.mutate(attributes)
            obj = attributes.obj
        assert obj is not None
        if obj is not before:
            kind, context = attributes.kind, attributes.context
            self._decode(kind, obj, replace(context, field_validation="Ignore"))
            meta.check_identity(obj["metadata"], attributes.name, attributes.namespace)
            kind.strategy.default(obj)
        return obj

    async def _admit(self, attributes: Attributes) -> None:
        for plugin in self._admission:
            await plugin.admit(attributes)

    async def connect(
        self, kind: Kind, namespace: str, name: str, subresource: str, options: Obj, context: RequestContext
    ) -> None:
        """Ask admission about a stream to an object; `options` is its object, such as PodExecOptions.

        What mutating webhooks change of it is not taken up. Raises what they raise.
        """
        attributes = Attributes("CONNECT", kind, namespace, name, options, None, subresource, context)
        for plugin in self._mutations:
            await plugin.mutate(attributes)
        await self._admit(replace(attributes, obj=options))

    # ---- create

    async def create(self, kind: Kind, namespace: str, name: str, obj: Obj, context: RequestContext) -> Result:
        """Store a new object. `name` is the URL's, mostly empty.

        Raises 400, 403, 404 (no such namespace), 405, 409 or 422 as `StatusError`.
        """
        self._accept_new(kind, namespace, name, obj, context)
        metadata = obj["metadata"]
        base = "" if metadata.get("name") else metadata.get("generateName") or ""
        for attempt in range(_GENERATE_ATTEMPTS):
            if base:
                metadata["name"] = meta.generate_name(base)
            try:
                meta.fill_on_create(metadata, generation=kind.strategy.tracks_generation)
                kind.strategy.default(obj)
                tracked = kind.books.of("").update(None, obj, context.manager, now=now_rfc3339())
                return await self._create_named(kind, namespace, tracked, context)
            except StatusError as problem:
                if not base or problem.reason != "AlreadyExists" or attempt == _GENERATE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _accept_new(self, kind: Kind, namespace: str, name: str, obj: Obj, context: RequestContext) -> None:
        if kind.terminating:
            raise _definition_ends(kind)
        self._decode(kind, obj, context)
        metadata = obj["metadata"]
        meta.check_identity(metadata, name, namespace)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if namespace:
            self._check_namespace(kind, namespace, metadata.get("name") or "")

    async def _create_named(self, kind: Kind, namespace: str, obj: Obj, context: RequestContext) -> Result:
        name = obj["metadata"].get("name") or ""
        obj = await self._mutate(Attributes("CREATE", kind, namespace, name, obj, None, "", context))
        kind.strategy.prepare_create(obj)
        self._validate(kind, obj, None)
        await self._admit(Attributes("CREATE", kind, namespace, name, obj, None, "", context))
        key = Key(kind.store_resource, namespace, name)
        if context.dry_run:
            if self.store.get(key) is not None:
                raise errors.already_exists(kind.store_resource, name)
            return kind.stored(obj)
        stored = await self.views.to_storage(kind, obj)
        async with self._locks.hold(key):
            self._check_place(kind, key)
            return await self.views.one(kind, await self.store.create(key, stored))

    def _check_place(self, kind: Kind, key: Key) -> None:
        """Webhooks may have taken long: what is made in a namespace, or of a kind, that is gone would stay for ever."""
        if key.namespace:
            self._check_namespace(kind, key.namespace, key.name)
        if kind.custom:
            resource = kind.resource
            now = self.catalog.lookup(resource.group, resource.version, resource.plural)
            if now is None or now.terminating:
                raise _definition_ends(kind)

    def _decode(self, kind: Kind, obj: Obj, context: RequestContext) -> None:
        """Check and prune the object in place; the field manager reads managedFields by itself."""
        check_type(kind, obj)
        metadata = obj.get("metadata")
        owners = metadata.pop("managedFields", None) if isinstance(metadata, dict) else None
        unknown = kind.strategy.decode(obj)
        if not isinstance(obj.get("metadata"), dict):
            obj["metadata"] = {}
        for key in _NEVER_EMPTY & obj["metadata"].keys():
            if not obj["metadata"][key]:
                del obj["metadata"][key]
        if owners is not None:
            obj["metadata"]["managedFields"] = owners
        context.report_unknown(kind.resource.kind, kind.resource.version, unknown)

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        """Admission plug-in NamespaceLifecycle."""
        stored = self.store.get(Key("namespaces", "", namespace))
        if stored is None:
            raise errors.not_found("namespaces", namespace)
        if dig(stored.obj, "metadata", "deletionTimestamp"):
            problem = errors.forbidden(
                kind.resource.group_resource,
                name,
                f"unable to create new content in namespace {namespace} because it is being terminated",
            )
            detail = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            problem.details = {**(problem.details or {}), "causes": [detail]}
            raise problem

    def _validate(self, kind: Kind, obj: Obj, old: Obj | None, subresource: str = "") -> None:
        causes = kind.strategy.validate_all(obj, old, subresource)
        if causes:
            raise errors.invalid(kind.resource.group, kind.resource.kind, obj["metadata"].get("name") or "", causes)

    # ---- update

    async def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Change,
        context: RequestContext,
        *,
        subresource: str = "",
    ) -> Result:
        """Change an existing object: `change` gets its present state and returns the wanted one, a value of its own.

        Raises 400, 403, 404, 409 or 422 as `StatusError`, besides what `change` raises.
        """
        key = Key(kind.store_resource, namespace, name)
        async with self._locks.hold(key):
            current = self.store.get(key)
            if current is None:
                raise errors.not_found(kind.resource.group_resource, name)
            old = kind.served((await self.views.one(kind, current)).obj)
            obj = change(old)
            self._accept_changed(kind, current, obj, context)
            obj = kind.books.of(subresource).update(old, obj, context.manager, now=now_rfc3339())
            return await self._change(kind, current, old, obj, subresource, context)

    def _accept_changed(self, kind: Kind, current: Stored, obj: Obj, context: RequestContext) -> None:
        self._decode(kind, obj, context)
        meta.check_identity(obj["metadata"], current.key.name, current.key.namespace)
        self._check_version(kind, obj["metadata"], current)
        kind.strategy.default(obj)

    async def _change(
        self, kind: Kind, current: Stored, old: Obj, obj: Obj, subresource: str, context: RequestContext
    ) -> Result:
        key = current.key
        wanted = Attributes("UPDATE", kind, key.namespace, key.name, obj, old, subresource, context)
        obj = await self._mutate(wanted)
        self._prepare(kind, obj, old, subresource)
        self._validate(kind, obj, old, subresource)
        await self._admit(Attributes("UPDATE", kind, key.namespace, key.name, obj, old, subresource, context))
        return await self._store_update(kind, key, obj, current, context)

    def _check_version(self, kind: Kind, metadata: Obj, current: Stored) -> None:
        uid = metadata.get("uid")
        if uid and uid != current.obj["metadata"].get("uid"):
            text = (
                f"Precondition failed: UID in precondition: {uid}, "
                f"UID in object meta: {current.obj['metadata'].get('uid')}"
            )
            raise errors.conflict(kind.resource.group_resource, current.key.name, text)
        version = metadata.get("resourceVersion")
        if version and version != "0":
            if version != str(current.rv):
                raise errors.conflict(kind.resource.group_resource, current.key.name, errors.OPTIMISTIC_LOCK)
        elif not kind.strategy.allow_unconditional_update:
            problem = cause("FieldValueInvalid", "metadata.resourceVersion", "must be specified for an update", "0")
            raise errors.invalid(kind.resource.group, kind.resource.plural, current.key.name, [problem])

    def _prepare(self, kind: Kind, obj: Obj, old: Obj, subresource: str) -> None:
        metadata = obj["metadata"] = {**obj["metadata"]}
        meta.keep_on_update(metadata, old["metadata"])
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if subresource == "status":
            kind.strategy.prepare_status(obj, old)
        elif subresource:
            kind.strategy.prepare_subresource(subresource, obj, old)
        else:
            kind.strategy.prepare_update(obj, old)

    async def _store_update(self, kind: Kind, key: Key, obj: Obj, current: Stored, context: RequestContext) -> Result:
        if context.dry_run:
            return kind.stored(obj)
        final = await self.views.to_storage(kind, obj)
        if deletion.complete(kind.strategy, final):
            stored = await self.store.delete(key, current.rv, final)
        elif final == current.obj or same_but_for_times(final, current.obj):
            stored = current
        else:
            stored = await self.store.update(key, final, current.rv)
        return await self.views.one(kind, stored)

    # ---- apply

    async def apply(self, kind: Kind, namespace: str, name: str, applied: Applied, context: RequestContext) -> Result:
        """Server-side apply: make the object have what `applied` says, and its manager own that.

        Raises 400, 403, 404, 409 (conflicts among them) or 422 as `StatusError`, 500 for what does not fit the schema,
        and what `applied.before_create` raises.
        """
        key = Key(kind.store_resource, namespace, name)
        for _ in range(_APPLY_ATTEMPTS):
            if self.store.get(key) is not None or applied.subresource:
                return await self._apply_present(kind, key, applied, context)
            applied.before_create()
            try:
                return await self._apply_new(kind, key, applied, context)
            except StatusError as problem:
                if problem.reason != "AlreadyExists":
                    raise
        raise errors.conflict(kind.resource.group_resource, name, errors.OPTIMISTIC_LOCK)

    async def _apply_new(self, kind: Kind, key: Key, applied: Applied, context: RequestContext) -> Result:
        uid = dig(applied.body, "metadata", "uid")
        if uid:
            text = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise errors.conflict(kind.resource.group_resource, key.name, text)
        obj = self._merge(kind, None, applied, context)
        self._accept_new(kind, key.namespace, key.name, obj, context)
        meta.fill_on_create(obj["metadata"], generation=kind.strategy.tracks_generation)
        kind.strategy.default(obj)
        return await self._create_named(kind, key.namespace, obj, context)

    async def _apply_present(self, kind: Kind, key: Key, applied: Applied, context: RequestContext) -> Result:
        async with self._locks.hold(key):
            current = self.store.get(key)
            if current is None:
                raise errors.not_found(kind.resource.group_resource, key.name)
            old = kind.served((await self.views.one(kind, current)).obj)
            obj = self._merge(kind, old, applied, context)
            self._accept_changed(kind, current, obj, context)
            return await self._change(kind, current, old, obj, applied.subresource, context)

    def _merge(self, kind: Kind, live: Obj | None, applied: Applied, context: RequestContext) -> Obj:
        manager = kind.books.of(applied.subresource)
        return manager.apply(live, applied.body, context.manager, force=applied.force, now=now_rfc3339())

    # ---- delete

    async def delete(
        self, kind: Kind, namespace: str, name: str, options: DeleteOptions, context: RequestContext
    ) -> Deleted:
        """Delete an object, or begin to: finalizers and graceful termination keep it, marked, for a while.

        Raises 403, 404 or 409 as `StatusError`.
        """
        key = Key(kind.store_resource, namespace, name)
        async with self._locks.hold(key):
            current = self.store.get(key)
            if current is None:
                raise errors.not_found(kind.resource.group_resource, name)
            kind.strategy.refuse_deletion(current.obj)
            deletion.check_preconditions(kind, current, options)
            shown = await self.views.one(kind, current)
            old = kind.served(shown.obj)
            await self._admit(Attributes("DELETE", kind, namespace, name, None, old, "", context))
            marked = deletion.mark(kind.strategy, current.obj, options)
            if deletion.complete(kind.strategy, marked):
                if not context.dry_run:
                    stored = await self.store.delete(key, current.rv)
                    shown = await self.views.one(kind, stored)
                return Deleted(shown, gone=True)
            if marked == current.obj:
                return Deleted(shown, gone=False)
            if context.dry_run:
                return Deleted({**old, "metadata": marked["metadata"]}, gone=False)
            stored = await self.store.update(key, marked, current.rv)
            return Deleted(await self.views.one(kind, stored), gone=False)


def _definition_ends(kind: Kind) -> StatusError:
    refusal = errors.method_not_allowed("create", kind.resource.group_resource)
    refusal.message = "create not allowed while custom resource definition is terminating"
    return refusal
