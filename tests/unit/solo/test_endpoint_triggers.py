"""The time that EndpointSlices say they changed at."""

from solo.controllers.endpoint_triggers import TRIGGER_TIME, TriggerTimes, annotated


def service(made="2026-01-01T00:00:00Z"):
    return {"metadata": {"namespace": "ns", "name": "s", "creationTimestamp": made}}


def pod(name, since=""):
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": since}] if since else []
    return {"metadata": {"name": name}, "status": {"conditions": ready}}


def test_the_first_change_since_the_last_look_counts():
    times = TriggerTimes()
    one, two = pod("one", "2026-01-01T00:00:05Z"), pod("two", "2026-01-01T00:00:07Z")
    assert times.look(service(), [one]) == "2026-01-01T00:00:00Z"
    assert times.look(service(), [one]) == ""
    assert times.look(service(), [one, two, pod("three")]) == "2026-01-01T00:00:07Z"
    later = [pod("one", "2026-01-01T00:01:00Z"), pod("two", "2026-01-01T00:00:59Z")]
    assert times.look(service(), later) == "2026-01-01T00:00:59Z"
    assert times.look(service("2026-01-01T00:02:00Z"), later) == "2026-01-01T00:02:00Z"
    times.forget(("ns", "s"))
    assert times.look(service(), later) == "2026-01-01T00:00:00Z"


def test_a_time_that_is_not_known_takes_the_former_away():
    assert annotated({"a": "b", TRIGGER_TIME: "x"}, "y") == {"a": "b", TRIGGER_TIME: "y"}
    assert annotated({"a": "b", TRIGGER_TIME: "x"}, "") == {"a": "b"}
    assert annotated(None, "") == {}
