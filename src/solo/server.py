"""Puts the parts together: store, certificates, API, controllers and node agent, in the order in which they need
each other, and takes them apart again.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kube.client.config import KubeConfig, write_kubeconfig
from kube.machinery import errors, names
from solo.auth.authn import Authenticator
from solo.auth.escalation import check_escalation
from solo.auth.pki import Pki, PkiError, ensure_pki
from solo.auth.rbac import Authorizer
from solo.auth.rotation import Rotation
from solo.auth.signers import SIGNING_REQUESTS, check_signer
from solo.auth.tokens import TokenAuthority
from solo.auth.user import CONTROLLER_MANAGER, User, node_user
from solo.http.app import Api
from solo.http.connections import Runner
from solo.http.outgoing import WebhookCaller
from solo.http.reviews import Reviews
from solo.registry.addresses import ServiceAddresses
from solo.registry.bootstrap import ensure_api_service, ensure_authentication_info, ensure_bootstrap_objects
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.cleanup import CrdCleaner, expire_events
from solo.registry.limits import LimitAdmission
from solo.registry.mutating_policies import MutatingPolicies
from solo.registry.objects import without
from solo.registry.policies import PolicyAdmission
from solo.registry.priorities import PriorityAdmission
from solo.registry.quota import QuotaAdmission, QuotaKeeper
from solo.registry.registry import Attributes, Registry
from solo.registry.runtimeclasses import RuntimeClassAdmission
from solo.registry.tallies import Tallies
from solo.registry.typechecking import PolicyTypeChecker
from solo.registry.views import Views
from solo.registry.webhooks import MutatingWebhooks, ValidatingWebhooks
from solo.store import Key, Store, StoreError

if TYPE_CHECKING:
    from kube.client.aio import AsyncClient

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 1.0
RESTART_SECONDS = 1.0
_BACKLOG = 512


class StartError(Exception):
    """The server cannot start; the message is one line that says why and what helps."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    data: Path
    listen: str
    port: int
    kubeconfig: Path
    cluster_name: str
    node_name: str


class RoleAdmission:
    """Refuses roles and bindings by which a caller would gain rights."""

    def __init__(self, access: Authorizer) -> None:
        self._access = access

    async def admit(self, attributes: Attributes) -> None:
        if attributes.obj is not None:
            resource = attributes.kind.resource.group_resource
            check_escalation(self._access, attributes.context.user, resource, attributes.obj, attributes.old)


class SignerAdmission:
    """Refuses to judge or sign certificate requests to those who may not for their signer."""

    def __init__(self, access: Authorizer) -> None:
        self._access = access

    async def admit(self, attributes: Attributes) -> None:
        obj, old = attributes.obj, attributes.old
        if attributes.kind.resource.group_resource == SIGNING_REQUESTS and obj is not None and old is not None:
            check_signer(self._access, attributes.context.user, attributes.subresource, obj, old)


class CertificateRequester:
    """Writes into a CertificateSigningRequest who asks."""

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.operation != "CREATE" or attributes.obj is None:
            return
        if attributes.kind.resource.group_resource == SIGNING_REQUESTS:
            user = attributes.context.user
            asked: dict[str, object] = {"username": user.name, "groups": list(user.groups), "uid": user.uid}
            asked["extra"] = {key: list(values) for key, values in user.extra.items()}
            told = {key: value for key, value in asked.items() if value}
            attributes.obj = {**attributes.obj, "spec": {**without(attributes.obj["spec"], *asked), **told}}


