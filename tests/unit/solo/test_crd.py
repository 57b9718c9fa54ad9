"""CustomResourceDefinitions and the kinds they serve."""

from __future__ import annotations

import asyncio
import contextlib
import copy

import pytest

from kube.machinery.errors import StatusError
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.cleanup import CrdCleaner
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.crds import version_priority
from solo.registry.registry import Registry
from solo.store import Key, Store

ADMIN = User("admin", (MASTERS,))
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Cluster",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "color": {"type": "string", "enum": ["red", "blue"]},
                                    "size": {"type": "integer", "default": 3},
                                },
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


class World:
    def __init__(self, store):
        self.store = store
        self.catalog = Catalog(store, builtin_kinds(lambda: ("node", {})))
        self.registry = Registry(store, self.catalog)
        self.crds = self.catalog.lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")

    async def define(self, **spec):
        crd = copy.deepcopy(CRD)
        crd["spec"].update(spec)
        return (await self.registry.create(self.crds, "", "", crd, RequestContext(ADMIN))).obj

    async def create(self, obj, version="v1", **context):
        kind = self.catalog.lookup("example.com", version, "widgets")
        context = RequestContext(ADMIN, **context)
        stored = await self.registry.create(kind, "", "", widget(version, **obj), context)
        return stored.obj, context

    async def change(self, name, subresource="", **values):
        kind = self.catalog.lookup("example.com", "v1", "widgets")
        result = await self.registry.update(
            kind,
            "",
            name,
            lambda present: {**copy.deepcopy(present), **values},
            RequestContext(ADMIN),
            subresource=subresource,
        )
        return result.obj


def widget(version="v1", name="a", **rest):
    return {"apiVersion": f"example.com/{version}", "kind": "Widget", "metadata": {"name": name}, **rest}


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    yield World(store)
    await store.close()


