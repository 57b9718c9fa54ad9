"""Create, update, patch and delete: from the request to the registry and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import HttpVersion11, web

from kube.machinery import errors
from kube.machinery.apply.options import check_field_manager, check_force, manager_name
from kube.machinery.errors import StatusError
from kube.machinery.patch import json_patch, merge_patch, strategic_merge_patch
from kube.machinery.queries import flag
from kube.machinery.resources import NAMESPACES
from kube.machinery.schema.numbers import write_whole
from solo.auth.user import User
from solo.http import bodies, responses, tables
from solo.http.bodies import APPLY_PATCH
from solo.http.negotiation import JSON, Output, media_type_of
from solo.http.paths import RequestInfo
from solo.http.reviews import Reviews
from solo.registry import meta, scale
from solo.registry.bindings import bind
from solo.registry.bootstrap import ensure_default_account
from solo.registry.builtin_schema import BuiltinSchema
from solo.registry.bulk import delete_all
from solo.registry.context import BodyProblems, DeleteOptions, RequestContext, check_dry_run, check_field_validation
from solo.registry.evictions import evict
from solo.registry.kinds import Kind
from solo.registry.objects import child
from solo.registry.registry import Applied, Attributes, Change, Registry, Result
from solo.registry.spoken import SPOKEN
from solo.store import Key, Stored

Obj = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_BUILTIN_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_CUSTOM_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
_DELETE_OPTIONS = BuiltinSchema("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", "DeleteOptions", "v1")
BODY_SECONDS = 60.0
"""A body that takes longer is given up; kube-apiserver gives a whole request as much."""


@dataclass(slots=True)
class Call:
    """A request that has been authenticated, authorized and matched to a kind."""

    request: web.BaseRequest
    info: RequestInfo
    kind: Kind
    user: User
    output: Output

    @property
    def include(self) -> str:
        return tables.included(self.output, self.request.query)

    @property
    def media_type(self) -> str:
        return media_type_of(self.request.headers.get("Content-Type") or "")

    @property
    def applies(self) -> bool:
        """Whether this is a server-side apply."""
        return self.info.verb == "patch" and self.media_type == APPLY_PATCH

    def context(self, options_kind: str) -> RequestContext:
        """Dry run, field validation and manager from the query. Raises 422 for values that do not exist."""
        query = self.request.query
        manager = query.get("fieldManager") or ""
        check_field_manager(manager, options_kind, required=self.applies)
        warnings = list(self.kind.warnings)
        self.request["warnings"] = warnings  # an error has them, too
        told = {name: query[name] for name in ("fieldManager", "fieldValidation") if query.get(name)}
        return RequestContext(
            self.user,
            check_dry_run(query.getall("dryRun", []), options_kind),
            check_field_validation(query.get("fieldValidation"), options_kind),
            manager_name(manager, self.request.headers.get("User-Agent") or ""),
            warnings,
            options=told,
        )


async def read_body(request: web.BaseRequest, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body, once.

    Raises 400 for one that cannot be decompressed, 413 above the limit, 408 when it is not there after some seconds.
    """
    try:
        return await _read_body(request, seconds)
    except web.RequestPayloadError:
        raise errors.bad_request("the request's body is not what its Content-Encoding says") from None


async def _read_body(request: web.BaseRequest, seconds: float) -> bytes:
    content = request.content
    if content.is_eof():  # it came with the head: nothing to wait for
        body = content.read_nowait()
        if len(body) > bodies.MAX_BODY:
            raise _too_large()
        return body
    try:
        async with asyncio.timeout(seconds):
            await _ask_for_body(request)
            return await request.read()
    except TimeoutError:
        text = f"the request's body did not come within {seconds:g} seconds"
        raise StatusError(408, "Timeout", text) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None


async def _ask_for_body(request: web.BaseRequest) -> None:
    """A client may hold its body back until it hears that it is wanted (RFC 9110, section 10.1.1)."""
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun


def _too_large() -> StatusError:
    return errors.too_large(f"Request entity too large: limit is {bodies.MAX_BODY}")


