"""Quotas as kubectl meets them: what they refuse, and what their status says."""

from __future__ import annotations


def test_a_quota_holds_and_tells(cluster, namespace):
    hard = "--hard=secrets=2,services.loadbalancers=1"
    cluster.kubectl("create", "quota", "q", hard, "-n", namespace)
    cluster.kubectl("create", "secret", "generic", "a", "-n", namespace)
    assert "already exists" in cluster.fails("create", "secret", "generic", "a", "-n", namespace)
    cluster.kubectl("create", "secret", "generic", "b", "-n", namespace)
    refused = cluster.fails("create", "secret", "generic", "c", "--dry-run=server", "-n", namespace)
    assert "exceeded quota: q, requested: secrets=1, used: secrets=2" in refused
    cluster.kubectl("create", "service", "loadbalancer", "one", "--tcp=80", "-n", namespace)
    cluster.kubectl("create", "service", "clusterip", "two", "--tcp=80", "-n", namespace)
    change = ("patch", "service", "two", "-p", '{"spec":{"type":"LoadBalancer"}}', "-n", namespace)
    assert "exceeded quota: q, requested: services.loadbalancers=1" in cluster.fails(*change)
    cluster.kubectl("delete", "service", "one", "-n", namespace)
    cluster.kubectl(*change)
    for used in (r"{.status.used.secrets}=2", r"{.status.used.services\.loadbalancers}=1"):
        cluster.kubectl("wait", "quota", "q", "-n", namespace, f"--for=jsonpath={used}", "--timeout=20s")
