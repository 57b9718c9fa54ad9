"""Pods as the API has them: where they may go, what their classes bring, what their status is about."""

from __future__ import annotations

from compat.conftest import sleeping_pod
from compat.test_services import until

MERGE = {"Content-Type": "application/merge-patch+json"}
SPDY = {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}


def pod(name, **spec):
    made = sleeping_pod(name)
    made["spec"] |= spec
    return made


def scheduled(wire, path):
    """Status, reason of the condition that says whether a pod has a node."""
    conditions = wire("GET", path)[1]["status"].get("conditions") or []
    return next(((each["status"], each.get("reason")) for each in conditions if each["type"] == "PodScheduled"), None)


def required(key, *values):
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def test_a_pod_waits_for_a_node_that_suits_it(wire, namespace):
    """SchedulerPredicates: node affinity that matches, one that does not, and a label that makes it match."""
    pods, node = f"/api/v1/namespaces/{namespace}/pods", "/api/v1/nodes/here"
    _, placed = wire("POST", pods, pod("placed", affinity=required("kubernetes.io/os", "linux", "plan9")))
    assert placed["spec"]["nodeName"] == "here"
    wire("POST", pods, pod("waits", affinity=required("example.com/disk", "fast")))
    until(lambda: scheduled(wire, f"{pods}/waits") == ("False", "Unschedulable"))
    about = f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3Dwaits"
    (event,) = until(lambda: wire("GET", about)[1]["items"])
    assert (event["reason"], event["type"], event["source"]["component"]) == (
        "FailedScheduling", "Warning", "default-scheduler"
    )  # fmt: skip
    wire("PATCH", node, {"metadata": {"labels": {"example.com/disk": "fast"}}}, MERGE)
    until(lambda: wire("GET", f"{pods}/waits")[1]["status"]["phase"] == "Running")
    assert scheduled(wire, f"{pods}/waits")[0] == "True"
    wire("PATCH", node, {"metadata": {"labels": {"example.com/disk": None}}}, MERGE)


