"""Kubernetes itself, for clients and servers alike: `machinery` (pure rules) and `client` (how to talk to an API)."""
