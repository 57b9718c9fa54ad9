"""Pure rules of the Kubernetes API: no I/O, no asyncio."""