class ServiceAccountAdmission:
    """Refuses pods of service accounts that do not exist; `default` comes with its namespace, a moment later."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def admit(self, attributes: Attributes) -> None:
        asked = (attributes.operation, attributes.kind.resource.group_resource, attributes.subresource)
        if asked != ("CREATE", "pods", ""):
            return
        assert attributes.obj is not None
        account = attributes.obj["spec"]["serviceAccountName"]
        namespace = attributes.namespace
        if account != "default" and self._store.get(Key("serviceaccounts", namespace, account)) is None:
            text = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
            raise errors.forbidden("pods", attributes.shown_name, text)


class Server:
    """One running control plane. `start` returns when the API answers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._api: Api | None = None
        self._runner: Runner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[AsyncClient] = []
        self._webhooks: WebhookCaller | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """Where clients find the server."""
        host = self._host
        return f"https://{f'[{host}]' if ':' in host else host}:{self._settings.port}"

    @property
    def _host(self) -> str:
        """The address to be reached at; a wildcard address is reached over loopback."""
        host = self._settings.listen
        address = ipaddress.ip_address(host) if not names.ip_address(host) else None
        if address is not None and address.is_unspecified:
            return "::1" if address.version == 6 else "127.0.0.1"
        return host

    async def start(self) -> None:
        """Open everything and serve.

        Raises:
            StartError: certificates, data or the port cannot be used.
        """
        settings = self._settings
        listener = self._bind()
        try:
            # The store first: data of a newer version is refused before anything is changed.
            database = settings.data / "state.db"
            if (settings.data / "pki").exists() and not database.exists():
                logger.warning("there is no %s, only keys beside it: an empty cluster begins, with them", database)
            self._store = store = Store.open(database)
            pki = self._ensure_pki()
        except (PkiError, StoreError) as problem:
            listener.close()
            raise StartError(str(problem)) from problem
        tokens = TokenAuthority(pki.token_key_pem, self._object_of)
        api, registry = self._assemble(store, tokens)
        tallies = Tallies(store)
        registry.add_commit_check(QuotaAdmission(store, tallies))
        self._api = api
        await ensure_bootstrap_objects(registry)
        await asyncio.gather(
            ensure_api_service(registry, self._host, self._settings.port),
            ensure_authentication_info(registry, pki.ca_pem.decode()),
        )
        self._runner = Runner(api.handle, SHUTDOWN_SECONDS)
        await self._runner.setup()
        self._tls = pki.server_context()
        await web.SockSite(self._runner, listener, ssl_context=self._tls, backlog=_BACKLOG).start()
        try:
            self._write_kubeconfig(pki)
        except OSError as problem:
            path = settings.kubeconfig
            raise StartError(f"cannot write the kubeconfig {path}: {problem.strerror}") from problem
        self._background("custom resource cleanup", CrdCleaner(registry).run)
        self._background("quotas", QuotaKeeper(registry, tallies).run)
        self._background("event expiry", lambda: expire_events(registry))
        self._start_clients(pki, tokens, api)
        self._background("certificate renewal", Rotation(self._ensure_pki, pki, self._renew).run)

    def _ensure_pki(self) -> Pki:
        settings = self._settings
        return ensure_pki(settings.data / "pki", settings.node_name, [settings.listen])

    def _renew(self, old: Pki, new: Pki) -> None:
        """Take up renewed certificates: for connections from now on, those that are open go on. Raises OSError."""
        assert self._tls is not None
        if new.server != old.server:
            self._tls.load_cert_chain(new.server.cert_path, new.server.key_path)
        if new.admin != old.admin:
            self._write_kubeconfig(new)
        logger.info("renewed certificates are in use")

    def _bind(self) -> socket.socket:
        listen, port = self._settings.listen, self._settings.port
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((listen, port))
            listener.listen(_BACKLOG)
        except OSError as problem:
            listener.close()
            if problem.errno == errno.EADDRINUSE:
                raise StartError(f"port {port} on {listen} is already in use") from None
            raise StartError(f"cannot listen on {listen} port {port}: {problem.strerror}") from problem
        if port == 0:
            self._settings = replace(self._settings, port=listener.getsockname()[1])
        return listener

    def _assemble(self, store: Store, tokens: TokenAuthority) -> tuple[Api, Registry]:
        access = Authorizer(store)
        catalog = Catalog(store, builtin_kinds(self._node_view))
        self._webhooks = WebhookCaller(store)
        registry = Registry(store, catalog, views=Views(self._webhooks.post))
        registry.add_admission(RoleAdmission(access))
        registry.add_admission(SignerAdmission(access))
        registry.add_admission(ServiceAccountAdmission(store))
        registry.add_admission(PolicyAdmission(store, catalog, registry.views, access))
        registry.add_admission(PolicyTypeChecker(catalog))
        limits, priorities = LimitAdmission(store), PriorityAdmission(store)
        registry.add_mutation(priorities)
        registry.add_mutation(RuntimeClassAdmission(store))
        registry.add_mutation(limits)
        registry.add_mutation(CertificateRequester())
        registry.add_mutation(MutatingPolicies(store, catalog, registry.views, access))
        registry.add_mutation(MutatingWebhooks(store, catalog, self._webhooks.post, access))
        registry.add_allocation(ServiceAddresses(store))
        registry.add_admission(priorities)
        registry.add_admission(limits)
        registry.add_admission(ValidatingWebhooks(store, catalog, self._webhooks.post, access))
        authenticator = Authenticator(tokens)
        reviews = Reviews(store, access, tokens)
        address = f"{self._settings.listen}:{self._settings.port}"
        return Api(store, catalog, registry, authenticator, access, reviews, address), registry

    def _node_view(self) -> tuple[str, Mapping[str, str]]:
        """The node's name and labels; before the agent has registered it, what is sure to be among them."""
        name = self._settings.node_name
        assert self._store is not None
        stored = self._store.get(Key("nodes", "", name))
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        return name, {**labels, **((stored.obj["metadata"].get("labels") or {}) if stored else {})}

    def _object_of(self, resource: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        assert self._store is not None
        stored = self._store.get(Key(resource, namespace, name))
        return stored.obj if stored else None

    def _write_kubeconfig(self, pki: Pki) -> None:
        settings = self._settings
        settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        write_kubeconfig(
            str(settings.kubeconfig),
            cluster=settings.cluster_name,
            # Not the same in every cluster: of several files in $KUBECONFIG, the first to name a user wins.
            user=f"{settings.cluster_name}-admin",
            server=self.url,
            ca_pem=pki.ca_pem,
            cert_pem=pki.admin.cert_pem,
            key_pem=pki.admin.key_pem,
        )

    def _start_clients(self, pki: Pki, tokens: TokenAuthority, api: Api) -> None:
        """The controllers and the node agent: clients like any other, with rights of their own."""
        from solo.controllers import run_all
        from solo.node.agent import NodeAgent

        settings = self._settings
        controllers = self._client(pki, CONTROLLER_MANAGER, "kube-controller-manager")
        self._background("controllers", lambda: run_all(controllers, settings.node_name, tokens.issue_for_secret))
        client = self._client(pki, node_user(settings.node_name), "kubelet")
        agent = NodeAgent(client, settings.node_name, settings.data / "pods", self.url, pki.ca_pem)
        api.pods.streams = agent.streams
        self._background("node agent", agent.run)

    def _client(self, pki: Pki, user: User, user_agent: str) -> AsyncClient:
        from kube.client.aio import AsyncClient
        from solo.http import inprocess

        assert self._runner is not None
        accept = partial(self._runner.accept, user)
        config = KubeConfig(server=inprocess.URL, ca_data=pki.ca_pem, source="the server's own process")
        client = AsyncClient(config, user_agent=user_agent, connector=lambda: inprocess.InProcess(accept))
        self._clients.append(client)
        return client

    def _background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.create_task(_keep_running(name, work), name=name))

    async def stop(self) -> None:
        """Stop serving. Pods go on running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            await client.close()
        if self._api is not None:
            self._api.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._webhooks is not None:
            await self._webhooks.close()
        if self._store is not None:
            await self._store.close()


async def _keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Start `work` again when it fails: nothing here may die silently."""
    while True:
        try:
            await work()
            logger.error("%s ended; starting it again", name)
        except Exception:
            logger.exception("%s failed; starting it again", name)
        await asyncio.sleep(RESTART_SECONDS)