class Writer:
    """Answers the requests that change objects."""

    def __init__(self, registry: Registry, authorize: Callable[[User, RequestInfo], None]) -> None:
        self._registry = registry
        self._authorize = authorize

    async def create(self, call: Call) -> web.Response:
        context = call.context("CreateOptions")
        obj = await self._object(call, context, await read_body(call.request))
        result = await self._registry.create(call.kind, call.info.namespace, call.info.name, obj, context)
        if isinstance(result, Stored) and call.kind.store_resource == NAMESPACES.group_resource:
            await ensure_default_account(self._registry, result.key.name)
        return responses.one(call.kind, result, call.output, call.include, 201, context.warnings)

    async def _object(self, call: Call, context: RequestContext, body: bytes) -> Obj:
        if call.media_type in _BUILTIN_PATCHES:
            raise errors.unsupported_media_type(bodies.ACCEPTED)
        found = context.body
        obj = await bodies.read_object(body, call.media_type, call.kind.resource.kind, found.repeated)
        if context.field_validation != "Ignore" and call.media_type == JSON:
            found.repeated = bodies.duplicate_fields(body, obj)
            if found.repeated and not call.kind.custom:
                found.places = bodies.field_places(obj)
        return obj

    async def update(self, call: Call) -> web.Response:
        context = call.context("UpdateOptions")
        body = await read_body(call.request)
        obj = await self._object(call, context, body)
        info, kind = call.info, call.kind
        if info.subresource == "scale":
            return await self._change_scale(call, context, lambda _: obj)
        if not info.subresource and self._makes_new(call, obj):
            self._authorize(call.user, replace(info, verb="create"))
            result = await self._registry.create(kind, info.namespace, info.name, obj, context)
            return responses.one(kind, result, call.output, call.include, 201, context.warnings)
        return await self._change(call, context, _replacement(call, obj, body))

    def _makes_new(self, call: Call, obj: Obj) -> bool:
        """Whether an update of a kind that allows that is about an object that is not there, and never was."""
        if not call.kind.strategy.creates_on_update:
            return False
        metadata = obj.get("metadata") or {}
        if metadata.get("resourceVersion") or metadata.get("uid"):
            return False
        key = Key(call.kind.store_resource, call.info.namespace, call.info.name)
        return self._registry.store.get(key) is None

    async def patch(self, call: Call) -> web.Response:
        body = await read_body(call.request)
        context = call.context("PatchOptions")
        if call.applies and call.info.subresource != "scale":
            return await self._apply(call, body, context)
        check_force("force" in call.request.query, "PatchOptions")
        apply = self._patcher(call, body, context)
        if call.info.subresource == "scale":
            return await self._change_scale(call, context, apply)
        return await self._change(call, context, apply)

    async def _apply(self, call: Call, body: bytes, context: RequestContext) -> web.Response:
        info, kind = call.info, call.kind
        repeated: list[str] = []
        applied = await bodies.read_object(body, APPLY_PATCH, kind.resource.kind, repeated)
        if repeated and context.field_validation == "Strict":
            text = "\n  ".join(["yaml: unmarshal errors:", *repeated])
            raise errors.bad_request(f"error strict decoding YAML: error converting YAML to JSON: {text}")
        context.warn(repeated if context.field_validation == "Warn" else ())
        force = flag(call.request.query, "force")
        key = Key(kind.store_resource, info.namespace, info.name)
        status = 200 if self._registry.store.get(key) is not None else 201
        wanted = Applied(
            applied, force, info.subresource, lambda: self._authorize(call.user, replace(info, verb="create"))
        )
        result = await self._registry.apply(kind, info.namespace, info.name, wanted, context)
        return responses.one(kind, result, call.output, call.include, status, context.warnings)

    async def _change(self, call: Call, context: RequestContext, change: Change) -> web.Response:
        info = call.info
        result = await self._registry.update(
            call.kind, info.namespace, info.name, change, context, subresource=info.subresource
        )
        return responses.one(call.kind, result, call.output, call.include, 200, context.warnings)

    async def _change_scale(self, call: Call, context: RequestContext, change: Change) -> web.Response:
        info, kind = call.info, call.kind

        def scaled(obj: Obj) -> Obj:
            wanted = change(scale.read(kind, obj))
            scale.accept(kind, obj, wanted, context)
            return scale.write(kind, obj, wanted)

        result = await self._registry.update(kind, info.namespace, info.name, scaled, context, subresource="scale")
        shown = scale.read(kind, responses.served_object(kind, result))
        return responses.scale(kind, shown, call.output, call.include, context.warnings)

    def _patcher(self, call: Call, body: bytes, context: RequestContext) -> Change:
        """The function that a patch request stands for. It works on a value of its own."""
        media_type = call.media_type
        definition = call.kind.strategy.patch_schema()
        accepted = _BUILTIN_PATCHES if definition else _CUSTOM_PATCHES
        if definition and media_type not in _BUILTIN_PATCHES:
            raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        if media_type not in accepted or media_type == APPLY_PATCH:
            raise errors.unsupported_media_type(accepted)
        patch = bodies.decode_value(body, media_type, "Patch")
        if context.field_validation != "Ignore":
            context.body = BodyProblems(bodies.patch_problems(patch, body), is_patch=True)
        if media_type == JSON_PATCH:
            if not isinstance(patch, list):
                raise errors.bad_request("a JSON patch must be a list of operations")
            return lambda obj: _patched(obj, patch)
        if media_type == MERGE_PATCH:
            return lambda obj: _object(merge_patch(obj, patch))
        from kube.machinery.builtin import openapi_v3_schema

        write_whole(patch)
        schema = openapi_v3_schema(str(definition))
        return lambda obj: strategic_merge_patch(obj, patch, schema)

    async def delete(self, call: Call) -> web.Response:
        options, context = await self._delete_options(call)
        info, kind = call.info, call.kind
        outcome = await self._registry.delete(kind, info.namespace, info.name, options, context)
        if not outcome.gone or kind.strategy.returns_deleted:
            return responses.one(kind, outcome.result, call.output, call.include, 200, context.warnings)
        return responses.value(_gone(kind, info.name, outcome.result), Output(), 200, context.warnings)

    async def delete_collection(self, call: Call, page: list[Stored], meta: Obj) -> web.Response:
        """Delete what a list with the request's selectors and limit shows; answers with that list."""
        options, context = await self._delete_options(call)
        kind = call.kind
        deleted = await delete_all(self._registry, kind, page, options, context)
        return responses.many(kind, deleted, meta, call.output, call.include, context.warnings)

    async def _delete_options(self, call: Call) -> tuple[DeleteOptions, RequestContext]:
        body = await read_body(call.request)
        given: Obj = bodies.decode_object(body, call.media_type, "DeleteOptions") if body.strip() else {}
        _DELETE_OPTIONS.decode(given)
        context = call.context("DeleteOptions")
        context.dry_run = context.dry_run or check_dry_run(list(given.get("dryRun") or []), "DeleteOptions")
        return DeleteOptions.read(given, dict(call.request.query)), context

    async def evict(self, call: Call) -> web.Response:
        """POST pods/eviction: a deletion with the options that the Eviction brings, if budgets allow it."""
        given, context, info = await self._spoken(call, "eviction"), call.context("CreateOptions"), call.info
        await evict(self._registry, call.kind, info.namespace, info.name, given, context)
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return responses.value(done, Output(), 201, context.warnings)

    async def bind(self, call: Call) -> web.Response:
        """POST pods/binding or bindings: a scheduler says on which node a pod is to run."""
        given, context, info = await self._spoken(call, "binding"), call.context("CreateOptions"), call.info
        name = info.name or given["metadata"].get("name")
        if not name:
            raise errors.bad_request("Name parameter required.")
        await bind(self._registry, call.kind, info.namespace, name, given, context)
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return responses.value(done, Output(), 201, context.warnings)

    async def token_request(self, call: Call, reviews: Reviews) -> web.Response:
        """POST serviceaccounts/token."""
        given, context, info = await self._spoken(call, "token"), call.context("CreateOptions"), call.info
        reviews.default_token_request(given)
        asked = Attributes("CREATE", call.kind, info.namespace, info.name, given, None, "token", context)
        accept = partial(reviews.accept_token_request, info.namespace, info.name)
        answer = reviews.issue_token(info.namespace, info.name, await self._registry.offer(asked, accept))
        return responses.value(answer, Output(call.output.media_type), 201)

    async def _spoken(self, call: Call, subresource: str) -> Obj:
        """The object in a request to create something through a subresource. Raises 400, 415 for one that is none."""
        spoken = call.kind.subresource(subresource)
        assert spoken is not None
        body = await read_body(call.request)
        given = bodies.decode_object(body, call.media_type if body else JSON, spoken.kind)
        version = f"{spoken.group}/{spoken.version}" if spoken.group else call.kind.resource.api_version
        given.update(apiVersion=version, kind=spoken.kind)
        SPOKEN[spoken.name].decode(given)
        meta.check_identity(child(given, "metadata"), "", call.info.namespace)
        return given

    async def read_scale(self, call: Call) -> web.Response:
        """GET of the scale subresource."""
        kind, info = call.kind, call.info
        stored = self._registry.store.get(Key(kind.store_resource, info.namespace, info.name))
        if stored is None:
            raise errors.not_found(kind.resource.group_resource, info.name)
        shown = await self._registry.views.one(kind, stored)
        scale.check_readable(kind, shown.obj)
        return responses.scale(kind, scale.read(kind, shown.obj), call.output, call.include, kind.warnings)


def _replacement(call: Call, obj: Obj, body: bytes) -> Change:
    """The change to what a body says: first `obj`, which was read from it; if that was in vain, the body read anew."""
    first = iter((obj,))
    return lambda _: next(first, None) or bodies.decode_object(body, call.media_type, call.kind.resource.kind)


def _object(value: Any) -> Obj:
    """What a patch left of an object, if it still is one."""
    if not isinstance(value, dict):
        raise errors.bad_request("the patched object is no object any more")
    return value


def _patched(obj: Obj, patch: list[Any]) -> Obj:
    """The object after a JSON patch, the only one whose result may be deeper than both the object and the patch."""
    result = _object(json_patch(obj, patch))
    bodies.check_depth(result)
    return result


def _gone(kind: Kind, name: str, result: Result) -> Obj:
    obj = responses.served_object(kind, result)
    details: Obj = {"name": name, "kind": kind.resource.plural, "uid": obj["metadata"].get("uid")}
    if kind.resource.group:
        details["group"] = kind.resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
