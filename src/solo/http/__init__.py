"""The wire of the API server: URLs, bodies, tables, watches, discovery and streams."""
