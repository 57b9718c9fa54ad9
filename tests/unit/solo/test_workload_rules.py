"""What kube-apiserver refuses of kinds that keep pods running is refused here, in its words; what it takes is taken."""

from __future__ import annotations

import pytest

from kube.machinery.errors import StatusError
from solo.registry.builtins import builtin_kinds
from solo.registry.context import RequestContext
from solo.registry.objects import copy
from solo.registry.registry import Applied
from unit.solo.conftest import ADMIN

KINDS = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}
LABELS = {"app": "x"}
NEGATIVE = "must be greater than or equal to 0"
NO_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%' or '93%', regex used for validation is '[0-9]+%')"
)


def workload(plural, spec, pod=None):
    """A new object as it is validated."""
    pod = {"containers": [{"name": "c", "image": "i"}], **(pod or {})}
    selector = LABELS if plural == "replicationcontrollers" else {"matchLabels": LABELS}
    full = {"selector": selector, "template": {"metadata": {"labels": LABELS}, "spec": pod}, **spec}
    obj = {"metadata": {"name": "x", "uid": "u"}, "spec": copy(full)}
    KINDS[plural].default(obj)
    return obj


def texts(causes):
    return [f"{each.field}: {each.message}" for each in causes]


def refused(plural, spec, pod=None):
    return texts(KINDS[plural].validate(workload(plural, spec, pod), None))


def rolling(**values):
    return {"strategy": {"rollingUpdate": values}}


def daemons(**values):
    return {"updateStrategy": {"rollingUpdate": values}}


ROLLING = "spec.strategy.rollingUpdate"
DAEMONS = STATEFUL = "spec.updateStrategy.rollingUpdate"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"strategy": {"type": "Recreate", "rollingUpdate": {}}},
         [f"{ROLLING}: Forbidden: may not be specified when strategy `type` is 'Recreate'"]),
        ({"strategy": {"type": "X"}},
         ['spec.strategy: Unsupported value: {"type":"X"}: supported values: "Recreate", "RollingUpdate"']),
        (rolling(maxSurge=0, maxUnavailable=0),
         [f"{ROLLING}.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
        (rolling(maxSurge="0%", maxUnavailable="0%"),
         [f'{ROLLING}.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0']),
        (rolling(maxUnavailable="150%"),
         [f'{ROLLING}.maxUnavailable: Invalid value: "150%": must not be greater than 100%']),
        (rolling(maxSurge="10"), [f'{ROLLING}.maxSurge: Invalid value: "10": {NO_PERCENT}']),
        (rolling(maxSurge=-1), [f"{ROLLING}.maxSurge: Invalid value: -1: {NEGATIVE}"]),
        ({"progressDeadlineSeconds": 5, "minReadySeconds": 5},
         ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"]),
        ({"replicas": -1, "minReadySeconds": -2, "revisionHistoryLimit": -3, "progressDeadlineSeconds": -1},
         [f"spec.replicas: Invalid value: -1: {NEGATIVE}", f"spec.minReadySeconds: Invalid value: -2: {NEGATIVE}",
          f"spec.revisionHistoryLimit: Invalid value: -3: {NEGATIVE}",
          f"spec.progressDeadlineSeconds: Invalid value: -1: {NEGATIVE}"]),
    ],
)  # fmt: skip
def test_deployments(spec, found):
    assert refused("deployments", spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"podManagementPolicy": "X"},
         ["spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'"]),
        ({"updateStrategy": {"type": "X"}},
         ["spec.updateStrategy: Invalid value: {\"type\":\"X\"}: must be 'RollingUpdate' or 'OnDelete'"]),
        ({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 0}}},
         [f"{STATEFUL}: Invalid value: {{\"partition\":0}}: only allowed for updateStrategy 'RollingUpdate'"]),
        (daemons(partition=-1), [f"{STATEFUL}.partition: Invalid value: -1: {NEGATIVE}"]),
        (daemons(maxUnavailable=0), [f"{STATEFUL}.maxUnavailable: Invalid value: 0: cannot be 0"]),
        (daemons(maxUnavailable="101%"),
         [f'{STATEFUL}.maxUnavailable: Invalid value: "101%": must not be greater than 100%']),
        ({"ordinals": {"start": -1}}, [f"spec.ordinals.start: Invalid value: -1: {NEGATIVE}"]),
        ({"minReadySeconds": -1}, [f"spec.minReadySeconds: Invalid value: -1: {NEGATIVE}"]),
        ({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "X"}},
         ['spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "X": '
          'supported values: "Retain", "Delete"']),
        ({"selector": {}}, ["spec.selector: Required value"]),
        ({"selector": {"matchLabels": {}}},
         ["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"]),
    ],
)  # fmt: skip
def test_statefulsets(spec, found):
    assert refused("statefulsets", spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"updateStrategy": {"type": "X"}},
         ['spec.updateStrategy: Unsupported value: {"type":"X"}: supported values: "RollingUpdate", "OnDelete"']),
        (daemons(maxSurge=1),
         [f"{DAEMONS}.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"]),
        (daemons(maxUnavailable=0), [f"{DAEMONS}.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]),
        (daemons(maxUnavailable=0, maxSurge="101%"),
         [f'{DAEMONS}.maxSurge: Invalid value: "101%": must not be greater than 100%']),
        (daemons(maxUnavailable="x", maxSurge=1), [f'{DAEMONS}.maxUnavailable: Invalid value: "x": {NO_PERCENT}']),
        ({"minReadySeconds": -1, "revisionHistoryLimit": -1},
         [f"spec.minReadySeconds: Invalid value: -1: {NEGATIVE}",
          f"spec.revisionHistoryLimit: Invalid value: -1: {NEGATIVE}"]),
    ],
)  # fmt: skip
def test_daemonsets(spec, found):
    assert refused("daemonsets", spec) == found


