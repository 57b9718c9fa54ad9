"""Who may approve certificate signing requests for a signer, and who may sign for it.

The right to write `/approval` or `/status` is not enough: it takes the verb `approve` or `sign` on the resource
`signers` of the signer's name, or of all in its domain (`example.com/*`). See Kubernetes' "Certificates and Certificate
Signing Requests: Authorization".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery import errors
from solo.auth.rbac import Authorizer, Deed
from solo.auth.user import User

CERTIFICATES_GROUP = "certificates.k8s.io"
SIGNING_REQUESTS = f"certificatesigningrequests.{CERTIFICATES_GROUP}"

Obj = Mapping[str, Any]


def check_signer(access: Authorizer, user: User, subresource: str, obj: Obj, old: Obj) -> None:
    """Check the update of a signing request, `old` before it. Raises 403; a status of nothing new is everybody's."""
    if subresource == "approval":
        verb = "approve"
    elif subresource == "status" and _signed(obj) != _signed(old):
        verb = "sign"
    else:
        return
    signer = str(obj["spec"]["signerName"])
    names = (signer, f"{signer.partition('/')[0]}/*")
    deeds = [Deed(verb, CERTIFICATES_GROUP, "signers", name=name) for name in names]
    if not any(access.authorize(user, deed)[0] for deed in deeds):
        text = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise errors.forbidden(SIGNING_REQUESTS, obj["metadata"]["name"], text)


def _signed(obj: Obj) -> tuple[Any, Any]:
    status = obj.get("status") or {}
    return status.get("certificate"), status.get("conditions") or []
