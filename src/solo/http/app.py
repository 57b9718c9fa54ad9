"""The front of the API server: every request passes here. Who is it, what does it want, may it, who answers.

A path parser of our own and no routes: the table of kinds changes while the server runs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.resources import NAMESPACES, PODS
from solo.auth.authn import Authenticator, User
from solo.auth.rbac import Authorizer, Deed
from solo.auth.tokens import ISSUER
from solo.http import bodies, health, paths, responses
from solo.http.connections import Connection
from solo.http.deadlines import wanted_seconds, within
from solo.http.discovery import BINDINGS, REVIEWS, Discovery, version_info
from solo.http.impersonation import impersonated
from solo.http.indentation import indented, wants_indented
from solo.http.lists import Lister, parse_version, require_reached
from solo.http.negotiation import Output, choose_output, media_type_of, require_stream
from solo.http.openapi import OpenApi
from solo.http.paths import RequestInfo
from solo.http.pods import PodHandlers, connect_options
from solo.http.reviews import Reviews
from solo.http.selection import Selection, read_selection
from solo.http.watches import Watcher, WatchOptions
from solo.http.writes import Call, Writer, read_body
from solo.registry.catalog import Catalog
from solo.registry.context import RequestContext
from solo.registry.kinds import Kind
from solo.registry.registry import Registry
from solo.store import Key, Store

logger = logging.getLogger(__name__)

_BINDINGS = (BINDINGS.group, BINDINGS.version, BINDINGS.plural)
_REVIEW_KINDS = {(item.group, item.version, item.plural): item for item in REVIEWS}


class Api:
    """The request handler and the parts it hands requests to."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        registry: Registry,
        authenticator: Authenticator,
        access: Authorizer,
        reviews: Reviews,
        address: str,
    ) -> None:
        self._store = store
        self._registry = registry
        self._catalog = catalog
        self._authenticator = authenticator
        self._access = access
        self._reviews = reviews
        self._discovery = Discovery(catalog, address)
        self._openapi = OpenApi(catalog)
        self._stopping = False
        self._health = health.Health(lambda: store.writable, lambda: not self._stopping)
        self._views = registry.views
        self._lister = Lister(store, registry.views)
        self._watcher = Watcher(store, registry.views)
        self._writer = Writer(registry, self._authorize)
        self.pods = PodHandlers()

    def stop(self) -> None:
        """End the streams that would go on by themselves."""
        self._stopping = True
        self._watcher.stop()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        answer = await self._answer(request)
        return await indented(answer) if wants_indented(request) else answer

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """What a request is answered; errors become a `Status`."""
        try:
            path = request.raw_path.partition("?")[0]
            info = paths.parse(request.method, path)
            seconds = wanted_seconds(request, info)
            answer = self._route(request, path, info)
            return await (answer if seconds is None else within(seconds, answer))
        except StatusError as problem:
            return responses.status_error(problem, request.get("warnings", ()))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return responses.status_error(errors.internal("an unexpected error, which is in the server's log"))

    async def _route(self, request: web.BaseRequest, path: str, info: RequestInfo | None) -> web.StreamResponse:
        if info is None or not info.resource:
            verb = request.method.lower()
            deed = Deed("get" if verb == "head" else verb, path=path)
            self._access.require(self._caller(request, deed), deed)
            return self._plain(request)
        self._read_watch(request, info)
        deed = _deed(info)
        user = self._caller(request, deed)
        self._access.require(user, deed)
        if request.method not in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            raise errors.method_not_allowed(request.method, info.resource)
        review = _REVIEW_KINDS.get((info.group, info.version, info.resource))
        if review is not None:
            return await self._review(request, info, user)
        kind = self._catalog.lookup(info.group, info.version, info.resource)
        if kind is None and (info.group, info.version, info.resource) == _BINDINGS and info.namespace:
            return await self._bind(request, info, user)
        if kind is None or not _placed(kind, info):
            return _not_found_page()
        if not kind.resource.namespaced:
            info.namespace = ""
        return await self._resource(request, info, kind, user)

    def _caller(self, request: web.BaseRequest, deed: Deed) -> User:
        user = cast(Connection, request.protocol).user
        if user is None:
            transport = request.transport
            certificate = transport.get_extra_info("peercert") if transport is not None else None
            user = self._authenticator.authenticate(certificate, request.headers.get("Authorization"))
        return impersonated(user, request.headers, self._access, deed)

    def _read_watch(self, request: web.BaseRequest, info: RequestInfo) -> None:
        """A list is a watch if the query says so; a field selector on the name counts as naming the object, whatever
        else it selects by (apiserver `RequestInfoFactory`)."""
        if info.verb != "list":
            return
        query = request.query
        if paths.asks_to_watch(query):
            info.verb = "watch"
        selector = query.get("fieldSelector") or ""
        if "metadata.name=" in selector and "\\" not in selector:  # no comma is part of a value
            names = [term for term in selector.split(",") if term.startswith("metadata.name=")]
            info.name = names[0].removeprefix("metadata.name=").lstrip("=") if names else ""

    def _authorize(self, user: User, info: RequestInfo) -> None:
        self._access.require(user, _deed(info))

    # ---- paths that are no resources

    def _plain(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path.partition("?")[0]
        parts = [part for part in path.split("/") if part]
        if not parts:
            return responses.document({"paths": self._index()})
        if parts[0] in ("api", "apis"):
            try:
                return self._discovery.answer(request, parts)
            except StatusError as problem:
                if problem.code != 404:
                    raise
                return _not_found_page()
        if parts == ["version"]:
            return responses.document(version_info())
        if parts[0] in health.ENDPOINTS:
            return self._health.answer(request, parts)
        if parts == [".well-known", "openid-configuration"]:
            return responses.value(_issuer(f"https://{request.host}"), Output())
        if parts == ["openid", "v1", "jwks"]:
            answer = responses.value(self._reviews.key_set(), Output())
            answer.content_type = "application/jwk-set+json"
            return answer
        if parts[0] == "openapi":
            return self._openapi.answer(request, parts)
        return _not_found_page()

    def _index(self) -> list[str]:
        found = ["/api", "/api/v1", "/apis"]
        for group, versions in self._catalog.groups().items():
            if group:
                found += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
        return [*found, "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]

    async def _review(self, request: web.BaseRequest, info: RequestInfo, user: User) -> web.Response:
        if info.verb != "create":
            raise errors.method_not_allowed(info.verb, info.resource)
        review = _REVIEW_KINDS[info.group, info.version, info.resource]
        body = await read_body(request)
        media_type = media_type_of(request.headers.get("Content-Type") or "")
        obj = bodies.decode_object(body, media_type, review.kind)
        obj.setdefault("kind", review.kind)
        obj.setdefault("apiVersion", review.api_version)
        if (obj["apiVersion"], obj["kind"]) != (review.api_version, review.kind):
            raise errors.bad_request(f"the object must be a {review.kind} of {review.api_version}")
        output = choose_output(request.headers.get("Accept") or "", transforms=False, protobuf=True)
        answer = self._reviews.answer(review.plural, obj, info.namespace, user)
        return responses.value(answer, Output(output.media_type), 201)

    async def _bind(self, request: web.BaseRequest, info: RequestInfo, user: User) -> web.Response:
        """POST of a Binding, which names its pod itself."""
        if info.verb != "create" or info.name:
            raise errors.method_not_allowed(info.verb, info.resource)
        pods = self._catalog.lookup(PODS.group, PODS.version, PODS.plural)
        assert pods is not None
        output = choose_output(request.headers.get("Accept") or "", protobuf=True)
        return await self._writer.bind(Call(request, info, pods, user, output))

    # ---- resources

    async def _resource(
        self, request: web.BaseRequest, info: RequestInfo, kind: Kind, user: User
    ) -> web.StreamResponse:
        if info.subresource in ("log", "exec", "attach", "portforward") and kind.store_resource == PODS.group_resource:
            return await self._stream(request, info, kind, user)
        request["warnings"] = kind.warnings  # for an error
        output = choose_output(request.headers.get("Accept") or "", protobuf=not kind.custom)
        call = Call(request, info, kind, user, output)
        if info.subresource:
            return await self._subresource(call)
        if info.verb not in kind.verbs and not kind.custom:  # an ending definition has fewer in discovery only
            raise errors.method_not_allowed(info.verb, kind.resource.group_resource)
        if info.verb == "list" or info.verb == "watch":
            return await self._collection(call)
        if info.verb == "deletecollection":
            page, meta = await self._lister.page(kind, info.namespace or None, self._selection(call), request.query)
            return await self._writer.delete_collection(call, page, meta)
        if info.verb == "create" and info.name and not kind.custom:
            raise errors.method_not_allowed("create", kind.resource.group_resource)
        if info.verb not in ("create", "get") and not info.name:
            raise errors.method_not_allowed(info.verb, kind.resource.group_resource)
        handlers: dict[str, Callable[[Call], Awaitable[web.StreamResponse]]] = {
            "get": self._read,
            "create": self._writer.create,
            "update": self._writer.update,
            "patch": self._writer.patch,
            "delete": self._writer.delete,
        }
        return await handlers[info.verb](call)

    async def _read(self, call: Call) -> web.Response:
        """An object, or the scale that it has, at least as fresh as the query wants it."""
        version = call.request.query.get("resourceVersion")
        if version:
            require_reached(self._store, parse_version(version))
        return await (self._writer.read_scale(call) if call.info.subresource == "scale" else self._get(call))

    async def _get(self, call: Call) -> web.Response:
        info, kind = call.info, call.kind
        stored = self._store.get(Key(kind.store_resource, info.namespace, info.name))
        if stored is None:
            raise errors.not_found(kind.resource.group_resource, info.name)
        shown = await self._views.one(kind, stored)
        return responses.one(kind, shown, call.output, call.include, 200, kind.warnings)

    def _selection(self, call: Call) -> Selection:
        query, info = call.request.query, call.info
        fields = [query.get("fieldSelector") or ""]
        if info.verb == "watch" and info.name:
            # A path with /watch/ in it names an object. What was allowed is to watch that one, whatever the query says.
            fields.append(f"metadata.name={info.name}")
        return read_selection(call.kind, query.get("labelSelector") or "", ",".join(filter(None, fields)))

    async def _collection(self, call: Call) -> web.StreamResponse:
        kind, query = call.kind, call.request.query
        selection = self._selection(call)
        namespace = call.info.namespace or None
        if call.info.verb == "watch":
            options = WatchOptions.read(query)
            require_stream(call.output)
            return await self._watcher.serve(call.request, kind, namespace, selection, call.output, options)
        page, meta = await self._lister.page(kind, namespace, selection, query)
        return responses.many(kind, page, meta, call.output, call.include, kind.warnings)

    async def _stream(self, request: web.BaseRequest, info: RequestInfo, kind: Kind, user: User) -> web.StreamResponse:
        place, subresource = (info.namespace, info.name), info.subresource
        # The verb that was authorized has to be that of what happens: a DELETE of pods/exec must not run anything.
        if info.verb != ("get" if subresource == "log" else "create"):
            raise errors.method_not_allowed(info.verb, PODS.group_resource)
        pod = self._store.get(Key("pods", *place))
        if pod is None:
            raise errors.not_found("pods", info.name)
        if subresource != "log":
            options = connect_options(subresource, request.query)
            await self._registry.connect(kind, *place, subresource, options, RequestContext(user))
        handlers = {
            "log": self.pods.log,
            "exec": self.pods.exec,
            "attach": self.pods.attach,
            "portforward": self.pods.port_forward,
        }
        return await handlers[subresource](request, pod.obj)

    async def _subresource(self, call: Call) -> web.StreamResponse:
        info, kind = call.info, call.kind
        found = kind.subresource(info.subresource)
        if found is None:
            raise errors.path_not_found()  # without details: so `kubectl debug` knows that it is the subresource
        if info.verb not in found.verbs:
            raise errors.method_not_allowed(info.verb, kind.resource.group_resource)
        if info.subresource == "token":
            return await self._writer.token_request(call, self._reviews)
        if info.subresource == "eviction":
            return await self._writer.evict(call)
        if info.subresource == "binding":
            return await self._writer.bind(call)
        if info.verb == "get":
            return await self._read(call)
        return await (self._writer.update(call) if info.verb == "update" else self._writer.patch(call))


def _deed(info: RequestInfo) -> Deed:
    return Deed(info.verb, info.group, info.resource, info.subresource, info.namespace, info.name)


def _placed(kind: Kind, info: RequestInfo) -> bool:
    """Whether a path addresses a kind where it lives. Raises 405 for a write across all namespaces."""
    if not kind.resource.namespaced:
        # A namespace's own path names it twice. Rights in it are none on another's, so /namespaces/a/namespaces/b is
        # nothing.
        twice = kind.store_resource == NAMESPACES.group_resource and info.namespace == info.name
        return twice or not info.namespace
    if info.namespace:
        return True
    if info.name and info.verb not in ("list", "watch"):
        return False
    if info.verb not in ("list", "watch"):
        raise errors.method_not_allowed(info.verb, kind.resource.group_resource)
    return True


def _issuer(server: str) -> dict[str, Any]:
    """What verifiers of service account tokens ask for (OpenID Connect Discovery 1.0)."""
    return {
        "issuer": ISSUER,
        "jwks_uri": f"{server}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def _not_found_page() -> web.Response:
    """What kube-apiserver answers where nothing is served."""
    return web.Response(status=404, text="404 page not found\n")