def test_gates_and_other_schedulers_hold_a_pod(wire, namespace):
    """Scheduling gates can only be taken away; a scheduler of its own binds a pod, once."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    _, gated = wire("POST", pods, pod("gated", schedulingGates=[{"name": "a"}]))
    assert "nodeName" not in gated["spec"] and scheduled(wire, f"{pods}/gated") == ("False", "SchedulingGated")
    code, refused = wire("PATCH", f"{pods}/gated", {"spec": {"schedulingGates": [{"name": "b"}]}}, MERGE)
    assert code == 422 and "only deletion is allowed" in refused["message"]
    binding = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "here"}}
    assert wire("POST", f"{pods}/gated/binding", {**binding, "metadata": {"name": "gated"}})[0] == 409
    assert wire("PATCH", f"{pods}/gated", {"spec": {"schedulingGates": None}}, MERGE)[0] == 200
    until(lambda: wire("GET", f"{pods}/gated")[1]["spec"].get("nodeName") == "here")
    _, other = wire("POST", pods, pod("other", schedulerName="mine"))
    assert "nodeName" not in other["spec"]
    assert wire("POST", f"{pods}/other/binding", {**binding, "metadata": {"name": "other"}})[0] == 201
    code, refused = wire("POST", f"{pods}/other/binding", {**binding, "metadata": {"name": "other"}})
    assert code == 409 and 'already assigned to node "here"' in refused["message"]
    until(lambda: wire("GET", f"{pods}/other")[1]["status"]["phase"] == "Running")


def test_a_binding_is_a_resource_of_its_own(wire, namespace):
    """It names its pod itself; nothing of it is stored."""
    inside = f"/api/v1/namespaces/{namespace}"
    wire("POST", f"{inside}/pods", pod("bound", schedulerName="mine"))
    binding = {"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "here"}}
    assert wire("POST", f"{inside}/pods/other/binding", binding)[1]["message"].startswith("name in URL does not match")
    for changed in ({"name": "bound", "namespace": "default"}, {}):
        assert wire("POST", f"{inside}/bindings", {**binding, "metadata": changed})[0] == 400
    assert wire("POST", f"{inside}/bindings", {**binding, "metadata": {"name": "none"}})[0] == 404
    code, done = wire("POST", f"{inside}/bindings", binding)
    assert (code, done["kind"], done["status"]) == (201, "Status", "Success")
    assert wire("GET", f"{inside}/pods/bound")[1]["spec"]["nodeName"] == "here"
    assert wire("POST", f"{inside}/bindings", binding)[0] == 409
    assert wire("GET", f"{inside}/bindings")[0] == wire("DELETE", f"{inside}/bindings/bound")[0] == 405
    assert wire("POST", "/api/v1/bindings", binding)[0] == 404
    first = wire("GET", "/api/v1")[1]["resources"][0]
    assert (first["name"], first["kind"], first["namespaced"], first["verbs"]) == (
        "bindings", "Binding", True, ["create"]
    )  # fmt: skip
    paths = wire("GET", "/openapi/v3/api/v1")[1]["paths"]
    assert paths["/api/v1/namespaces/{namespace}/bindings"]["post"]["operationId"] == "createCoreV1NamespacedBinding"


def test_a_pod_without_a_node_has_no_streams(wire, namespace):
    gated = f"/api/v1/namespaces/{namespace}/pods/gated"
    wire("POST", f"/api/v1/namespaces/{namespace}/pods", pod("gated", schedulingGates=[{"name": "a"}]))
    assert wire("GET", f"{gated}/log?follow=true") == (204, "")
    code, refused = wire("GET", f"{gated}/log?container=nope")
    assert (code, refused["message"]) == (400, "container nope is not valid for pod gated")
    assert wire("GET", f"{gated}/log?tailLines=-1")[0] == 422
    for subresource in ("exec?command=true", "attach", "portforward?ports=80"):
        code, refused = wire("POST", f"{gated}/{subresource}", None, SPDY)
        assert (code, refused["message"]) == (400, "pod gated does not have a host assigned")
    assert wire("POST", f"{gated}/attach?container=nope", None, SPDY)[1]["message"].startswith("container nope")


def test_spdy_is_refused_last(wire, namespace):
    """What kubectl shows of a failed exec or attach is the answer to its second attempt, over SPDY."""
    here = f"/api/v1/namespaces/{namespace}/pods/here"
    wire("POST", f"/api/v1/namespaces/{namespace}/pods", pod("here"))
    until(lambda: wire("GET", here)[1]["status"]["phase"] == "Running")
    for subresource, code, message in (
        ("exec?command=true&container=nope", 400, "container nope is not valid for pod here"),
        ("exec?container=nope", 400, "you must specify at least one command for the container"),
        ("attach?container=nope", 400, "container nope is not valid for pod here"),
        ("attach?stdin=1", 400, "containers have no standard input here"),
        ("exec?command=no-such-program", 400, "this server streams over WebSocket only"),
        ("attach", 400, "this server streams over WebSocket only"),
    ):
        answer = wire("POST", f"{here}/{subresource}", None, SPDY)
        assert (answer[0], answer[1]["message"][: len(message)]) == (code, message)


def test_a_runtime_class_is_admitted(wire, namespace):
    """RuntimeClass: pods of one that is not there are refused, its overhead and place come into the pod."""
    pods, classes = f"/api/v1/namespaces/{namespace}/pods", "/apis/node.k8s.io/v1/runtimeclasses"
    code, refused = wire("POST", pods, pod("p", runtimeClassName="nowhere"))
    assert code == 403 and 'RuntimeClass "nowhere" not found' in refused["message"]
    place = {"nodeSelector": {"example.com/none": "x"}, "tolerations": [{"key": "t", "operator": "Exists"}]}
    body = {"metadata": {"name": "costly"}, "handler": "h", "overhead": {"podFixed": {"cpu": "10m"}}}
    wire("POST", classes, {**body, "scheduling": place})
    _, made = wire("POST", pods, pod("p", runtimeClassName="costly"))
    assert made["spec"]["overhead"] == {"cpu": "10m"} and made["spec"]["nodeSelector"] == place["nodeSelector"]
    assert place["tolerations"][0] in made["spec"]["tolerations"]
    assert wire("POST", pods, pod("q", overhead={"cpu": "1"}))[0] == 403
    wire("DELETE", f"{classes}/costly")


def test_a_status_names_the_generation_that_it_is_about(wire, namespace):
    """Pod Generation: one more per change of the spec and at a graceful deletion; the status follows."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    made = sleeping_pod("p")
    made["metadata"]["generation"] = 100
    assert wire("POST", path, made)[1]["metadata"]["generation"] == 1
    until(lambda: wire("GET", f"{path}/p")[1]["status"].get("observedGeneration") == 1)
    # A negative grace period stands for one second, which is the only thing that it can become.
    code, odd = wire("POST", path, pod("odd", terminationGracePeriodSeconds=-1))
    assert (code, odd["spec"]["terminationGracePeriodSeconds"]) == (201, -1)
    assert wire("PATCH", f"{path}/odd", {"spec": {"terminationGracePeriodSeconds": 2}}, MERGE)[0] == 422
    assert wire("DELETE", f"{path}/odd")[1]["metadata"]["deletionGracePeriodSeconds"] == 1
    image = {"spec": {"containers": [{"name": "c", "image": "host:2"}]}}
    assert wire("PATCH", f"{path}/p", image, STRATEGIC)[1]["metadata"]["generation"] == 2
    until(lambda: wire("GET", f"{path}/p")[1]["status"]["observedGeneration"] == 2)
    conditions = wire("GET", f"{path}/p")[1]["status"]["conditions"]
    assert {each["observedGeneration"] for each in conditions} == {2}
    wire("PATCH", f"{path}/p", {"metadata": {"finalizers": ["example.com/held"]}}, MERGE)
    assert wire("DELETE", f"{path}/p", {"gracePeriodSeconds": 1})[1]["metadata"]["generation"] == 3
    wire("PATCH", f"{path}/p", {"metadata": {"finalizers": None}}, MERGE)
