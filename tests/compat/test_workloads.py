"""Workloads with their controllers, driven by kubectl: pods are processes of this machine."""

from __future__ import annotations

import json
import time


def template(app, *command, **spec):
    container = {"name": "c", "image": "host", "command": list(command)}
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def workload(kind, name, *command, api="apps/v1", **spec):
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, *command), **spec},
    }


def job(name, *command, **spec):
    body = {"template": template(name, *command, restartPolicy="Never"), **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body}


def until(condition, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)
    return value


def pods(cluster, namespace, app):
    found = cluster.get("pods", "-n", namespace, "-l", f"app={app}")["items"]
    return {pod["metadata"]["name"]: pod for pod in found if not pod["metadata"].get("deletionTimestamp")}


def test_jobs(cluster, namespace):
    cluster.apply(
        job("good", "true", completions=3, parallelism=2),
        job("bad", "false", backoffLimit=0, ttlSecondsAfterFinished=1000),
        job("counted", "sh", "-c", 'echo "number $JOB_COMPLETION_INDEX"', completions=2, completionMode="Indexed"),
        job(
            "partly",
            *("sh", "-c", 'exit "$JOB_COMPLETION_INDEX"'),
            completions=2,
            parallelism=2,
            completionMode="Indexed",
            backoffLimitPerIndex=0,
        ),
        job("held", "true", suspend=True),
        job("slow", "sleep", "600", activeDeadlineSeconds=1),
        job("brief", "true", ttlSecondsAfterFinished=0),
        namespace=namespace,
    )
    options = ("-n", namespace, "--timeout=20s")
    cluster.kubectl("wait", *options, "--for=condition=Complete", "job/good", "job/counted")
    cluster.kubectl("wait", *options, "--for=condition=Failed", "job/bad", "job/slow", "job/partly")
    cluster.kubectl("wait", *options, "--for=delete", "job/brief")
    good = cluster.get("job", "good", "-n", namespace)["status"]
    assert good["succeeded"] == 3 and good["completionTime"]
    failed = {
        each["type"]: each["reason"] for each in cluster.get("job", "bad", "-n", namespace)["status"]["conditions"]
    }
    assert failed["Failed"] == "BackoffLimitExceeded"
    partly = cluster.get("job", "partly", "-n", namespace)["status"]
    assert (partly["completedIndexes"], partly["failedIndexes"]) == ("0", "1")
    assert partly["conditions"][-1]["reason"] == "FailedIndexes"
    names = {each["spec"]["hostname"] for each in pods(cluster, namespace, "partly").values()}
    assert names == {"partly-0", "partly-1"}
    slow = cluster.get("job", "slow", "-n", namespace)["status"]
    assert {each["reason"] for each in slow["conditions"]} == {"DeadlineExceeded"}
    assert cluster.get("job", "counted", "-n", namespace)["status"]["completedIndexes"] == "0,1"
    texts = {cluster.kubectl("logs", "-n", namespace, name) for name in pods(cluster, namespace, "counted")}
    assert texts == {"number 0\n", "number 1\n"}
    assert not pods(cluster, namespace, "held")
    cluster.kubectl("patch", "job", "held", "-n", namespace, "-p", json.dumps({"spec": {"suspend": False}}))
    cluster.kubectl("wait", *options, "--for=condition=Complete", "job/held")


