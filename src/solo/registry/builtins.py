"""The table of built-in kinds: names, short names, subresources and the rules that apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kube.machinery.resources import ALL_VERBS, Resource
from solo.registry.crds import CrdStrategy
from solo.registry.kinds import SCALE, STATUS, Kind, Subresource
from solo.registry.rules import (
    admission,
    autoscaling,
    budgets,
    cluster,
    config,
    core,
    cronjobs,
    devices,
    jobs,
    network,
    quotas,
    rbac,
    services,
    storage,
    webhookconfigs,
    workloads,
)
from solo.registry.rules.pods import PodStrategy
from solo.registry.strategy import BuiltinStrategy, Strategy

NodeView = Callable[[], tuple[str, Mapping[str, str]]]

_PACKAGES = {
    "": "io.k8s.api.core",
    "apps": "io.k8s.api.apps",
    "autoscaling": "io.k8s.api.autoscaling",
    "batch": "io.k8s.api.batch",
    "certificates.k8s.io": "io.k8s.api.certificates",
    "flowcontrol.apiserver.k8s.io": "io.k8s.api.flowcontrol",
    "node.k8s.io": "io.k8s.api.node",
    "policy": "io.k8s.api.policy",
    "coordination.k8s.io": "io.k8s.api.coordination",
    "events.k8s.io": "io.k8s.api.events",
    "resource.k8s.io": "io.k8s.api.resource",
    "discovery.k8s.io": "io.k8s.api.discovery",
    "networking.k8s.io": "io.k8s.api.networking",
    "storage.k8s.io": "io.k8s.api.storage",
    "scheduling.k8s.io": "io.k8s.api.scheduling",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
    "admissionregistration.k8s.io": "io.k8s.api.admissionregistration",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
}

_POD_SUBRESOURCES = (
    STATUS,
    Subresource("attach", ("create", "get"), kind="PodAttachOptions"),
    Subresource("binding", ("create",), kind="Binding"),
    Subresource("eviction", ("create",), group="policy", version="v1", kind="Eviction"),
    Subresource("exec", ("create", "get"), kind="PodExecOptions"),
    Subresource("log", ("get",), kind="Pod"),
    Subresource("portforward", ("create", "get"), kind="PodPortForwardOptions"),
)
_TOKEN = Subresource("token", ("create",), group="authentication.k8s.io", version="v1", kind="TokenRequest")
_FINALIZE = Subresource("finalize", ("update",))
_APPROVAL = Subresource("approval")
_VERSIONS = {"autoscaling": "v2"}
_DEPRECATED = {"endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
# Nobody empties a cluster by one request.
_VERBS = {"namespaces": tuple(verb for verb in ALL_VERBS if verb != "deletecollection")}

# (group, plural, Kind, namespaced, strategy, short names, categories, subresources); the version is v1 unless
# _VERSIONS says otherwise.
_Row = tuple[str, str, str, bool, type[BuiltinStrategy], str, str, tuple[Subresource, ...]]
_PLAIN = BuiltinStrategy
_WITH_STATUS = core.StatusObjectStrategy
_RETURNING = cluster.ReturningStrategy
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"

_ROWS: tuple[_Row, ...] = (
    ("", "configmaps", "ConfigMap", True, config.ConfigStrategy, "cm", "", ()),
    ("", "endpoints", "Endpoints", True, network.EndpointsStrategy, "ep", "", ()),
    ("", "events", "Event", True, core.EventStrategy, "ev", "", ()),
    ("", "limitranges", "LimitRange", True, quotas.LimitRangeStrategy, "limits", "", ()),
    ("", "namespaces", "Namespace", False, core.NamespaceStrategy, "ns", "", (_FINALIZE, STATUS)),
    ("", "nodes", "Node", False, core.NodeStrategy, "no", "", (STATUS,)),
    ("", "persistentvolumeclaims", "PersistentVolumeClaim", True, storage.ClaimStrategy, "pvc", "", (STATUS,)),
    ("", "persistentvolumes", "PersistentVolume", False, storage.VolumeStrategy, "pv", "", (STATUS,)),
    ("", "podtemplates", "PodTemplate", True, workloads.TemplateStrategy, "", "", ()),
    ("", "replicationcontrollers", "ReplicationController", True, workloads.ReplicationStrategy, "rc", "all",
     (SCALE, STATUS)),
    ("", "resourcequotas", "ResourceQuota", True, quotas.QuotaStrategy, "quota", "", (STATUS,)),
    ("", "secrets", "Secret", True, config.SecretStrategy, "", "", ()),
    ("", "serviceaccounts", "ServiceAccount", True, core.ServiceAccountStrategy, "sa", "", (_TOKEN,)),
    ("", "services", "Service", True, services.ServiceStrategy, "svc", "all", (STATUS,)),
    ("apps", "controllerrevisions", "ControllerRevision", True, core.RevisionStrategy, "", "", ()),
    ("apps", "daemonsets", "DaemonSet", True, workloads.DaemonSetStrategy, "ds", "all", (STATUS,)),
    ("apps", "deployments", "Deployment", True, workloads.DeploymentStrategy, "deploy", "all", (SCALE, STATUS)),
    ("apps", "replicasets", "ReplicaSet", True, workloads.ReplicaSetStrategy, "rs", "all", (SCALE, STATUS)),
    ("apps", "statefulsets", "StatefulSet", True, workloads.StatefulSetStrategy, "sts", "all", (SCALE, STATUS)),
    ("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True, autoscaling.AutoscalerStrategy, "hpa",
     "all", (STATUS,)),
    ("batch", "cronjobs", "CronJob", True, cronjobs.CronJobStrategy, "cj", "all", (STATUS,)),
    ("batch", "jobs", "Job", True, jobs.JobStrategy, "", "all", (STATUS,)),
    ("certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest", False,
     cluster.SigningRequestStrategy, "csr", "", (_APPROVAL, STATUS)),
    ("coordination.k8s.io", "leases", "Lease", True, core.LeaseStrategy, "", "", ()),
    ("discovery.k8s.io", "endpointslices", "EndpointSlice", True, network.EndpointSliceStrategy, "", "", ()),
    (_FLOW, "flowschemas", "FlowSchema", False, cluster.FlowSchemaStrategy, "", "", (STATUS,)),
    (_FLOW, "prioritylevelconfigurations", "PriorityLevelConfiguration", False, cluster.PriorityLevelStrategy, "", "",
     (STATUS,)),
    ("networking.k8s.io", "ingressclasses", "IngressClass", False, network.IngressClassStrategy, "", "", ()),
    ("networking.k8s.io", "ingresses", "Ingress", True, network.IngressStrategy, "ing", "", (STATUS,)),
    ("networking.k8s.io", "ipaddresses", "IPAddress", False, cluster.AddressStrategy, "ip", "", ()),
    ("networking.k8s.io", "networkpolicies", "NetworkPolicy", True, network.NetworkPolicyStrategy, "netpol", "", ()),
    ("networking.k8s.io", "servicecidrs", "ServiceCIDR", False, services.ServiceCIDRStrategy, "", "", (STATUS,)),
    ("node.k8s.io", "runtimeclasses", "RuntimeClass", False, cluster.RuntimeClassStrategy, "", "", ()),
    ("policy", "poddisruptionbudgets", "PodDisruptionBudget", True, budgets.BudgetStrategy, "pdb", "", (STATUS,)),
    ("resource.k8s.io", "deviceclasses", "DeviceClass", False, devices.DeviceClassStrategy, "", "", ()),
    ("resource.k8s.io", "resourceclaims", "ResourceClaim", True, devices.ClaimStrategy, "", "", (STATUS,)),
    ("resource.k8s.io", "resourceclaimtemplates", "ResourceClaimTemplate", True, devices.TemplateStrategy, "", "", ()),
    ("resource.k8s.io", "resourceslices", "ResourceSlice", False, devices.SliceStrategy, "", "", ()),
    ("scheduling.k8s.io", "priorityclasses", "PriorityClass", False, core.PriorityClassStrategy, "pc", "", ()),
    ("storage.k8s.io", "csidrivers", "CSIDriver", False, cluster.DriverStrategy, "", "", ()),
    ("storage.k8s.io", "csinodes", "CSINode", False, _RETURNING, "", "", ()),
    ("storage.k8s.io", "csistoragecapacities", "CSIStorageCapacity", True, _PLAIN, "", "", ()),
    ("storage.k8s.io", "storageclasses", "StorageClass", False, storage.StorageClassStrategy, "sc", "", ()),
    ("storage.k8s.io", "volumeattachments", "VolumeAttachment", False, cluster.AttachmentStrategy, "", "", (STATUS,)),
    ("storage.k8s.io", "volumeattributesclasses", "VolumeAttributesClass", False, cluster.AttributesClassStrategy,
     "vac", "", ()),
    (_RBAC, "clusterrolebindings", "ClusterRoleBinding", False, rbac.BindingStrategy, "", "", ()),
    (_RBAC, "clusterroles", "ClusterRole", False, rbac.RoleStrategy, "", "", ()),
    (_RBAC, "rolebindings", "RoleBinding", True, rbac.BindingStrategy, "", "", ()),
    (_RBAC, "roles", "Role", True, rbac.RoleStrategy, "", "", ()),
    (_ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", False, admission.MutatingPolicyStrategy,
     "", "api-extensions", ()),
    (_ADMISSION, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", False,
     admission.MutatingBindingStrategy, "", "api-extensions", ()),
    (_ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False, webhookconfigs.WebhookStrategy,
     "", "api-extensions", ()),
    (_ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False, admission.PolicyStrategy,
     "", "api-extensions", (STATUS,)),
    (_ADMISSION, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False,
     admission.PolicyBindingStrategy, "", "api-extensions", ()),
    (_ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False,
     webhookconfigs.WebhookStrategy, "", "api-extensions", ()),
    ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", False, CrdStrategy, "crd,crds",
     "api-extensions", (STATUS,)),
    ("apiregistration.k8s.io", "apiservices", "APIService", False, _WITH_STATUS, "", "api-extensions", (STATUS,)),
)  # fmt: skip

# The order in which Kubernetes lists its groups; it decides, for example, which group `kubectl get events` means.
GROUP_ORDER = (
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
)


def builtin_kinds(node: NodeView) -> list[Kind]:
    """All built-in kinds. `node` gives the one node's name and labels, for placing pods."""
    kinds = []
    for group, plural, kind, namespaced, rules, short, categories, subresources in _ROWS:
        version = _VERSIONS.get(group, "v1")
        definition = f"{_PACKAGES[group]}.{version}.{kind}"
        resource = Resource(group, version, plural, kind, namespaced)
        strategy: Strategy = rules(group, version, kind, definition, namespaced=namespaced)
        kinds.append(_kind(resource, strategy, definition, short, categories, subresources))
    kinds += [_events(), _old_autoscalers()]
    pod = f"{_PACKAGES['']}.v1.Pod"
    kinds.append(_kind(Resource("", "v1", "pods", "Pod"), PodStrategy(pod, node), pod, "po", "all", _POD_SUBRESOURCES))
    return kinds


