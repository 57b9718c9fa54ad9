"""An operator on kopf that says in each Gear what happened to it; run by `kopf run`, not collected by pytest."""

import asyncio
import os
from pathlib import Path

import kopf

GEAR = ("gears.example.com", "v1", "gears")


@kopf.on.startup()
def configure(settings, **_):
    settings.posting.enabled = True
    settings.persistence.finalizer = "operator.example.com/finalizer"
    settings.background.cancellation_polling = 0.2
    settings.peering.name = "operators"
    settings.peering.mandatory = True
    certificates = Path(os.environ["WEBHOOK_CERTIFICATES"])
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1",
        host="127.0.0.1",
        port=int(os.environ["WEBHOOK_PORT"]),
        certfile=certificates / "server.crt",
        pkeyfile=certificates / "server.key",
        cafile=certificates / "ca.crt",
    )
    settings.admission.managed = "operator.example.com"


@kopf.on.create(*GEAR)
def created(spec, name, namespace, body, **_):
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-child"}, "data": {}}
    kopf.adopt(child, owner=body)
    kopf.info(body, reason="Geared", message=f"{spec['teeth']} teeth")
    return {"teeth": spec["teeth"], "child": child["metadata"]["ownerReferences"][0]["uid"]}


@kopf.on.update(*GEAR)
def updated(diff, patch, **_):
    patch.status["changed"] = [".".join(field) for _, field, _, _ in diff]


@kopf.on.field(*GEAR, field="spec.colour")
def coloured(old, new, patch, **_):
    patch.status["colour"] = f"{old}->{new}"


@kopf.on.delete(*GEAR)
def deleted(spec, name, logger, **_):
    logger.info("GONE %s", name)


@kopf.timer(*GEAR, interval=0.2, idle=0)
def ticked(status, patch, **_):
    if (ticks := status.get("ticks", 0)) < 3:
        patch.status["ticks"] = ticks + 1


@kopf.daemon(*GEAR)
async def watched(stopped, logger, name, **_):
    logger.info("WATCHED %s", name)
    while not stopped:
        await asyncio.sleep(0.1)
    logger.info("STOPPED %s", name)


@kopf.on.validate(*GEAR)
def validate(spec, **_):
    if spec.get("teeth", 0) < 0:
        raise kopf.AdmissionError("teeth cannot be negative", code=422)


@kopf.on.mutate(*GEAR)
def mutate(spec, patch, **_):
    if "colour" not in spec:
        patch.spec["colour"] = "grey"
