"""The end of namespaces, what every namespace has, and aggregated roles; with all controllers at work."""

import time

from kube.machinery.resources import (
    CLUSTERROLES,
    CONFIGMAPS,
    EVENTS,
    NAMESPACES,
    PODS,
    SERVICEACCOUNTS,
)
from unit.controllers.fake_api import WIDGETS, settle, until


def told(api):
    """The conditions of the namespace, by type."""
    return {c["type"]: c for c in (api.find(NAMESPACES, "ns").get("status") or {}).get("conditions") or []}


async def test_namespace_goes_with_all_its_contents(api):
    api.serve(WIDGETS)
    api.put(WIDGETS, "w", "ns")
    api.put(PODS, "pod", "ns", metadata={"finalizers": ["example.com/hold"]})
    api.put(EVENTS, "event", "ns")
    await settle(api)
    await api.delete(NAMESPACES, "ns")
    await until(
        lambda: "pods has 1 resource instances" in told(api).get("NamespaceContentRemaining", {}).get("message", "")
    )
    assert api.names(WIDGETS) and api.names(CONFIGMAPS, "ns")  # what a pod may use stays until it has ended
    conditions = told(api)
    assert "example.com/hold in 1" in conditions["NamespaceFinalizersRemaining"]["message"]
    assert conditions["NamespaceDeletionContentFailure"]["status"] == "False"
    api.edit(PODS, "pod", "ns", metadata={"finalizers": None})
    await until(lambda: not api.find(NAMESPACES, "ns"))
    await settle(api)
    assert not api.names(SERVICEACCOUNTS, "ns") and not api.names(CONFIGMAPS, "ns") and not api.names(WIDGETS)


async def test_an_empty_namespace_goes_at_once(api):
    api.put(NAMESPACES, "other", spec={"finalizers": ["kubernetes"]})
    await until(lambda: api.find(CONFIGMAPS, "kube-root-ca.crt", "other"))
    started = time.monotonic()
    await api.delete(NAMESPACES, "other")
    await until(lambda: not api.find(NAMESPACES, "other"))
    assert time.monotonic() - started < 4
    assert api.find(NAMESPACES, "ns") and api.find(SERVICEACCOUNTS, "default", "ns")


async def test_namespaces_have_their_account_and_ca(api):
    assert api.find(SERVICEACCOUNTS, "default", "ns")
    await api.delete(SERVICEACCOUNTS, "default", "ns")
    await until(lambda: api.find(SERVICEACCOUNTS, "default", "ns"))
    api.edit(CONFIGMAPS, "kube-root-ca.crt", "ns", data={"ca.crt": "forged"})
    await until(lambda: api.find(CONFIGMAPS, "kube-root-ca.crt", "ns")["data"] == {"ca.crt": "CA"})


async def test_aggregated_roles_follow_their_parts(api):
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    api.put(CLUSTERROLES, "view", rules=[], aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]})
    api.put(CLUSTERROLES, "part", rules=[rule], metadata={"labels": {"to": "view"}})
    await until(lambda: api.find(CLUSTERROLES, "view")["rules"] == [rule])
    await api.delete(CLUSTERROLES, "part")
    await until(lambda: api.find(CLUSTERROLES, "view")["rules"] == [])


async def test_an_aggregation_that_cannot_be_read_is_passed_over(api, caplog):
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    unreadable = {"clusterRoleSelectors": [{"matchExpressions": [{"key": "to", "operator": "X"}]}]}
    api.put(CLUSTERROLES, "odd", rules=[rule], aggregationRule=unreadable)
    await settle(api)
    assert api.find(CLUSTERROLES, "odd")["rules"] == [rule]
    told = [record for record in caplog.records if "ClusterRole odd" in record.getMessage()]
    assert [record.exc_info for record in told] == [None]
