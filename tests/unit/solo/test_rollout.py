"""The arithmetic of rollouts: bounds hold in every state, and every rollout comes to its end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solo.controllers.rollout import (
    REVISION,
    REVISION_HISTORY,
    Bounds,
    next_new_size,
    next_old_sizes,
    past_revisions,
    same_template,
    scaled,
    template_hash,
)


def replica_set(name, wanted, available=None):
    return {
        "metadata": {"name": name},
        "spec": {"replicas": wanted},
        "status": {"replicas": wanted, "availableReplicas": wanted if available is None else available},
    }


@pytest.mark.parametrize(
    ("value", "total", "up", "expected"),
    [
        ("25%", 4, True, 1),
        ("25%", 5, True, 2),
        ("25%", 5, False, 1),
        (3, 10, True, 3),
        ("0%", 9, True, 0),
        (None, 4, True, 0),
    ],
)
def test_scaled(value, total, up, expected):
    assert scaled(value, total, round_up=up) == expected


def deployment(replicas, surge, unavailable):
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (deployment(4, "25%", "25%"), Bounds(4, 1, 1)),
        (deployment(1, "25%", "25%"), Bounds(1, 1, 0)),
        (deployment(3, 0, 0), Bounds(3, 0, 1)),
        ({"spec": {}}, Bounds(1, 1, 0)),
        ({"spec": {"replicas": 2, "strategy": {"type": "Recreate"}}}, Bounds(2, 0, 2)),
    ],
)
def test_bounds(obj, expected):
    assert Bounds.of(obj) == expected


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(0, 8),
    surge=st.integers(0, 3),
    unavailable=st.integers(0, 3),
    broken=st.integers(0, 8),
)
def test_a_rollout_keeps_its_bounds_and_ends(replicas, surge, unavailable, broken):
    bounds = Bounds.of(deployment(replicas, surge, unavailable))
    new = replica_set("new", 0)
    old = [replica_set("old", replicas, max(0, replicas - broken))]
    for _ in range(60):
        size = next_new_size(bounds, new, [new, *old])
        before = new["status"]["availableReplicas"] + old[0]["status"]["availableReplicas"]
        if size != new["spec"]["replicas"]:
            new = replica_set("new", size, new["status"]["availableReplicas"])
        else:
            for smaller in next_old_sizes(bounds, new, old).values():
                # Broken replicas go first, so healthy ones are what is left.
                old = [replica_set("old", smaller, min(smaller, old[0]["status"]["availableReplicas"]))]
        after = new["status"]["availableReplicas"] + old[0]["status"]["availableReplicas"]
        assert new["spec"]["replicas"] + old[0]["spec"]["replicas"] <= max(bounds.max_total, replicas)
        assert after >= min(before, bounds.min_available)
        new = replica_set("new", new["spec"]["replicas"])
    assert (new["spec"]["replicas"], old[0]["spec"]["replicas"]) == (replicas, 0)


def test_scaling_down_is_at_once():
    assert next_new_size(Bounds(2, 1, 0), replica_set("new", 5), []) == 2


def test_hash_and_sameness():
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}
    labelled = {"metadata": {"labels": {"a": "b", "pod-template-hash": "x"}}, "spec": {"containers": []}}
    assert same_template({"spec": {"template": labelled}}, template)
    assert not same_template({"spec": {"template": labelled}}, {**template, "spec": {"containers": [{"name": "c"}]}})
    assert (
        template_hash(template, 0) == template_hash(dict(reversed(template.items())), 0) != template_hash(template, 1)
    )
    assert set(template_hash(template, 0)) <= set("bcdfghjklmnpqrstvwxz2456789")


@pytest.mark.parametrize(
    ("annotations", "number", "kept"),
    [
        ({}, 1, None),
        ({REVISION: "3"}, 3, None),
        ({REVISION: "1"}, 3, "1"),
        ({REVISION: "5", REVISION_HISTORY: "1,3"}, 7, "1,3,5"),
        ({REVISION: "9999", REVISION_HISTORY: ",".join(["1000"] * 400)}, 10000, ",".join(["1000"] * 399 + ["9999"])),
    ],
    ids=["new", "current", "again", "more than once", "too many"],
)
def test_a_set_that_is_taken_again_keeps_its_revisions(annotations, number, kept):
    found = past_revisions({"metadata": {"annotations": annotations}}, number)
    assert found == ({} if kept is None else {REVISION_HISTORY: kept})
