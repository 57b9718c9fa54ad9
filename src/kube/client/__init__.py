"""Clients of a Kubernetes API: a sync one for commands, an async one with informers and queues for controllers."""