def _events() -> Kind:
    """events.k8s.io/v1: the same objects as the core events, with some fields called differently."""
    group, definition = "events.k8s.io", f"{_PACKAGES['events.k8s.io']}.v1.Event"
    return Kind(
        Resource(group, "v1", "events", "Event"),
        core.NewEventStrategy(group, "v1", "Event", definition, namespaced=True),
        short_names=("ev",),
        definition=definition,
        storage_version="v1",
        stored_as="events",
        form=core.EVENT_FORM,
    )


def _old_autoscalers() -> Kind:
    """autoscaling/v1: the same objects as those of v2."""
    group, plural, kind = "autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler"
    definition = f"{_PACKAGES[group]}.v1.{kind}"
    return Kind(
        Resource(group, "v1", plural, kind),
        autoscaling.OldAutoscalerStrategy(group, "v1", kind, definition, namespaced=True),
        short_names=("hpa",),
        categories=("all",),
        subresources=(STATUS,),
        definition=definition,
        storage_version=f"{group}/v2",
        form=autoscaling.OldForm(),
    )


def _kind(
    resource: Resource,
    strategy: Strategy,
    definition: str,
    short: str,
    categories: str,
    subresources: tuple[Subresource, ...],
) -> Kind:
    return Kind(
        resource,
        strategy,
        short_names=tuple(short.split(",")) if short else (),
        categories=tuple(categories.split(",")) if categories else (),
        subresources=subresources,
        verbs=_VERBS.get(resource.group_resource, ALL_VERBS),
        definition=definition,
        deprecation_warning=_DEPRECATED.get(resource.group_resource, ""),
    )
