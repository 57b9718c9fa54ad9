"""What EndpointSlices and Endpoints hold: which pods, in what state, in how many slices."""

from __future__ import annotations

from solo.controllers import endpoint_rules as rules


def service(**spec):
    ports = [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {"metadata": {"name": "s", "namespace": "ns", "uid": "u"}, "spec": {"ports": ports, **spec}}


def pod(name, *, ready=True, ip="127.0.0.1", phase="Running", ending=False, ports=(("http", 8080),), **spec):
    containers = [{"ports": [{"name": port, "containerPort": number} for port, number in ports]}]
    status = {"phase": phase, "podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]}
    metadata = {"name": name, "namespace": "ns", "uid": name}
    if ending:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": metadata, "spec": {"containers": containers, **spec}, "status": status}


def shown(slices):
    """Name of the pod: ready, serving, terminating."""
    return {
        point["targetRef"]["name"]: tuple(point["conditions"][key] for key in ("ready", "serving", "terminating"))
        for slice_ in slices
        for point in slice_["endpoints"]
    }


PODS = [
    pod("ready"),
    pod("unready", ready=False),
    pod("ending", ending=True),
    pod("ended", phase="Succeeded"),
    pod("nowhere", ip=""),
    pod("other", ports=[("grpc", 1)]),
]


def test_which_pods_are_ready():
    expected = {"ready": (True, True, False), "unready": (False, False, False), "ending": (False, True, True)}
    assert shown(rules.slices(service(), PODS)) == expected
    (subset,) = rules.subsets(service(), PODS)
    assert [address["targetRef"]["name"] for address in subset["addresses"]] == ["ready"]
    assert [address["targetRef"]["name"] for address in subset["notReadyAddresses"]] == ["unready"]
    assert subset["ports"] == [{"name": "web", "port": 8080, "protocol": "TCP"}]


def test_all_pods_can_be_published():
    made = service(publishNotReadyAddresses=True)
    assert {name: state[0] for name, state in shown(rules.slices(made, PODS)).items()} == dict.fromkeys(
        ("ready", "unready", "ending"), True
    )
    (subset,) = rules.subsets(made, PODS)
    assert len(subset["addresses"]) == 3 and "notReadyAddresses" not in subset


def test_a_slice_holds_only_so_many():
    sizes = [len(each["endpoints"]) for each in rules.slices(service(), [pod(f"p{n:03}") for n in range(230)])]
    assert sizes == [100, 100, 30]
    (empty,) = rules.slices(service(), [])
    assert (empty["endpoints"], empty["ports"], empty["addressType"]) == ([], [], "IPv4")


def test_families_and_names_of_hosts():
    members = [pod("four", hostname="a", subdomain="s"), pod("six", ip="::1", hostname="b", subdomain="other")]
    found = {each["addressType"]: each["endpoints"][0] for each in rules.slices(service(clusterIP="None"), members)}
    assert found["IPv4"]["hostname"] == "a" and "hostname" not in found["IPv6"]
    assert all(
        "service.kubernetes.io/headless" in each["metadata"]["labels"]
        for each in rules.slices(service(clusterIP="None"), [])
    )


def test_what_is_not_mirrored():
    endpoints = {"metadata": {"name": "s", "uid": "e"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "x"}]}]}
    (mirror,) = rules.mirrored(service(), endpoints)
    assert [point["addresses"] for point in mirror["endpoints"]] == [["10.0.0.1"]]
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
    skipped = {**endpoints, "metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}
    assert rules.mirrored(service(), skipped) == rules.mirrored(service(), None) == []
    assert rules.mirrored(service(selector={"a": "b"}), endpoints) == []


def test_a_port_that_is_reached_under_another_number():
    """As the pod says it of its own address; what it says of others counts for nothing."""
    moved = {"containerPort": 22, "hostPort": 10022}
    members = [pod(name, ip="127.64.0.9") for name in ("moved", "foreign", "plain")]
    for member, address in zip(members, ("127.64.0.9", "127.64.0.8"), strict=False):
        member["spec"]["containers"][0]["ports"].append({**moved, "hostIP": address})
    made = service(ports=[{"name": "ssh", "port": 22, "targetPort": 22, "protocol": "TCP"}])
    found = {each["ports"][0]["port"]: each["endpoints"] for each in rules.slices(made, members)}
    assert {port: [point["targetRef"]["name"] for point in points] for port, points in found.items()} == {
        22: ["foreign", "plain"],
        10022: ["moved"],
    }
