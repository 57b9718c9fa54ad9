"""Service-account tokens and the authentication of requests."""

import base64
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from kube.machinery.durations import rfc3339
from kube.machinery.errors import StatusError
from solo.auth.authn import Authenticator, bearer_token, certificate_user
from solo.auth.pki import ensure_pki
from solo.auth.subjects import INVALID_SINCE, TokenError
from solo.auth.tokens import ISSUER, BoundObject, TokenAuthority


@pytest.fixture(scope="module")
def key_pem(tmp_path_factory):
    return ensure_pki(tmp_path_factory.mktemp("pki"), "host").token_key_pem


@pytest.fixture
def objects():
    return {("serviceaccounts", "ns", "app"): obj("uid-1"), ("pods", "ns", "web"): obj("uid-2")}


def obj(uid, **fields):
    return {"metadata": {"uid": uid, **fields}}


@pytest.fixture
def tokens(key_pem, objects):
    return TokenAuthority(key_pem, lambda *place: objects.get(place))


def test_a_token_names_its_account_and_pod(tokens):
    token, expires = tokens.issue("ns", "app", "uid-1", pod=BoundObject("web", "uid-2"))
    assert abs(expires - time.time() - 3600) < 5
    user = tokens.verify(token)
    assert user.name == "system:serviceaccount:ns:app" and user.uid == "uid-1"
    assert set(user.groups) == {"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("web",)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == ISSUER and claims["kubernetes.io"]["pod"] == {"name": "web", "uid": "uid-2"}


def test_a_token_ends_with_its_account(tokens, objects):
    token, _ = tokens.issue("ns", "app", "uid-1")
    tokens.verify(token)
    objects["serviceaccounts", "ns", "app"] = obj("uid-9")
    with pytest.raises(TokenError, match="service account"):
        tokens.verify(token)


def test_a_token_ends_with_its_pod(tokens, objects):
    token, _ = tokens.issue("ns", "app", "uid-1", pod=BoundObject("web", "uid-2"))
    del objects["pods", "ns", "web"]
    with pytest.raises(TokenError, match="pod"):
        tokens.verify(token)


def test_a_token_of_a_pod_that_is_held_by_a_finalizer_ends_a_minute_after_it(tokens, objects):
    token, _ = tokens.issue("ns", "app", "uid-1", pod=BoundObject("web", "uid-2"))
    for seconds, good in ((20, True), (-40, True), (-80, False)):
        until = rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
        objects["pods", "ns", "web"] = obj("uid-2", deletionTimestamp=until)
        with nullcontext() if good else pytest.raises(TokenError, match="pod"):
            tokens.verify(token)


def test_a_token_in_a_secret_is_good_while_the_secret_holds_it(tokens, objects):
    def held(given, **metadata):
        data = {"token": base64.b64encode(given.encode()).decode()}
        objects["secrets", "ns", "s"] = {**obj("uid-3", **metadata), "data": data}

    token = tokens.issue_for_secret("ns", "app", "uid-1", "s")
    with pytest.raises(TokenError, match="secret no longer exists"):
        tokens.verify(token)
    held(token)
    user = tokens.verify(token)
    assert (user.name, user.uid, user.extra) == ("system:serviceaccount:ns:app", "uid-1", {})
    with pytest.raises(TokenError, match="audience"):
        tokens.verify(token, ["vault"])
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:ns:app",
        "kubernetes.io/serviceaccount/namespace": "ns",
        "kubernetes.io/serviceaccount/secret.name": "s",
        "kubernetes.io/serviceaccount/service-account.name": "app",
        "kubernetes.io/serviceaccount/service-account.uid": "uid-1",
    }
    for other in ("", "x", "%%"):
        held(other)
        with pytest.raises(TokenError, match="not the one"):
            tokens.verify(token)
    held(token, labels={INVALID_SINCE: "2026-01-01"})
    with pytest.raises(TokenError, match="label"):
        tokens.verify(token)
    held(token, deletionTimestamp=rfc3339(datetime.now(UTC)))
    with pytest.raises(TokenError, match="secret"):
        tokens.verify(token)
    held(token)
    objects["serviceaccounts", "ns", "app"] = obj("uid-9")
    with pytest.raises(TokenError, match="service account"):
        tokens.verify(token)


def test_a_token_without_an_end_is_refused(tokens):
    claims = jwt.decode(tokens.issue("ns", "app", "uid-1")[0], options={"verify_signature": False})
    del claims["exp"]
    with pytest.raises(TokenError, match="MissingRequiredClaim"):
        tokens.verify(tokens._signed(claims))


def test_a_remembered_token_still_expires(tokens, monkeypatch):
    token, expires = tokens.issue("ns", "app", "uid-1", lifetime=600)
    tokens.verify(token)
    monkeypatch.setattr("solo.auth.tokens.time.time", lambda: expires + 60.0)
    with pytest.raises(TokenError, match="expired"):
        tokens.verify(token)


def test_an_expired_token_is_refused_at_first_sight(tokens):
    token, _ = tokens.issue("ns", "app", "uid-1", lifetime=-600)
    with pytest.raises(TokenError, match="Expired"):
        tokens.verify(token)


def test_audiences(tokens):
    token, _ = tokens.issue("ns", "app", "uid-1", audiences=["vault"])
    with pytest.raises(TokenError, match="audience"):
        tokens.verify(token)
    assert tokens.verify(token, ["vault", "x"]).name == "system:serviceaccount:ns:app"


def test_forged_tokens_are_refused(tokens, tmp_path):
    forger = TokenAuthority(ensure_pki(tmp_path, "host").token_key_pem, lambda *place: obj("uid-1"))
    token, _ = tokens.issue("ns", "app", "uid-1")
    claims = jwt.decode(token, options={"verify_signature": False})
    for bad in (
        forger.issue("ns", "app", "uid-1")[0],
        jwt.encode(claims, "secret" * 8, algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        token[:-4],
        "x",
    ):
        with pytest.raises(TokenError):
            tokens.verify(bad)


def test_authentication_order(tokens):
    authenticator = Authenticator(tokens)
    token, _ = tokens.issue("ns", "app", "uid-1")
    certificate = {
        "subject": ((("organizationName", "ops"),), (("organizationName", "dev"),), (("commonName", "bob"),))
    }
    assert authenticator.authenticate(certificate, f"Bearer {token}").name == "bob"
    assert authenticator.authenticate(None, f"bearer  {token}").name == "system:serviceaccount:ns:app"
    anonymous = authenticator.authenticate(None, None)
    assert anonymous.name == "system:anonymous" and anonymous.groups == ("system:unauthenticated",)
    with pytest.raises(StatusError) as caught:
        authenticator.authenticate(None, "Bearer nonsense")
    assert caught.value.code == 401
    assert certificate_user(certificate).groups == ("ops", "dev", "system:authenticated")


def test_odd_credentials():
    assert certificate_user({"subject": ((("organizationName", "ops"),),)}) is None
    assert bearer_token("Basic abc") is None and bearer_token("Bearer ") is None and bearer_token(None) is None