def test_a_job_is_paused_and_shrunk(cluster, namespace):
    """Job: pods that the controller stops are no failures, and of indexes those go that are not wanted any more."""

    def status():
        return cluster.get("job", "j", "-n", namespace)["status"]

    def indexes():
        found = pods(cluster, namespace, "j").values()
        return sorted(each["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for each in found)

    def change(**spec):
        cluster.kubectl("patch", "job", "j", "-n", namespace, "-p", json.dumps({"spec": spec}))

    indexed = {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 0}
    cluster.apply(job("j", "sleep", "600", **indexed), namespace=namespace)
    until(lambda: status().get("ready") == 3)
    change(completions=2, parallelism=2)
    until(lambda: indexes() == ["0", "1"])
    change(suspend=True)
    until(lambda: not cluster.get("pods", "-n", namespace, "-l", "app=j")["items"])
    change(suspend=False)
    until(lambda: status().get("ready") == 2)
    assert "failed" not in status()
    reasons = [each["reason"] for each in cluster.get("events", "-n", namespace)["items"]]
    assert reasons.count("Suspended") == reasons.count("Resumed") == 1


def test_a_job_counts_pods_that_are_deleted(cluster, namespace):
    """Job: what has failed stays counted when its pod is deleted, and is waited for."""

    def failed():
        return cluster.get("job", "j", "-n", namespace)["status"].get("failed", 0)

    cluster.apply(job("j", "false", backoffLimit=1), namespace=namespace)
    until(lambda: failed() == 1)
    cluster.kubectl("delete", "pods", "-n", namespace, "-l", "app=j")
    time.sleep(1)
    assert pods(cluster, namespace, "j") == {} and failed() == 1


def test_scaling_in_the_middle_of_a_rollout(cluster, namespace):
    """Deployment, proportional scaling: what is wanted more is shared by the old and the new pods."""

    def sizes():
        found = cluster.get("replicasets", "-n", namespace)["items"]
        found.sort(key=lambda each: each["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
        return [each["spec"]["replicas"] for each in found]

    rolling = {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}
    cluster.apply(workload("Deployment", "d", "sleep", "600", replicas=4, strategy=rolling), namespace=namespace)
    cluster.kubectl("rollout", "status", "deployment/d", "-n", namespace, "--timeout=20s")
    cluster.kubectl("set", "image", "deployment/d", "c=not-there", "-n", namespace)
    until(lambda: sizes() == [3, 3])
    cluster.kubectl("scale", "deployment/d", "--replicas=8", "-n", namespace)
    until(lambda: sizes() == [5, 5])
    cluster.kubectl("set", "image", "deployment/d", "c=host", "-n", namespace)
    cluster.kubectl("rollout", "status", "deployment/d", "-n", namespace, "--timeout=20s")
    assert sorted(sizes()) == [0, 8]


def test_a_daemon_set_and_its_history(cluster, namespace):
    cluster.apply(workload("DaemonSet", "ds", "sleep", "600"), namespace=namespace)
    cluster.kubectl("rollout", "status", "-n", namespace, "daemonset/ds", "--timeout=20s")
    (first,) = pods(cluster, namespace, "ds")
    cluster.apply(workload("DaemonSet", "ds", "sleep", "700"), namespace=namespace)
    cluster.kubectl("rollout", "status", "-n", namespace, "daemonset/ds", "--timeout=20s")
    assert first not in pods(cluster, namespace, "ds")
    cluster.kubectl("rollout", "undo", "-n", namespace, "daemonset/ds")
    until(lambda: cluster.get("ds", "ds", "-n", namespace)["status"].get("observedGeneration") == 3)
    cluster.kubectl("rollout", "status", "-n", namespace, "daemonset/ds", "--timeout=20s")
    (last,) = pods(cluster, namespace, "ds").values()
    assert last["spec"]["containers"][0]["command"] == ["sleep", "600"]
    again = cluster.kubectl("rollout", "undo", "-n", namespace, "daemonset/ds", "--to-revision=3")
    assert "skipped rollback (current template already matches revision 3)" in again


def test_a_daemon_set_goes_by_affinity_and_keeps_its_pods_when_a_taint_comes(cluster, namespace):
    terms = [{"matchExpressions": [{"key": "not-a-label-of-the-node", "operator": "Exists"}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    elsewhere = workload("DaemonSet", "elsewhere")
    elsewhere["spec"]["template"] = template("elsewhere", "sleep", "600", affinity=affinity)
    cluster.apply(elsewhere, workload("DaemonSet", "here", "sleep", "600"), namespace=namespace)
    cluster.kubectl("rollout", "status", "-n", namespace, "daemonset/here", "--timeout=20s")

    def status(name):
        return cluster.get("daemonset", name, "-n", namespace).get("status") or {}

    until(lambda: status("elsewhere").get("observedGeneration") == 1)
    assert status("elsewhere")["desiredNumberScheduled"] == 0 and not pods(cluster, namespace, "elsewhere")
    (node,) = cluster.get("nodes")["items"]
    name, before = node["metadata"]["name"], pods(cluster, namespace, "here").keys()
    cluster.kubectl("taint", "node", name, f"{namespace}=x:NoSchedule")
    try:
        until(lambda: status("here")["numberMisscheduled"] == 1)
        assert status("here")["desiredNumberScheduled"] == 0 and pods(cluster, namespace, "here").keys() == before
        cluster.kubectl("taint", "node", name, f"{namespace}=x:NoExecute")
        until(lambda: not pods(cluster, namespace, "here"))
    finally:
        cluster.kubectl("taint", "node", name, f"{namespace}-")


def test_a_stateful_set_goes_in_order(cluster, namespace):
    cluster.apply(workload("StatefulSet", "ss", "sleep", "600", replicas=2, serviceName="ss"), namespace=namespace)
    cluster.kubectl("rollout", "status", "-n", namespace, "statefulset/ss", "--timeout=20s")
    found = pods(cluster, namespace, "ss")
    assert sorted(found) == ["ss-0", "ss-1"]
    assert (found["ss-1"]["spec"]["hostname"], found["ss-1"]["spec"]["subdomain"]) == ("ss-1", "ss")
    assert found["ss-0"]["metadata"]["creationTimestamp"] <= found["ss-1"]["metadata"]["creationTimestamp"]
    old = {name: pod["metadata"]["uid"] for name, pod in found.items()}
    cluster.apply(
        workload("StatefulSet", "ss", "sleep", "700", replicas=2, serviceName="ss"),
        namespace=namespace,
    )
    cluster.kubectl("rollout", "status", "-n", namespace, "statefulset/ss", "--timeout=30s")
    new = {name: pod["metadata"]["uid"] for name, pod in pods(cluster, namespace, "ss").items()}
    assert new.keys() == old.keys() and not set(new.values()) & set(old.values())
    cluster.kubectl("scale", "-n", namespace, "statefulset/ss", "--replicas=1")
    until(lambda: list(pods(cluster, namespace, "ss")) == ["ss-0"])


def test_a_replication_controller_with_a_budget(cluster, namespace):
    controller = workload("ReplicationController", "rc", "sleep", "600", api="v1", replicas=2)
    del controller["spec"]["selector"]
    selector = {"matchLabels": {"app": "rc"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}}
    cluster.apply(controller, {**budget, "spec": {"maxUnavailable": 0, "selector": selector}}, namespace=namespace)
    until(lambda: cluster.get("rc", "rc", "-n", namespace)["status"].get("readyReplicas") == 2)
    until(lambda: cluster.get("pdb", "b", "-n", namespace)["status"].get("currentHealthy") == 2)
    name = next(iter(pods(cluster, namespace, "rc")))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    assert "disruption budget" in cluster.fails("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    cluster.kubectl("patch", "pdb", "b", "-n", namespace, "-p", json.dumps({"spec": {"maxUnavailable": 1}}))
    until(lambda: cluster.get("pdb", "b", "-n", namespace)["status"].get("disruptionsAllowed") == 1)
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    until(lambda: name not in (left := pods(cluster, namespace, "rc")) and len(left) == 2)
    # Set free, a pod is replaced; it stays.
    free = next(iter(pods(cluster, namespace, "rc")))
    cluster.kubectl("label", "pod", free, "-n", namespace, "app=free", "--overwrite")
    until(lambda: len(pods(cluster, namespace, "rc")) == 2)
    until(lambda: "ownerReferences" not in cluster.get("pod", free, "-n", namespace)["metadata"])


def test_budgets_over_pods_that_nobody_scales(cluster, namespace):
    def budget(name, **spec):
        spec["selector"] = {"matchLabels": {"app": name}}
        return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}

    def status(name):
        return cluster.get("pdb", name, "-n", namespace).get("status") or {}

    def condition(name):
        return (status(name).get("conditions") or [{}])[0]

    bare = {"apiVersion": "v1", "kind": "Pod", **template("bare", "sleep", "600")}
    bare["metadata"]["name"] = "bare"
    deployment = workload("Deployment", "scaled", "sleep", "600", replicas=1)
    cluster.apply(bare, job("once", "sleep", "600"), deployment, namespace=namespace)
    cluster.apply(*(budget(name, maxUnavailable=1) for name in ("bare", "once", "scaled")), namespace=namespace)
    until(lambda: status("bare").get("currentHealthy") == 1)
    assert (status("bare")["expectedPods"], status("bare")["disruptionsAllowed"]) == (0, 0)
    until(lambda: condition("once").get("reason") == "SyncFailed")
    assert condition("once")["message"] == "jobs.batch does not implement the scale subresource"
    assert (condition("once")["status"], status("once")["disruptionsAllowed"]) == ("False", 0)
    until(lambda: status("scaled").get("disruptionsAllowed") == 1)
    found = {each["reason"]: each for each in cluster.get("events", "-n", namespace)["items"]}
    assert "(selector: &LabelSelector{MatchLabels:map[string]string{app: bare,}," in found["UnmanagedPods"]["message"]
    assert found["CalculateExpectedPodCountFailed"]["involvedObject"]["name"] == "once"


def test_a_cron_job_tells_what_became_of_its_jobs(cluster, namespace):
    """CronJob: a job that is deleted leaves the active list; one that somebody else made is never in it."""

    def reasons():
        return {each["reason"] for each in cluster.get("events", "-n", namespace)["items"]}

    def active():
        return [each["name"] for each in cluster.get("cronjob", "cj", "-n", namespace)["status"].get("active", ())]

    cron = {"metadata": {"name": "cj"}, "apiVersion": "batch/v1", "kind": "CronJob"}
    cron["spec"] = {"schedule": "0 0 29 2 *", "jobTemplate": {"spec": job("x", "sleep", "600")["spec"]}}
    cluster.apply(cron, namespace=namespace)
    cluster.kubectl("create", "job", "manual", "--from=cronjob/cj", "-n", namespace)
    until(lambda: "UnexpectedJob" in reasons())
    assert active() == []
    # As if the schedule had come: a job with the mark of its time.
    scheduled = cluster.get("job", "manual", "-n", namespace)
    owners, template = scheduled["metadata"]["ownerReferences"], job("due", "sleep", "600")
    mark = {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T00:00:00Z"}
    template["metadata"] |= {"ownerReferences": owners, "annotations": mark}
    cluster.apply(template, namespace=namespace)
    until(lambda: active() == ["due"])
    cluster.kubectl("delete", "job", "due", "-n", namespace)
    until(lambda: active() == [])
    assert "MissingJob" in reasons()


def test_a_cron_job(cluster, namespace):
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "cj"},
        "spec": {"schedule": "0 0 29 2 *", "jobTemplate": {"spec": job("x", "true")["spec"]}},
    }
    cluster.apply(cron, namespace=namespace)
    cluster.kubectl("create", "job", "now", "--from=cronjob/cj", "-n", namespace)
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Complete", "job/now", "--timeout=20s")
    cron["spec"]["schedule"] = "61 * * * *"
    assert "spec.schedule" in cluster.fails("apply", "-n", namespace, "-f", "-", stdin=json.dumps(cron))


def test_an_annotation_is_a_new_generation_of_a_deployment(wire, namespace):
    """They are copied to the ReplicaSets; the revision, which the controller notes, is none."""
    url = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    wire("POST", url, {"metadata": {"name": "annotated"}, "spec": spec})

    def rolled_out():
        found = wire("GET", f"{url}/annotated")[1]
        return found if found["metadata"].get("annotations") and found["status"].get("observedGeneration") else None

    assert until(rolled_out)["metadata"]["generation"] == 1
    patch = {"metadata": {"annotations": {"x": "y"}}}
    merge = {"Content-Type": "application/merge-patch+json"}
    assert wire("PATCH", f"{url}/annotated", patch, merge)[1]["metadata"]["generation"] == 2


def test_pods_end_that_are_deleted_while_a_finalizer_holds_them(cluster, namespace):
    """One that ran ends as its container did, whatever its restart policy; one that was never on a node fails."""

    def held(name, *command, **spec):
        made = template(name, *command, **spec)
        made["metadata"] |= {"name": name, "finalizers": ["example.org/hold"]}
        return {"apiVersion": "v1", "kind": "Pod", **made}

    def phase(name):
        return cluster.get("pod", name, "-n", namespace)["status"].get("phase")

    script = 'trap "exit 0" TERM; echo up; while :; do sleep 0.02; done'
    lost = held("lost", "true", nodeSelector={"not-a-label-of-the-node": "x"})
    cluster.apply(held("ran", "sh", "-c", script), lost, namespace=namespace)
    until(lambda: "up" in cluster.kubectl("logs", "ran", "-n", namespace, "--ignore-errors") and phase("lost"))
    cluster.kubectl("delete", "pod", "ran", "lost", "-n", namespace, "--wait=false")
    try:
        until(lambda: (phase("ran"), phase("lost")) == ("Succeeded", "Failed"))
    finally:
        patch = json.dumps({"metadata": {"finalizers": None}})
        cluster.kubectl("patch", "pod", "ran", "lost", "-n", namespace, "-p", patch)
