"""Replicas that change in the middle of a rollout are shared among the sets by their sizes."""

import pytest

from solo.controllers.rollout import DESIRED_REPLICAS, MAX_REPLICAS
from solo.controllers.scaling import is_scaled, sizes


def deployment(replicas, surge=0, kind="RollingUpdate", **more):
    rolling = {"maxSurge": surge, "maxUnavailable": 1}
    return {"spec": {"replicas": replicas, "strategy": {"type": kind, "rollingUpdate": rolling}, **more}}


def replica_set(name, size, desired=None, most=None, available=0):
    known = {DESIRED_REPLICAS: desired, MAX_REPLICAS: most}
    annotations = {key: str(value) for key, value in known.items() if value is not None}
    meta = {"name": name, "creationTimestamp": f"2026-01-01T00:00:0{name[-1]}Z", "annotations": annotations}
    return {"metadata": meta, "spec": {"replicas": size}, "status": {"availableReplicas": available}}


def test_scaled_is_what_had_its_size_for_another_number():
    assert is_scaled(deployment(3), [replica_set("a1", 2, desired=2)])
    assert not is_scaled(deployment(2), [replica_set("a1", 2, desired=2)])
    assert not is_scaled(deployment(3), [replica_set("a1", 0, desired=2), replica_set("a2", 2)])


@pytest.mark.parametrize(
    ("replicas", "surge", "most", "before", "after"),
    [
        (30, 3, 13, (8, 5), (20, 13)),  # the conformance test: 20 more, of which 12.3 and 7.7 are theirs
        (8, 2, 6, (3, 3), (5, 5)),
        (10, 0, 10, (5, 5), (5, 5)),
        (5, 0, 10, (7, 3), (3, 2)),  # each rounded, and the largest takes what is left
        (5, 0, 10, (5, 5), (2, 3)),  # of equal ones the oldest shrinks first
        (11, 0, 10, (5, 5), (5, 6)),  # and the newest grows first
        (0, 3, 10, (6, 4), (0, 0)),
    ],
)
def test_shares(replicas, surge, most, before, after):
    old, new = (replica_set(name, size, 10, most) for name, size in zip(("a1", "a2"), before, strict=True))
    found = sizes(deployment(replicas, surge), new, [old])
    assert (found["a1"], found["a2"]) == after
    assert sum(found.values()) == (replicas + surge if replicas else 0)


def test_without_an_annotation_the_pods_that_there_are_count():
    scaled = {**deployment(20), "status": {"replicas": 10}}
    assert sizes(scaled, replica_set("a2", 4), [replica_set("a1", 6)]) == {"a1": 12, "a2": 8}


def test_one_set_follows():
    assert sizes(deployment(5), replica_set("a3", 0), [replica_set("a1", 2), replica_set("a2", 0)]) == {"a1": 5}
    assert sizes(deployment(5), None, [replica_set("a1", 0), replica_set("a2", 0)]) == {"a2": 5}
    assert sizes(deployment(5), replica_set("a3", 0), [replica_set("a1", 0)]) == {"a3": 5}
    assert sizes(deployment(5), None, []) == {}


def test_a_rollout_that_is_through_leaves_no_old_pods():
    new = replica_set("a2", 5, desired=5, available=5)
    assert sizes(deployment(5), new, [replica_set("a1", 3)]) == {"a1": 0}


def test_sets_that_replace_each_other_keep_their_sizes():
    new, old = replica_set("a2", 1, desired=3), replica_set("a1", 2, desired=3)
    assert sizes(deployment(5, kind="Recreate"), new, [old]) == {"a1": 2, "a2": 1}
