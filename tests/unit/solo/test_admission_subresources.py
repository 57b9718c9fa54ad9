"""What admission is asked about subresources that speak another kind than their resource's, and what comes of it."""

from __future__ import annotations

import pytest

from solo.auth.user import MASTERS, User
from solo.registry import scale
from solo.registry.bindings import bind
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import RequestContext
from solo.registry.evictions import evict
from solo.registry.limits import LimitAdmission
from solo.registry.objects import copy
from solo.registry.priorities import PriorityAdmission
from solo.registry.registry import Registry
from solo.registry.review import admission_request
from solo.registry.runtimeclasses import RuntimeClassAdmission
from solo.store import Key, Store
from unit.solo.conftest import refused

ADMIN = User("admin", (MASTERS,))
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "host"}], "schedulerName": "none"}}


class World:
    """A registry whose admission notes what it is asked, and does what `thought` says."""

    def __init__(self, store):
        self.store = store
        self.registry = Registry(store, Catalog(store, builtin_kinds(lambda: ("node", {}))))
        for plugin in (PriorityAdmission(store), LimitAdmission(store), RuntimeClassAdmission(store), self):
            self.registry.add_mutation(plugin)
        self.registry.add_admission(self)
        self.asked = []
        self.thought = lambda obj: obj

    async def mutate(self, attributes):
        if attributes.obj is not None:
            attributes.obj = self.thought(copy(attributes.obj))

    async def admit(self, attributes):
        request = admission_request(attributes)
        kind, place = request["kind"], request["resource"]
        shown = f"{place['resource']}/{attributes.subresource}"
        self.asked.append((attributes.operation, shown, kind["group"], kind["kind"], attributes.obj, attributes.old))

    def kind(self, plural, group=""):
        return self.registry.catalog.lookup(group, "v1", plural)

    async def create(self, plural, obj, group="", namespace="ns"):
        await self.registry.create(self.kind(plural, group), namespace, "", copy(obj), RequestContext(ADMIN))
        self.asked.clear()

    async def evict(self, options=None, **context):
        eviction = {"kind": "Eviction", "metadata": {"name": "p"}}
        eviction |= {} if options is None else {"deleteOptions": options}
        await evict(self.registry, self.kind("pods"), "ns", "p", eviction, RequestContext(ADMIN, **context))

    async def scale(self, **metadata):
        kind, context = self.kind("deployments", "apps"), RequestContext(ADMIN)

        def change(obj):
            wanted = {"metadata": {"name": "d", **metadata}, "spec": {"replicas": 3}}
            scale.accept(kind, obj, wanted, context)
            return scale.write(kind, obj, wanted)

        return (await self.registry.update(kind, "ns", "d", change, context, subresource="scale")).obj

    @property
    def pod(self):
        return self.store.get(Key("pods", "ns", "p"))


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", {"metadata": {"name": "ns"}}, namespace="")
    await world.create("pods", POD)
    yield world
    await store.close()


async def test_an_eviction_is_created_and_no_deletion_is_asked_about(world):
    await world.evict({"gracePeriodSeconds": 0})
    ((operation, *rest),) = world.asked
    shown = {"kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}}
    assert (operation, *rest) == ("CREATE", "pods/eviction", "policy", "Eviction", shown, None)
    assert world.pod is None


async def test_admission_may_change_an_eviction(world):
    world.thought = lambda obj: {**obj, "deleteOptions": {"dryRun": ["All"]}}
    await world.evict({"gracePeriodSeconds": 0})
    assert "deletionTimestamp" not in world.pod.obj["metadata"]
    world.thought = lambda obj: {**obj, "deleteOptions": {"gracePeriodSeconds": "no"}}
    assert "cannot unmarshal" in (await refused(world.evict())).message


@pytest.mark.parametrize(("options", "dry_run"), [(["All"], False), ([], True), (None, True), (["All"], True)])
async def test_the_dry_run_of_an_eviction_is_said_in_either_place(world, options, dry_run):
    given = None if options is None else {"gracePeriodSeconds": 0, "dryRun": options}
    await world.evict(given, dry_run=dry_run)
    assert "deletionTimestamp" not in world.pod.obj["metadata"]


async def test_places_that_differ_about_a_dry_run(world):
    problem = await refused(world.evict({"dryRun": ["All", "None"]}, dry_run=True))
    text = "Non-matching dry-run options in request and content: [All] and [All None]"
    assert (problem.code, problem.message) == (500, text)
    assert (await refused(world.evict({"dryRun": ["None"]}))).code == 422


async def test_a_binding_is_created_and_no_update_of_the_pod_is_asked_about(world):
    binding = {"kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
    await bind(world.registry, world.kind("pods"), "ns", "p", binding, RequestContext(ADMIN))
    assert world.asked == [("CREATE", "pods/binding", "", "Binding", binding, None)]
    assert world.pod.obj["spec"]["nodeName"] == "n"


@pytest.mark.parametrize("metadata", [{}, {"name": ""}, {"name": "q"}])
async def test_bindings_and_evictions_are_those_of_the_pod(world, metadata):
    eviction = {"kind": "Eviction", "metadata": dict(metadata)}
    problem = await refused(evict(world.registry, world.kind("pods"), "ns", "p", eviction, RequestContext(ADMIN)))
    assert (problem.code, "name in URL does not match name in Eviction object" in problem.message) == (400, True)
    binding = {"kind": "Binding", "metadata": dict(metadata), "target": {"name": "n"}}
    problem = await refused(bind(world.registry, world.kind("pods"), "ns", "p", binding, RequestContext(ADMIN)))
    assert (problem.code, problem.message) == (400, "name in URL does not match name in Binding object")


@pytest.fixture
async def deployment(world):
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": POD["spec"]}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    await world.create("deployments", {"metadata": {"name": "d"}, "spec": spec}, "apps")


@pytest.mark.usefixtures("deployment")
async def test_a_scale_is_updated_and_admission_may_change_it(world):
    world.thought = lambda obj: {**obj, "spec": {"replicas": obj["spec"]["replicas"] + 1}}
    assert (await world.scale())["spec"]["replicas"] == 4
    ((operation, place, group, kind, new, old),) = world.asked
    assert (operation, place, group, kind) == ("UPDATE", "deployments/scale", "autoscaling", "Scale")
    assert [(obj["kind"], obj["spec"], obj["status"]["selector"]) for obj in (new, old)] == [
        ("Scale", {"replicas": 4}, "app=d"),
        ("Scale", {"replicas": 2}, "app=d"),
    ]


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize(
    ("metadata", "code", "text"),
    [
        ({"name": "e"}, 400, "does not match the name on the URL"),
        ({"name": ""}, 400, "name must be provided"),
        ({"namespace": "other"}, 400, "the namespace of the"),
        ({"uid": "u"}, 409, 'deployments/scale.apps "d": Precondition failed: UID in precondition: u'),
    ],
)
async def test_a_scale_is_that_of_the_object(world, metadata, code, text):
    problem = await refused(world.scale(**metadata))
    assert problem.code == code
    assert text in problem.message
