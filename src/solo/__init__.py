"""A Kubernetes API for one machine: API server, controllers and node agent in one process. Knows nothing of VMs."""
