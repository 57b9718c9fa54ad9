"""Services over the wire: what they are given, and where their endpoints lead."""

from __future__ import annotations

import time
from urllib.parse import quote

from compat.conftest import sleeping_pod

MERGE = {"Content-Type": "application/merge-patch+json"}
SLICES = "/apis/discovery.k8s.io/v1/namespaces"


def until(condition, timeout=15.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
    return value


def slices(wire, namespace, service):
    selector = quote(f"kubernetes.io/service-name={service}")
    return wire("GET", f"{SLICES}/{namespace}/endpointslices?labelSelector={selector}")[1]["items"]


def points(wire, namespace, service):
    """Ready endpoints of a Service: names of pods, with the port that its first port leads to."""
    return {
        (point["targetRef"]["name"], each["ports"][0]["port"])
        for each in slices(wire, namespace, service)
        for point in each.get("endpoints") or []
        if point["conditions"]["ready"]
    }


def backend(name, port, *, ready=""):
    """A pod of `app: web` with a port called `http`; it is ready once there is the file `ready`."""
    pod = sleeping_pod(name)
    pod["metadata"]["labels"] = {"app": "web"}
    (container,) = pod["spec"]["containers"]
    container["ports"] = [{"name": "http", "containerPort": port}]
    if ready:
        container["readinessProbe"] = {"exec": {"command": ["test", "-f", ready]}, "periodSeconds": 1}
    return pod


def test_addresses_and_ports_are_given_out_once(wire, namespace):
    """Service type transitions (ExternalName, ClusterIP, NodePort) and allocation of what is asked for."""
    path = f"/api/v1/namespaces/{namespace}/services"
    spec = {"type": "ExternalName", "externalName": "example.com"}
    _, made = wire("POST", path, {"metadata": {"name": "a"}, "spec": spec})
    assert "clusterIP" not in made["spec"]
    made["spec"] = {"type": "NodePort", "ports": [{"port": 80}]}
    _, made = wire("PUT", f"{path}/a", made)
    address, number = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
    assert made["spec"]["clusterIPs"] == [address] and 30000 <= number <= 32767
    assert (made["spec"]["ipFamilies"], made["spec"]["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    for wanted in ({"clusterIP": address}, {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}):
        code, refused = wire("POST", path, {"metadata": {"name": "b"}, "spec": {"ports": [{"port": 80}], **wanted}})
        assert code == 422 and "is already allocated" in refused["message"]
    # What a client leaves out, or cannot know, stays; an address never changes.
    code, same = wire("PUT", f"{path}/a", {**made, "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
    assert (same["spec"]["clusterIP"], same["spec"]["ports"][0]["nodePort"]) == (address, number)
    code, refused = wire("PATCH", f"{path}/a", {"spec": {"clusterIP": "127.32.0.9"}}, MERGE)
    assert code == 422 and "may not change once set" in refused["message"]
    _, plain = wire("PATCH", f"{path}/a", {"spec": {"type": "ClusterIP"}}, MERGE)
    assert "nodePort" not in plain["spec"]["ports"][0] and plain["spec"]["clusterIP"] == address
    _, external = wire("PATCH", f"{path}/a", {"spec": {"type": "ExternalName", "externalName": "x.example.com"}}, MERGE)
    assert not {"clusterIP", "clusterIPs", "ipFamilies"} & external["spec"].keys()
    # Free again, the address can be had by name.
    code, taken = wire(
        "POST", path, {"metadata": {"name": "b"}, "spec": {"ports": [{"port": 1}], "clusterIP": address}}
    )
    assert code == 201 and taken["spec"]["clusterIPs"] == [address]


def test_a_range_of_addresses_is_added(wire, namespace):
    """ServiceCIDR API: the default one exists, another one is ready and in use at once."""
    ranges, services = "/apis/networking.k8s.io/v1/servicecidrs", f"/api/v1/namespaces/{namespace}/services"
    assert wire("GET", f"{ranges}/kubernetes/status")[1]["kind"] == "ServiceCIDR"
    service = {"metadata": {"name": "s"}, "spec": {"clusterIP": "203.0.113.10", "ports": [{"port": 80}]}}
    code, refused = wire("POST", services, service)
    assert code == 422 and "not in the valid range" in refused["message"]
    _, made = wire("POST", ranges, {"metadata": {"name": "more"}, "spec": {"cidrs": ["203.0.113.0/24"]}})
    assert [(each["type"], each["status"]) for each in made["status"]["conditions"]] == [("Ready", "True")]
    assert wire("POST", services, service)[0] == 201
    wire("DELETE", f"{ranges}/more")


def test_endpoints_follow_pods(wire, namespace, tmp_path):
    """EndpointSlice: made for a Service with a selector, kept in step with its pods, made again, gone with it."""
    base = f"/api/v1/namespaces/{namespace}"
    spec = {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}
    wire("POST", f"{base}/services", {"metadata": {"name": "s", "labels": {"of": "mine"}}, "spec": spec})
    (empty,) = until(lambda: slices(wire, namespace, "s"))
    assert empty["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
    assert empty["metadata"]["labels"]["of"] == "mine" and not empty.get("endpoints")
    assert until(lambda: wire("GET", f"{base}/endpoints/s")[0] == 200)
    made = wire("GET", f"{base}/services/s")[1]["metadata"]["creationTimestamp"]
    trigger = {"endpoints.kubernetes.io/last-change-trigger-time": made}
    assert (
        empty["metadata"]["annotations"] == wire("GET", f"{base}/endpoints/s")[1]["metadata"]["annotations"] == trigger
    )
    flag = tmp_path / "ready"
    wire("POST", f"{base}/pods", backend("one", 3000))
    wire("POST", f"{base}/pods", backend("two", 3001, ready=str(flag)))
    until(lambda: points(wire, namespace, "s") == {("one", 3000)})
    until(lambda: len(slices(wire, namespace, "s")) == 2)
    flag.touch()
    until(lambda: points(wire, namespace, "s") == {("one", 3000), ("two", 3001)})
    subsets = until(lambda: (found := wire("GET", f"{base}/endpoints/s")[1]["subsets"]) and found[1:] and found)
    shown = {(each["addresses"][0]["targetRef"]["name"], each["ports"][0]["port"]) for each in subsets}
    assert shown == {("one", 3000), ("two", 3001)}
    wire("DELETE", f"{SLICES}/{namespace}/endpointslices")
    until(lambda: points(wire, namespace, "s") == {("one", 3000), ("two", 3001)})
    wire("DELETE", f"{base}/pods/two")
    until(lambda: points(wire, namespace, "s") == {("one", 3000)} and len(slices(wire, namespace, "s")) == 1)
    wire("DELETE", f"{base}/services/s")
    until(lambda: wire("GET", f"{base}/endpoints/s")[0] == 404 and not slices(wire, namespace, "s"))


def test_endpoints_that_somebody_writes_are_mirrored(wire, namespace):
    """EndpointSliceMirroring: create, update and delete of the Endpoints of a Service without a selector."""
    base = f"/api/v1/namespaces/{namespace}"
    wire("POST", f"{base}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "x", "port": 80}]}})
    body = {"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]}
    wire("POST", f"{base}/endpoints", body)
    (mirror,) = until(lambda: slices(wire, namespace, "s"))
    assert (mirror["endpoints"][0]["addresses"], mirror["ports"][0]["port"]) == (["10.1.2.3"], 80)
    body["subsets"][0]["addresses"] = [{"ip": "10.2.3.4"}]
    assert wire("PUT", f"{base}/endpoints/s", body)[0] == 200
    until(lambda: slices(wire, namespace, "s")[0]["endpoints"][0]["addresses"] == ["10.2.3.4"])
    wire("DELETE", f"{base}/endpoints/s")
    until(lambda: not slices(wire, namespace, "s"))


def test_what_is_exposed_can_be_seen(cluster, namespace):
    """`kubectl expose` and what kubectl shows of a Service."""
    cluster.apply(backend("one", 3000), namespace=namespace)
    cluster.kubectl("expose", "pod", "one", "-n", namespace, "--name=s", "--port=80", "--target-port=3000")
    until(lambda: "127.0.0.1:3000" in cluster.kubectl("describe", "service", "s", "-n", namespace))
    cluster.kubectl("create", "service", "loadbalancer", "lb", "--tcp=1:1", "-n", namespace)
    table = cluster.kubectl("get", "services", "-n", namespace)
    assert "127.32." in table and "<pending>" in table


def test_endpoints_are_deprecated(wire, namespace):
    """Every answer about Endpoints warns, also errors and watches; those about their successors do not."""
    base = f"/api/v1/namespaces/{namespace}/endpoints"
    text = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    for method, path, body, wanted in (
        ("GET", f"{base}/e", None, 404),
        ("POST", base, {"metadata": {"name": "e"}}, 201),
        ("POST", base, {"metadata": {"name": "e"}}, 409),
        ("GET", f"{base}/e", None, 200),
        ("GET", base, None, 200),
        ("GET", f"{base}?watch=1&timeoutSeconds=1", None, 200),
        ("PUT", f"{base}/e", {"metadata": {"name": "e"}}, 200),
        ("DELETE", f"{base}/e", None, 200),
        ("DELETE", base, None, 200),
    ):
        status, headers, _ = wire.headers(method, path, body)
        assert (status, headers.get_all("Warning")) == (wanted, [text])
    newer = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    assert wire.headers("GET", newer)[1].get_all("Warning") is None
