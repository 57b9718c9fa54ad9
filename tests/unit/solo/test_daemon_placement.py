"""On which nodes a DaemonSet's pods run, and on which those that are there stay."""

import pytest

from solo.controllers.daemonsets import may_keep, suits


def node(*taints, **labels):
    return {"metadata": {"name": "me", "labels": labels}, "spec": {"taints": list(taints)}}


def required(**requirement):
    selector = {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


SCHEDULE, EXECUTE, PREFER = ({"key": "k", "effect": each} for each in ("NoSchedule", "NoExecute", "PreferNoSchedule"))
PRESSURE = {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}
SSD = required(key="disk", operator="In", values=["ssd"])


@pytest.mark.parametrize(
    ("spec", "there", "runs", "stays"),
    [
        ({}, node(), True, True),
        ({"nodeName": "other"}, node(), False, False),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="hdd"), False, False),
        (SSD, node(disk="ssd"), True, True),
        (SSD, node(disk="hdd"), False, False),
        ({}, node(SCHEDULE), False, True),
        ({}, node(EXECUTE), False, False),
        ({}, node(SCHEDULE, EXECUTE), False, False),
        ({}, node(PREFER), True, True),
        ({}, node(PRESSURE), True, True),
        ({"tolerations": [{"key": "k", "operator": "Exists"}]}, node(SCHEDULE, EXECUTE), True, True),
        (SSD, node(SCHEDULE, disk="hdd"), False, False),
    ],
)
def test_where_daemons_run_and_stay(spec, there, runs, stays):
    assert (suits(spec, there), may_keep(spec, there)) == (runs, stays)
