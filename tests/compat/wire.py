"""Requests as they are on the wire, without a client library's opinion."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.parse

import yaml


class Wire:
    """Requests as the admin, each on a connection of its own."""

    def __init__(self, kubeconfig, directory) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        user, server = config["users"][0]["user"], config["clusters"][0]["cluster"]
        pem = directory / "admin.pem"
        pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        authority = base64.b64decode(server["certificate-authority-data"]).decode()
        self.pem = pem
        self.authority = authority
        self.context = ssl.create_default_context(cadata=authority)
        self.context.load_cert_chain(pem)
        self.address = urllib.parse.urlparse(server["server"])

    def open(self, method, path, body=None, headers=None):
        connection = http.client.HTTPSConnection(
            self.address.hostname, self.address.port, context=self.context, timeout=20
        )
        data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        given = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, {**given, **(headers or {})})
        return connection, connection.getresponse()

    def headers(self, method, path, body=None, headers=None):
        """Status, headers and text of an answer."""
        connection, response = self.open(method, path, body, headers)
        try:
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def __call__(self, method, path, body=None, headers=None):
        connection, response = self.open(method, path, body, headers)
        try:
            text = response.read()
            return response.status, json.loads(text) if text[:1] == b"{" else text.decode()
        finally:
            connection.close()
