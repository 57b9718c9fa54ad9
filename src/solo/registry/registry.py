"""The verbs: create, update, delete, as kube-apiserver's generic registry performs them on every kind.

Reads do not come here: they are served from the store's bytes. No lock is held while an object is written, since
webhooks that are asked about it may write it, too. A write is computed from the present object and stored only if that
still is the present one; if not, it is computed anew (apiserver's GuaranteedUpdate). What asks nobody over the network
waits for its turn before it reads, and is computed once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from kube.machinery import errors
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from solo.registry import acceptance, deletion, lifecycle, meta, scale
from solo.registry.books import same_but_for_times
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.kinds import Kind
from solo.registry.objects import dig
from solo.registry.views import Views
from solo.store import Key, Overtaken, Store, Stored

Obj = dict[str, Any]
Change = Callable[[Obj], Obj]
Result = Stored | Obj
"""What a write answers with: the stored object, or an unstored one after a dry run."""
_Outcome = TypeVar("_Outcome")

AGAIN_SECONDS = 34.0
"""For how long a write that others overtake begins anew: as long as kube-apiserver works on one."""
_GENERATE_ATTEMPTS = 8


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

    @property
    def shown_name(self) -> str:
        """What a refusal calls the object; one that has no name yet by what its name is made of."""
        metadata = (self.obj or {}).get("metadata") or {}
        return self.name or str(metadata.get("name") or metadata.get("generateName") or "Unknown")


class Mutation(Protocol):
    """An admission plug-in that may put another object into the attributes. It raises StatusError to refuse."""

    async def mutate(self, attributes: Attributes) -> None: ...


class Admission(Protocol):
    """One admission plug-in. It raises StatusError to refuse, and may add warnings to the context."""

    async def admit(self, attributes: Attributes) -> None: ...


class CommitCheck(Protocol):
    """Judges an object, as it is to be stored, when nothing is awaited any more before the store has it in its queue.

    It raises StatusError to refuse.
    """

    def check(self, kind: Kind, key: Key, obj: Obj) -> None: ...


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
        self._allocations: list[Mutation] = []
        self._commit_checks: list[CommitCheck] = []

    def add_admission(self, plugin: Admission) -> None:
        """Let `plugin` judge every write from now on."""
        self._admission.append(plugin)

    def add_mutation(self, plugin: Mutation) -> None:
        """Let `plugin` change what is written from now on."""
        self._mutations.append(plugin)

    def add_allocation(self, plugin: Mutation) -> None:
        """Let `plugin` give objects what only one may have, when all that changes them is done and they have names."""
        self._allocations.append(plugin)

    def add_commit_check(self, plugin: CommitCheck) -> None:
        """Let `plugin` judge what is stored from now on."""
        self._commit_checks.append(plugin)

    async def _mutate(self, attributes: Attributes) -> Obj:
        """The object after the plug-ins that may change it; decoded and defaulted anew if they did."""
        return await self._change_by(self._mutations, attributes)

    async def _change_by(self, plugins: Sequence[Mutation], attributes: Attributes) -> Obj:
        before = obj = attributes.obj
        assert obj is not None
        for plugin in plugins:
            await plugin.mutate(attributes)
            obj = attributes.obj
        assert obj is not None
        if obj is not before:
            asked = attributes
            acceptance.accept_mutated(asked.kind, asked.namespace, asked.name, asked.subresource, obj, asked.context)
        return obj

    async def _admit(self, attributes: Attributes) -> None:
        for plugin in self._admission:
            await plugin.admit(attributes)

    async def _on_present(self, key: Key, attempt: Callable[[Stored | None], Awaitable[_Outcome]]) -> _Outcome:
        """What `attempt` makes of the present object (None: there is none), begun anew while others overtake it."""
        until = asyncio.get_running_loop().time() + AGAIN_SECONDS
        while True:
            await self.store.turn(key)
            try:
                return await attempt(self.store.get(key))
            except Overtaken:
                if asyncio.get_running_loop().time() > until:
                    raise

    def _check_commit(self, kind: Kind, key: Key, obj: Obj) -> None:
        for plugin in self._commit_checks:
            plugin.check(kind, key, obj)

    async def connect(
        self, kind: Kind, namespace: str, name: str, subresource: str, options: Obj, context: RequestContext
    ) -> None:
        """Ask admission about a stream to an object; `options` is its object, such as PodExecOptions.

        What mutating webhooks change of it is not taken up. Raises what they raise.
        """
        await self._ask(Attributes("CONNECT", kind, namespace, name, options, None, subresource, context))

    async def _ask(self, attributes: Attributes) -> None:
        """Ask all of admission about a request that stores nothing of its own. Raises what they raise."""
        given = attributes.obj
        for plugin in self._mutations:
            await plugin.mutate(attributes)
        await self._admit(replace(attributes, obj=given))

    async def offer(self, attributes: Attributes, accept: Callable[[Obj], None]) -> Obj:
        """Ask admission about an object that is created through a subresource and stored nowhere; what became of it.

        `accept` checks and completes it, in place, between those who may change it and those who may only refuse.
        """
        obj = await self._mutate(attributes)
        accept(obj)
        await self._admit(replace(attributes, obj=obj))
        return obj

    def past_admission(self) -> Registry:
        """This registry for the writes by which it does what `offer` was about: admission is not asked twice."""
        past = Registry(self.store, self.catalog, (), self.views)
        past._commit_checks = self._commit_checks
        return past

    # ---- create

    async def create(self, kind: Kind, namespace: str, name: str, obj: Obj, context: RequestContext) -> Result:
        """Store a new object. `name` is the URL's, mostly empty.

        Raises 400, 403, 404 (no such namespace), 405, 409 or 422 as `StatusError`.
        """
        self._accept_new(kind, namespace, name, obj, context)
        meta.wipe_on_create(obj["metadata"])
        kind.strategy.default(obj)
        tracked = kind.books.of("").update(None, obj, context.manager, now=now_rfc3339())
        return await self._create(kind, namespace, tracked, context)

    async def _create(self, kind: Kind, namespace: str, obj: Obj, context: RequestContext) -> Result:
        """Let admission change the object, which has what its client gave it, and give it the rest, and a name."""
        name = obj["metadata"].get("name") or ""
        asked = Attributes("CREATE", kind, namespace, name, obj, None, "", context)
        obj = await self._mutate(asked)
        base = "" if obj["metadata"].get("name") else obj["metadata"].get("generateName") or ""
        if not base:
            return await self._create_named(asked, obj)
        for _ in range(_GENERATE_ATTEMPTS - 1):
            try:
                return await self._create_named(asked, acceptance.named(kind, obj, base))
            except StatusError as problem:
                if problem.reason != "AlreadyExists":
                    raise
        return await self._create_named(asked, acceptance.named(kind, obj, base))

    def _accept_new(self, kind: Kind, namespace: str, name: str, obj: Obj, context: RequestContext) -> None:
        if kind.terminating:
            raise lifecycle.definition_ends(kind)
        acceptance.accept_new(kind, namespace, name, obj, context)
        if namespace:
            lifecycle.check_namespace(self.store, kind, namespace, obj["metadata"].get("name") or "")

    async def _create_named(self, asked: Attributes, obj: Obj) -> Result:
        kind, namespace, context = asked.kind, asked.namespace, asked.context
        name = obj["metadata"].get("name") or ""
        meta.fill_on_create(obj["metadata"], generation=kind.strategy.tracks_generation)
        obj = await self._change_by(self._allocations, replace(asked, name=name, obj=obj))
        kind.strategy.prepare_create(obj)
        acceptance.validate(kind, obj, None, context)
        await self._admit(replace(asked, obj=obj))
        key = Key(kind.store_resource, namespace, name)
        final = kind.stored(obj) if context.dry_run else await self.views.to_storage(kind, obj)
        await self.store.turn(key)
        lifecycle.check_place(self.store, self.catalog, kind, key)
        self._check_commit(kind, key, final)
        if not context.dry_run:
            return await self.views.one(kind, await self.store.create(key, final))
        if self.store.get(key) is not None:
            raise errors.already_exists(kind.store_resource, name)
        return final

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

        It is called again, with the state of then, when another write came in between.

        Raises 400, 403, 404, 409 or 422 as `StatusError`, besides what `change` raises.
        """

        async def attempt(current: Stored | None) -> Result:
            if current is None:
                raise errors.not_found(kind.resource.group_resource, name)
            old = await self._shown(kind, current)
            obj = change(old)
            acceptance.accept_changed(kind, current, obj, context)
            obj = kind.books.of(subresource).update(old, obj, context.manager, now=now_rfc3339())
            return await self._change(kind, current, old, obj, subresource, context)

        return await self._on_present(Key(kind.store_resource, namespace, name), attempt)

    async def _shown(self, kind: Kind, current: Stored) -> Obj:
        return kind.served((await self.views.one(kind, current)).obj)

    async def _change(
        self, kind: Kind, current: Stored, old: Obj, obj: Obj, subresource: str, context: RequestContext
    ) -> Result:
        key = current.key
        scales = subresource == "scale"
        shown = partial(scale.read, kind) if scales else _itself
        asked = Attributes("UPDATE", kind, key.namespace, key.name, shown(obj), shown(old), subresource, context)
        mutated = await self._mutate(asked)
        if scales:
            obj = scale.write(kind, obj, mutated)
        else:
            obj = await self._change_by(self._allocations, replace(asked, obj=mutated))
        acceptance.prepare_changed(kind, obj, old, subresource)
        acceptance.validate(kind, obj, old, context, subresource)
        await self._admit(replace(asked, obj=shown(obj)))
        return await self._store_changed(kind, current, obj, context)

    async def _store_changed(self, kind: Kind, current: Stored, obj: Obj, context: RequestContext) -> Result:
        key = current.key
        final = kind.stored(obj) if context.dry_run else await self.views.to_storage(kind, obj)
        await self.store.turn(key)
        self._check_commit(kind, key, final)
        if context.dry_run:
            return final
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

        async def attempt(current: Stored | None) -> Result:
            if current is not None:
                return await self._apply_present(kind, current, applied, context)
            if applied.subresource:
                raise errors.not_found(kind.resource.group_resource, name)
            applied.before_create()
            return await self._apply_new(kind, key, applied, context)

        return await self._on_present(key, attempt)

    async def _apply_new(self, kind: Kind, key: Key, applied: Applied, context: RequestContext) -> Result:
        uid = dig(applied.body, "metadata", "uid")
        if uid:
            text = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise errors.conflict(kind.resource.group_resource, key.name, text)
        obj = self._merge(kind, None, applied, context)
        self._accept_new(kind, key.namespace, key.name, obj, context)
        meta.wipe_on_create(obj["metadata"])
        kind.strategy.default(obj)
        return await self._create(kind, key.namespace, obj, context)

    async def _apply_present(self, kind: Kind, current: Stored, applied: Applied, context: RequestContext) -> Result:
        old = await self._shown(kind, current)
        obj = self._merge(kind, old, applied, context)
        acceptance.accept_changed(kind, current, obj, context)
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

        async def attempt(current: Stored | None) -> Deleted:
            if current is None:
                raise errors.not_found(kind.resource.group_resource, name)
            return await self._delete(kind, current, options, context)

        return await self._on_present(Key(kind.store_resource, namespace, name), attempt)

    async def _delete(self, kind: Kind, current: Stored, options: DeleteOptions, context: RequestContext) -> Deleted:
        key = current.key
        kind.strategy.refuse_deletion(current.obj)
        deletion.check_preconditions(kind, current, options)
        shown = await self.views.one(kind, current)
        old = kind.served(shown.obj)
        grace = kind.strategy.deletion_grace(current.obj, options.grace)
        told = replace(context, options=options.shown(options.grace if grace is None else grace))
        await self._ask(Attributes("DELETE", kind, key.namespace, key.name, None, old, "", told))
        marked = deletion.mark(kind.strategy, current.obj, options)
        if deletion.complete(kind.strategy, marked):
            final = shown if context.dry_run else self.views.next(kind, shown, await self.store.delete(key, current.rv))
            return Deleted(final, gone=True)
        if marked == current.obj:
            return Deleted(shown, gone=False)
        if context.dry_run:
            return Deleted({**old, "metadata": marked["metadata"]}, gone=False)
        return Deleted(self.views.next(kind, shown, await self.store.update(key, marked, current.rv)), gone=False)


def _itself(obj: Obj) -> Obj:
    return obj
