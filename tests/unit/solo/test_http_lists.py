"""Lists, watches' selections and tables, on a store without a network."""

from __future__ import annotations

import msgspec
import pytest

from kube.machinery.errors import StatusError
from solo.http import lists, responses, tables
from solo.http.lists import Lister
from solo.http.negotiation import JSON, PARTIAL_LIST, TABLE, Output
from solo.http.selection import read_selection
from solo.http.watches import WatchOptions, _Encoder, _select
from solo.registry.builtins import builtin_kinds
from solo.registry.views import Views
from solo.store import Event, Key, Store

KINDS = {kind.resource.plural: kind for kind in builtin_kinds(lambda: ("node", {}))}
CONFIGMAPS = KINDS["configmaps"]


@pytest.fixture
async def store(tmp_path):
    store = Store.open(tmp_path / "state.db")
    for namespace in ("b", "a"):
        for number in range(3):
            await add(store, namespace, f"c{number}", {"n": str(number)})
    yield store
    await store.close()


async def add(store, namespace, name, labels=None):
    meta = {"name": name, "namespace": namespace, "labels": labels or {}, "creationTimestamp": "2024-01-01T00:00:00Z"}
    obj = CONFIGMAPS.stored({"metadata": meta, "data": {"k": "v"}})
    return await store.create(Key("configmaps", namespace, name), obj)


async def page(lister, namespace=None, labels="", fields="", **query):
    items, meta = await lister.page(CONFIGMAPS, namespace, read_selection(CONFIGMAPS, labels, fields), query)
    return [f"{item.key.namespace}/{item.key.name}" for item in items], meta


async def test_order_and_selectors(store):
    lister = Lister(store, Views())
    assert (await page(lister))[0] == ["a/c0", "a/c1", "a/c2", "b/c0", "b/c1", "b/c2"]
    assert (await page(lister, "b", "n in (0,2)"))[0] == ["b/c0", "b/c2"]
    assert (await page(lister, None, "", "metadata.name=c1"))[0] == ["a/c1", "b/c1"]
    assert (await page(lister, "a", "n=2", "metadata.name=c1"))[0] == []
    assert (await page(lister, "none"))[0] == []


async def test_pages_show_one_moment(store):
    lister = Lister(store, Views())
    first, meta = await page(lister, limit="4")
    assert (len(first), meta["remainingItemCount"]) == (4, 2)
    await add(store, "a", "c00")
    await add(store, "b", "zz")
    rest, after = await page(lister, limit="4", **{"continue": meta["continue"]})
    assert rest == ["b/c1", "b/c2"]
    assert after == {"resourceVersion": meta["resourceVersion"]}


async def test_pages_of_a_selection(store):
    lister = Lister(store, Views())
    first, meta = await page(lister, labels="n=1", limit="1")
    assert (first, "remainingItemCount" in meta) == (["a/c1"], False)
    assert (await page(lister, labels="n=1", limit="1", **{"continue": meta["continue"]}))[0] == ["b/c1"]


async def test_an_expired_page_goes_on_with_the_present(store, monkeypatch):
    lister = Lister(store, Views())
    _, meta = await page(lister, limit="4")
    await add(store, "b", "c00")
    monkeypatch.setattr(lists, "TOKEN_SECONDS", -1.0)
    with pytest.raises(StatusError) as refused:
        await page(lister, limit="1", **{"continue": meta["continue"]})
    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    token = refused.value.to_status()["metadata"]["continue"]
    rest, after = await page(lister, **{"continue": token})
    assert rest == ["b/c00", "b/c1", "b/c2"]
    assert after["resourceVersion"] == str(store.revision)


async def test_an_exact_list_of_the_past(store):
    before = store.revision
    await add(store, "a", "late")
    item = await store.update(Key("configmaps", "a", "c0"), {"metadata": {"name": "c0"}, "data": {"k": "w"}}, None)
    await store.delete(Key("configmaps", "b", "c2"), None)
    items, meta = await Lister(store, Views()).page(
        CONFIGMAPS,
        None,
        read_selection(CONFIGMAPS, "", ""),
        {"resourceVersion": str(before), "resourceVersionMatch": "Exact"},
    )
    assert [each.key.name for each in items] == ["c0", "c1", "c2"] * 2
    assert items[0].obj["data"] == {"k": "v"} and item.obj["data"] == {"k": "w"}
    assert meta["resourceVersion"] == str(before)


