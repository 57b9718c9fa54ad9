"""Secrets of the type `kubernetes.io/service-account-token`: filled with a token of their account, and removed with it
(kube-controller-manager's `pkg/controller/serviceaccount/tokens_controller.go`).

The token is good while the Secret holds it: one that is taken out of it, by hand, is replaced by another.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.resources import SECRETS, SERVICEACCOUNTS
from solo.controllers.ownership import Place
from solo.controllers.pods import place_of, read
from solo.controllers.watches import Obj, Watches

TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
IssueToken = Callable[[str, str, str, str], str]
"""Makes a token of (namespace, account, its uid, Secret)."""


class TokenController:
    """Takes (namespace, name) of Secrets."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place], issue: IssueToken) -> None:
        self._client = client
        self._queue = queue
        self._issue = issue
        self._ca = client.config.ca_data or b""
        self._accounts: dict[Place, Place] = {}
        """The account of each such Secret."""
        watches.subscribe(SECRETS, self._on_secret)
        watches.subscribe(SERVICEACCOUNTS, self._on_account)

    def _on_secret(self, kind: str, secret: Obj, old: Obj | None) -> None:
        place = place_of(secret)
        if kind == "DELETED" or secret.get("type") != TYPE:
            self._accounts.pop(place, None)
            return
        self._accounts[place] = (place[0], _annotations(secret).get(NAME, ""))
        self._queue.add(place)

    def _on_account(self, kind: str, account: Obj, old: Obj | None) -> None:
        if kind == "DELETED":
            for secret, of in self._accounts.items():
                if of == place_of(account):
                    self._queue.add(secret)

    async def reconcile(self, place: Place) -> float | None:
        """Fill one Secret, or delete it when its account is not there (any more)."""
        secret = await read(self._client, SECRETS, place)
        if secret is None or secret.get("type") != TYPE or secret["metadata"].get("deletionTimestamp"):
            return None
        name = _annotations(secret).get(NAME, "")
        account = await read(self._client, SERVICEACCOUNTS, (place[0], name))
        uid = account["metadata"]["uid"] if account is not None else None
        try:
            if uid is None or _annotations(secret).get(UID, uid) != uid:
                await self._client.delete(SECRETS, place[1], place[0], uid=secret["metadata"]["uid"])
            else:
                await self._fill(secret, name, uid)
        except StatusError as exc:
            if exc.code not in (404, 409):  # it, or its account, has gone meanwhile; a change brings it back here
                raise
        return None

    async def _fill(self, secret: Obj, account: str, uid: str) -> None:
        meta, present = secret["metadata"], secret.get("data") or {}
        wanted = {"ca.crt": _encoded(self._ca), "namespace": _encoded(meta["namespace"].encode())}
        missing = {key: value for key, value in wanted.items() if present.get(key) != value}
        if not present.get("token"):
            token = self._issue(meta["namespace"], account, uid, meta["name"])
            missing["token"] = _encoded(token.encode())
        if missing or UID not in _annotations(secret):
            body = {"metadata": {"uid": meta["uid"], "annotations": {UID: uid}}, "data": missing}
            await self._client.patch(SECRETS, meta["name"], body, meta["namespace"])


def _annotations(secret: Obj) -> Obj:
    return secret["metadata"].get("annotations") or {}


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