async def test_a_definition_is_served_at_once(world):
    before = world.catalog.generation
    made = await world.define()
    conditions = {item["type"]: item["status"] for item in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"]["listKind"] == "WidgetList"
    assert world.catalog.generation > before
    assert world.catalog.lookup("example.com", "v1", "widgets").list_kind == "WidgetList"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"group": "other.com"}, 'metadata.name: Invalid value: "widgets.example.com"'),
        ({"scope": "Galaxy"}, "spec.scope: Unsupported value"),
        ({"versions": []}, "spec.versions"),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields: Invalid value: true: cannot set to true"),
        (
            {"conversion": {"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}},
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set",
        ),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion.webhookClientConfig: Required value"),
    ],
)
async def test_bad_definitions(world, changes, text):
    with pytest.raises(StatusError) as refused:
        await world.define(**changes)
    assert refused.value.code == 422
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"selectableFields": [{"jsonPath": ".spec"}]},
            'spec.selectableFields[0].jsonPath: Invalid value: ".spec": must point to a field of type string',
        ),
        ({"selectableFields": [{"jsonPath": ".spec.no"}]}, "is an invalid path: does not refer to a valid field"),
        (
            {"subresources": {"scale": {"specReplicasPath": ".a", "statusReplicasPath": ".status.b"}}},
            'spec.subresources.scale.specReplicasPath: Invalid value: ".a": should be a json path under .spec',
        ),
        ({"deprecationWarning": "old"}, "can only be set for deprecated versions"),
        (
            {"additionalPrinterColumns": [{"name": "a", "type": "odd", "jsonPath": ".spec"}]},
            'spec.additionalPrinterColumns[0].type: Invalid value: "odd": must be one of boolean,date,integer,number',
        ),
    ],
)
async def test_bad_versions(world, changes, text):
    with pytest.raises(StatusError) as refused:
        await world.define(versions=[{**CRD["spec"]["versions"][0], **changes}])
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("items", "code", "text"),
    [
        (["x"], 400, "json: cannot unmarshal string into Go value of type v1.JSONSchemaProps"),
        ([{"type": "string"}, 5], 400, "json: cannot unmarshal number into Go value"),
        ([{"items": ["x"]}], 400, "json: cannot unmarshal string into Go value"),
        ([{"type": 5}], 400, "cannot unmarshal number into Go struct field"),
        ([{"type": "string"}, None], 422, "items must be a schema object and not an array"),
        ("x", 422, "properties[list].items: Required value: must be specified"),
    ],
)
async def test_items_that_are_no_schema(world, items, code, text):
    properties = {"list": {"type": "array", "items": items}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    with pytest.raises(StatusError) as refused:
        await world.define(versions=[{**CRD["spec"]["versions"][0], "schema": schema}])
    assert (refused.value.code, text in refused.value.message) == (code, True), refused.value.message


async def test_groups_of_kubernetes_itself_need_an_approval(world):
    crd = copy.deepcopy(CRD)
    crd["metadata"]["name"], crd["spec"]["group"] = "widgets.x.k8s.io", "x.k8s.io"
    with pytest.raises(StatusError) as refused:
        await world.registry.create(world.crds, "", "", copy.deepcopy(crd), RequestContext(ADMIN))
    assert 'must have approval annotation "api-approved.kubernetes.io"' in refused.value.message
    for wrong in ("yes", "http://["):
        crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": wrong}
        with pytest.raises(StatusError, match="either a URL or a reason"):
            await world.registry.create(world.crds, "", "", copy.deepcopy(crd), RequestContext(ADMIN))
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, for a test"}
    made = (await world.registry.create(world.crds, "", "", crd, RequestContext(ADMIN))).obj
    assert condition(made, "KubernetesAPIApprovalPolicyConformant")[:2] == ("False", "UnapprovedAnnotation")


async def test_a_deprecated_version_names_a_better_one(world):
    versions = copy.deepcopy(CRD["spec"]["versions"])
    versions.append({**copy.deepcopy(versions[0]), "name": "v1beta1", "storage": False, "deprecated": True})
    await world.define(versions=versions)
    kind = world.catalog.lookup("example.com", "v1beta1", "widgets")
    assert kind.deprecation_warning == "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"


async def test_default_prune_validate(world):
    await world.define()
    made, context = await world.create({"spec": {"color": "red", "odd": 1}})
    assert made["spec"] == {"color": "red", "size": 3}
    assert context.warnings == ['unknown field "spec.odd"']
    with pytest.raises(StatusError) as refused:
        await world.create({"name": "b", "spec": {"color": "green"}})
    assert 'spec.color: Unsupported value: "green": supported values: "red", "blue"' in refused.value.message


async def test_status_is_apart_and_generation_counts_specs(world):
    await world.define()
    await world.create({"spec": {"color": "red"}, "status": {"phase": "never"}})
    assert "status" not in world.store.get(Key("widgets.example.com", "", "a")).obj
    told = await world.change("a", "status", status={"phase": "ok"}, spec={"color": "blue"})
    assert (told["status"], told["spec"]["color"], told["metadata"]["generation"]) == ({"phase": "ok"}, "red", 1)
    turned = await world.change("a", spec={"color": "blue", "size": 3}, status={"phase": "lost"})
    assert (turned["status"], turned["metadata"]["generation"]) == ({"phase": "ok"}, 2)


async def test_an_update_needs_the_version(world):
    await world.define()
    await world.create({"spec": {"color": "red"}})
    with pytest.raises(StatusError) as refused:
        await world.change("a", metadata={"name": "a"})
    assert refused.value.code == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in refused.value.message


async def test_deletion_takes_the_objects_along(world):
    await world.define()
    await world.create({"spec": {"color": "red"}})
    held = widget("v1", "held", spec={"color": "red"})
    held["metadata"]["finalizers"] = ["x.y/z"]
    kind = world.catalog.lookup("example.com", "v1", "widgets")
    await world.registry.create(kind, "", "", held, RequestContext(ADMIN))
    cleaning = asyncio.create_task(CrdCleaner(world.registry).run())
    try:
        await world.registry.delete(world.crds, "", "widgets.example.com", DeleteOptions(), RequestContext(ADMIN))
        async with asyncio.timeout(30):
            while world.store.get(Key("widgets.example.com", "", "a")):
                await asyncio.sleep(0)
        assert world.store.get(Key("customresourcedefinitions.apiextensions.k8s.io", "", "widgets.example.com"))
        with pytest.raises(StatusError) as refused:
            await world.create({"name": "late", "spec": {"color": "red"}})
        assert refused.value.code == 405
        assert refused.value.message == "create not allowed while custom resource definition is terminating"
        assert world.catalog.lookup("example.com", "v1", "widgets").verbs == (
            "delete",
            "deletecollection",
            "get",
            "list",
            "watch",
        )
        async with asyncio.timeout(30):
            while condition(_crd(world), "Terminating")[1] != "InstanceDeletionInProgress":
                await asyncio.sleep(0)
        await world.change("held", metadata={"name": "held", "resourceVersion": _version(world, "held")})
        async with asyncio.timeout(30):
            while world.catalog.lookup("example.com", "v1", "widgets") or world.store._listeners["widgets.example.com"]:
                await asyncio.sleep(0)  # nobody listens for objects of a kind that is gone
    finally:
        cleaning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cleaning


def _crd(world):
    return world.store.get(Key("customresourcedefinitions.apiextensions.k8s.io", "", "widgets.example.com")).obj


def _version(world, name):
    return world.store.get(Key("widgets.example.com", "", name)).obj["metadata"]["resourceVersion"]


def test_version_priority():
    given = ["v1", "v2", "v10", "v1beta1", "v1alpha2", "foo", "v11beta2"]
    ordered = sorted(given, key=version_priority, reverse=True)
    assert ordered == ["v10", "v2", "v1", "v11beta2", "v1beta1", "v1alpha2", "foo"]


async def define_rival(world, **names):
    rival = copy.deepcopy(CRD)
    rival["metadata"]["name"] = "rivals.example.com"
    rival["spec"]["names"] = {"plural": "rivals", "kind": "Rival", **names}
    return (await world.registry.create(world.crds, "", "", rival, RequestContext(ADMIN))).obj


def condition(crd, type_):
    found = next(item for item in crd["status"]["conditions"] if item["type"] == type_)
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize(
    ("names", "reason", "message"),
    [
        ({"kind": "Widget", "listKind": "Rivals"}, "KindConflict", '"Widget" is already in use'),
        ({"singular": "widget"}, "SingularConflict", '"widget" is already in use'),
        ({"shortNames": ["widgets", "rv"]}, "ShortNamesConflict", '"widgets" is already in use'),
        ({"listKind": "WidgetList"}, "ListKindConflict", '"WidgetList" is already in use'),
    ],
)
async def test_a_name_belongs_to_who_came_first(world, names, reason, message):
    await world.define()
    rival = await define_rival(world, **names)
    assert condition(rival, "NamesAccepted") == ("False", reason, message)
    assert condition(rival, "Established") == ("False", "NotAccepted", "not all names are accepted")
    assert world.catalog.lookup("example.com", "v1", "rivals") is None
    assert world.catalog.lookup("example.com", "v1", "widgets").resource.kind == "Widget"


async def test_names_are_accepted_once_they_are_free(world):
    await world.define()
    await define_rival(world, kind="Widget")
    cleaner = asyncio.create_task(CrdCleaner(world.registry).run())
    await world.registry.delete(world.crds, "", "widgets.example.com", DeleteOptions(), RequestContext(ADMIN))
    async with asyncio.timeout(30):
        while world.catalog.lookup("example.com", "v1", "rivals") is None:
            await asyncio.sleep(0.01)
    cleaner.cancel()
    assert world.catalog.lookup("example.com", "v1", "rivals").resource.kind == "Widget"