async def test_an_exact_list_before_the_history(tmp_path):
    store = Store.open(tmp_path / "small.db", max_events=2)
    for name in ("one", "two", "three", "four"):
        await add(store, "a", name)
    with pytest.raises(StatusError) as refused:
        await page(Lister(store, Views()), resourceVersion="1", resourceVersionMatch="Exact")
    assert refused.value.code == 410
    await store.close()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"resourceVersion": "abc"}, 400),
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersionMatch": "Odd", "resourceVersion": "1"}, 422),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422),
        ({"sendInitialEvents": "true"}, 422),
        ({"sendInitialEvents": ""}, 422),
        ({"resourceVersion": "999999"}, 504),
        ({"continue": "!"}, 400),
        ({"limit": "x"}, 400),
    ],
)
async def test_bad_list_options(store, query, code):
    with pytest.raises(StatusError) as refused:
        await page(Lister(store, Views()), **query)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (
            "configmaps",
            "data.k=a",
            '"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("pods", "spec.odd=a", "field label not supported: spec.odd"),
        ("pods", "spec.nodeName", "invalid selector"),
    ],
)
def test_bad_field_selectors(kind, fields, text):
    with pytest.raises(StatusError, match=text):
        read_selection(KINDS[kind], "", fields)


def test_bad_label_selector():
    with pytest.raises(StatusError) as refused:
        read_selection(CONFIGMAPS, "a===b", "")
    assert refused.value.code == 400


@pytest.mark.parametrize(
    "query",
    [
        {"sendInitialEvents": "true"},
        {"sendInitialEvents": ""},
        {"resourceVersionMatch": "NotOlderThan"},
        {"timeoutSeconds": "soon"},
        {"resourceVersion": "-1"},
    ],
)
def test_bad_watch_options(query):
    with pytest.raises(StatusError):
        WatchOptions.read(query)


async def test_what_a_selecting_watcher_sees(store):
    selection = read_selection(CONFIGMAPS, "n=1", "")
    encoder = _Encoder(CONFIGMAPS, Output(), "Metadata")
    inside = await add(store, "w", "in", {"n": "1"})
    outside = await add(store, "w", "out", {"n": "2"})
    seen = {
        ("ADDED", inside, None): "ADDED",
        ("ADDED", outside, None): None,
        ("MODIFIED", inside, inside): "MODIFIED",
        ("MODIFIED", inside, outside): "ADDED",
        ("MODIFIED", outside, inside): "DELETED",
        ("MODIFIED", outside, outside): None,
        ("DELETED", inside, inside): "DELETED",
        ("DELETED", outside, outside): None,
        ("DELETED", inside, outside): None,
    }
    for (type_, stored, prev), wanted in seen.items():
        line = _select(Event(type_, stored, prev), selection, encoder)
        assert (msgspec.json.decode(line)["type"] if line else None) == wanted


async def test_what_leaves_a_selection_is_shown_as_it_was_in_it(store):
    inside = await add(store, "w", "it", {"n": "1"})
    outside = await store.update(inside.key, {**inside.obj, "metadata": {"name": "it", "labels": {"n": "2"}}}, None)
    selection = read_selection(CONFIGMAPS, "n=1", "")
    line = _select(Event("MODIFIED", outside, inside), selection, _Encoder(CONFIGMAPS, Output(), "Metadata"))
    meta = msgspec.json.decode(line)["object"]["metadata"]
    assert (meta["labels"], meta["resourceVersion"]) == ({"n": "1"}, str(outside.rv))
    assert inside.obj["metadata"]["resourceVersion"] == str(inside.rv)