@pytest.mark.parametrize("plural", ["replicasets", "replicationcontrollers"])
def test_sets_of_replicas(plural):
    found = refused(plural, {"replicas": -1, "minReadySeconds": -1})
    assert sorted(found) == [f"spec.{key}: Invalid value: -1: {NEGATIVE}" for key in ("minReadySeconds", "replicas")]


@pytest.mark.parametrize(
    ("plural", "kind"),
    [
        ("deployments", "ReplicaSet"),
        ("replicasets", "ReplicaSet"),
        ("daemonsets", "DaemonSet"),
        ("statefulsets", "StatefulSet"),
        ("replicationcontrollers", "ReplicationController"),
    ],
)
def test_pods_that_are_kept_running_do_not_end(plural, kind):
    place = "spec.template.spec.activeDeadlineSeconds"
    found = [f"{place}: Forbidden: activeDeadlineSeconds in {kind} is not Supported"]
    assert refused(plural, {}, {"activeDeadlineSeconds": 5}) == found


@pytest.mark.parametrize(
    ("plural", "spec"),
    [
        *((plural, {}) for plural in
          ("deployments", "replicasets", "daemonsets", "statefulsets", "replicationcontrollers")),
        ("deployments", {"strategy": {"type": "Recreate"}}),
        ("deployments", {"strategy": {"type": ""}}),
        ("deployments", rolling(maxSurge="150%", maxUnavailable=0)),
        ("deployments", rolling(maxSurge=0)),
        ("deployments", {"replicas": 0, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 2**31 - 1}),
        ("daemonsets", {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"maxUnavailable": 0}}}),
        ("daemonsets", daemons(maxUnavailable="100%")),
        ("daemonsets", daemons(maxUnavailable=0, maxSurge="10%")),
        ("statefulsets", {"updateStrategy": {"type": "OnDelete"}, "podManagementPolicy": "Parallel"}),
        ("statefulsets", {"podManagementPolicy": "", "updateStrategy": {"type": ""}, "ordinals": {"start": 3}}),
        ("statefulsets", daemons(partition=2, maxUnavailable="50%")),
        ("statefulsets", {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": ""}}),
    ],
)  # fmt: skip
def test_accepted(plural, spec):
    assert refused(plural, spec) == []


def test_what_an_older_version_let_pass_can_be_labelled_but_not_changed():
    old = workload("deployments", {"strategy": {"type": "Recreate", "rollingUpdate": {}}})
    labelled = {**copy(old), "metadata": {"name": "x", "labels": LABELS}}
    assert KINDS["deployments"].validate(labelled, old) == []
    labelled["spec"]["replicas"] = 2
    assert [each.field for each in KINDS["deployments"].validate(labelled, old)] == [ROLLING]


