"""The controllers of a small cluster: garbage collection, namespaces, deployments, service accounts.

Each is level-triggered, reaches the API only through `kube.client.aio`, and keeps nothing that it could not learn
again.
"""

from solo.controllers.manager import run_all

__all__ = ["run_all"]