async def test_lists_are_put_together_from_stored_bytes(store):
    items, revision = store.list("configmaps", "a")
    response = responses.many(CONFIGMAPS, items, {"resourceVersion": str(revision)}, Output(), "Metadata")
    shown = msgspec.json.decode(response.body)
    assert (shown["kind"], shown["apiVersion"], len(shown["items"])) == ("ConfigMapList", "v1", 3)
    assert "kind" not in shown["items"][0]
    assert shown["items"][0]["metadata"]["name"] == "c0"
    partial = responses.many(CONFIGMAPS, items, {}, Output(JSON, PARTIAL_LIST, "meta.k8s.io/v1"), "Metadata")
    assert set(msgspec.json.decode(partial.body)["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_tables(store):
    items, _ = store.list("configmaps", "a")
    shown = tables.table(CONFIGMAPS, [item.obj for item in items], {}, "Metadata", "meta.k8s.io/v1")
    assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert shown["rows"][0]["cells"][:2] == ["c0", 1]
    assert shown["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    bare = tables.table(CONFIGMAPS, [items[0].obj], {}, "None", "meta.k8s.io/v1", header=False)
    assert bare["columnDefinitions"] == []
    assert bare["rows"][0]["object"] is None
    one = responses.one(CONFIGMAPS, items[0], Output(JSON, TABLE, "meta.k8s.io/v1"), "Object")
    assert msgspec.json.decode(one.body)["rows"][0]["object"]["data"] == {"k": "v"}


@pytest.mark.parametrize(
    ("status", "deleted", "wanted"),
    [
        ({"phase": "Pending"}, False, "Pending"),
        ({"phase": "Running", "containerStatuses": [{"ready": True, "state": {"running": {}}}]}, False, "Running"),
        ({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}, False,
         "CrashLoopBackOff"),
        ({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}, False, "ExitCode:3"),
        ({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}, False, "Init:0/1"),
        ({"phase": "Running"}, True, "Terminating"),
        ({"phase": "Succeeded"}, True, "Succeeded"),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
         False, "SchedulingGated"),
    ],
)  # fmt: skip
def test_pod_status(status, deleted, wanted):
    meta = {"name": "p", "creationTimestamp": "2024-01-01T00:00:00Z"}
    if deleted:
        meta["deletionTimestamp"] = "2024-01-01T00:00:00Z"
    spec = {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}
    shown = tables.table(
        KINDS["pods"], [{"metadata": meta, "spec": spec, "status": status}], {}, "None", "meta.k8s.io/v1"
    )
    assert shown["rows"][0]["cells"][2] == wanted


def test_sidecars_count_as_containers():
    spec = {"containers": [{"name": "c"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]}
    running = {"ready": True, "started": True, "state": {"running": {}}}
    init = [{"name": "s", **running}, {"name": "i", "state": {"running": {}}}]
    status = {"phase": "Pending", "initContainerStatuses": init, "containerStatuses": []}
    obj = {"metadata": {"name": "p"}, "spec": spec, "status": status}
    assert tables.table(KINDS["pods"], [obj], {}, "None", "meta.k8s.io/v1")["rows"][0]["cells"][1:3] == [
        "1/2",
        "Init:1/2",
    ]
    status.update(phase="Running", containerStatuses=[{"name": "c", **running}])
    status["conditions"] = [{"type": "Initialized", "status": "True"}]
    assert tables.table(KINDS["pods"], [obj], {}, "None", "meta.k8s.io/v1")["rows"][0]["cells"][1:3] == [
        "2/2",
        "Running",
    ]


def test_every_builtin_kind_prints():
    for kind in KINDS.values():
        shown = tables.table(kind, [{"metadata": {"name": "x"}}], {}, "Metadata", "meta.k8s.io/v1")
        assert len(shown["rows"][0]["cells"]) == len(shown["columnDefinitions"])


def test_warnings_are_one_line_and_quoted():
    response = responses.raw_json(b"{}", warnings=['a "b"\nc'])
    assert response.headers["Warning"] == '299 - "a \\"b\\" c"'


def test_warnings_that_are_long_together_are_cut():
    few = responses.raw_json(b"{}", warnings=["x" * 1000, "x" * 1000, "", "y" * 3000])
    assert [len(text) for text in few.headers.getall("Warning")] == [1008, 3008]
    long = responses.raw_json(b"{}", warnings=[f"{number:05}" * 100 for number in range(30)])
    assert [len(text) for text in long.headers.getall("Warning")] == [264] * 16
    many = responses.raw_json(b"{}", warnings=[str(number) for number in range(200)])
    assert len(many.headers.getall("Warning")) == 64
