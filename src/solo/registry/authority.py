"""The variable `authorizer` of admission expressions, answered by the rights of this server."""

from __future__ import annotations

from kube.machinery.cel.authorizer import Authorizer, Question
from solo.auth.rbac import Authorizer as Access
from solo.auth.rbac import Deed
from solo.auth.user import User, service_account_groups
from solo.registry.registry import Attributes


def authorizer_of(access: Access, attributes: Attributes) -> Authorizer:
    """What a request's expressions may ask of its user's rights."""
    resource = attributes.kind.resource
    request = Question(
        verb=attributes.operation.lower(),
        group=resource.group,
        resource=resource.plural,
        subresource=attributes.subresource,
        namespace=attributes.namespace,
        name=attributes.name,
    )
    user = attributes.context.user

    def answer(question: Question) -> tuple[bool, str]:
        asking = _account(question.account) if question.account else user
        asked = (question.group, question.resource, question.subresource, question.namespace, question.name)
        return access.authorize(asking, Deed(question.verb, *asked, question.path))

    return Authorizer(answer, request=request)


def _account(name: str) -> User:
    """The user that a service account is."""
    return User(name, service_account_groups(name.split(":")[2]))