@pytest.mark.parametrize(
    ("plural", "status", "found"),
    [
        ("deployments", {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1}, []),
        ("deployments", {"replicas": 1, "unavailableReplicas": -1}, ["unavailableReplicas"]),
        ("deployments", {"replicas": 1, "updatedReplicas": 2}, ["updatedReplicas"]),
        ("deployments", {"collisionCount": 1}, ["collisionCount"]),
        ("replicasets", {"fullyLabeledReplicas": 1}, ["fullyLabeledReplicas"]),
        ("replicationcontrollers", {"replicas": 1, "availableReplicas": 1}, ["availableReplicas"]),
        ("statefulsets", {"replicas": 1, "currentReplicas": 2}, ["currentReplicas"]),
        ("daemonsets", {"numberReady": 3, "desiredNumberScheduled": 2}, []),
        ("daemonsets", {"numberReady": -3}, ["numberReady"]),
    ],
)
def test_status(plural, status, found):
    old, new = ({"status": each} for each in ({"collisionCount": 2}, {"collisionCount": 2, **status}))
    assert [each.field for each in KINDS[plural].validate_status(new, old)] == [f"status.{key}" for key in found]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"minAvailable": 1}, []),
        ({"maxUnavailable": "100%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}, []),
        ({}, []),
        ({"minAvailable": -1}, [f"spec.minAvailable: Invalid value: -1: {NEGATIVE}"]),
        ({"maxUnavailable": "101%"}, ['spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%']),
        ({"maxUnavailable": "x"}, [f'spec.maxUnavailable: Invalid value: "x": {NO_PERCENT}']),
        ({"minAvailable": 1, "maxUnavailable": 1},
         ['spec: Invalid value: {"maxUnavailable":1,"minAvailable":1}: '
          "minAvailable and maxUnavailable cannot be both set"]),
        ({"unhealthyPodEvictionPolicy": "X"},
         ['spec.unhealthyPodEvictionPolicy: Unsupported value: "X": '
          'supported values: "AlwaysAllow", "IfHealthyBudget"']),
    ],
)  # fmt: skip
def test_budgets(spec, found):
    budget = {"metadata": {"name": "x"}, "spec": spec}
    assert texts(KINDS["poddisruptionbudgets"].validate(budget, None)) == found
    assert KINDS["poddisruptionbudgets"].validate(budget, budget) == []


def test_the_status_of_budgets():
    status = {"status": {"disruptionsAllowed": 0, "expectedPods": -1}}
    assert [each.field for each in KINDS["poddisruptionbudgets"].validate_status(status, {})] == ["status.expectedPods"]


@pytest.mark.parametrize("value", ["1" * 5000 + "%", "0" * 5000, "-5%", "٣%"])
def test_strange_amounts_are_refused(value):
    assert ROLLING + ".maxUnavailable" in [
        each.split(": ")[0] for each in refused("deployments", rolling(maxUnavailable=value))
    ]


async def test_a_strategy_is_not_changed_by_half(world):
    """What was filled in for the one strategy stands in the way of the other until it is taken away."""
    made = {**workload("deployments", {}), "apiVersion": "apps/v1", "kind": "Deployment"}
    await world.create("deployments", made, "ns", group="apps")

    def change(strategy):
        return lambda present: {**copy(present), "spec": {**copy(present["spec"]), "strategy": strategy(present)}}

    with pytest.raises(StatusError) as problem:
        half = change(lambda present: {**present["spec"]["strategy"], "type": "Recreate"})
        await world.change("deployments", "x", half, "ns", group="apps")
    text = "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
    assert problem.value.code == 422 and text in problem.value.message
    applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}
    applied["spec"] = {"strategy": {"type": "Recreate"}}
    with pytest.raises(StatusError) as problem:
        configuration = Applied(applied, True, "", lambda: None)
        kind = world.catalog.by_kind("apps/v1", "Deployment")
        await world.registry.apply(kind, "ns", "x", configuration, RequestContext(ADMIN, manager="m"))
    assert text in problem.value.message
    whole = change(lambda present: {"type": "Recreate"})
    changed = await world.change("deployments", "x", whole, "ns", group="apps")
    assert changed["spec"]["strategy"] == {"type": "Recreate"}
