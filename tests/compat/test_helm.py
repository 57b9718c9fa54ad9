"""Helm: a small chart is installed, upgraded, rolled back and uninstalled."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from compat import programs

TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}, labels: {app: {{ .Release.Name }}}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: host, command: [sleep, "600"], env: [{name: WORD, value: {{ .Values.word }}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {word: {{ .Values.word }}, server: {{ .Capabilities.KubeVersion.Version }}}
"""


@pytest.fixture(params=programs.HELM)
def helm(cluster, namespace, tmp_path, request):
    """A call of Helm in the test's namespace: its output, or an assertion with what it complained of."""
    program = programs.helm(request.param)
    environment = {**os.environ, "HOME": str(tmp_path), "KUBECONFIG": str(cluster.kubeconfig)}

    def call(*arguments: str) -> str:
        command = [str(program), *arguments, "--namespace", namespace]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    return call


@pytest.fixture
def chart(tmp_path):
    directory = tmp_path / "chart"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 0.1.0}")
    (directory / "values.yaml").write_text("{replicas: 1, word: first}")
    (directory / "templates" / "all.yaml").write_text(TEMPLATE)
    return str(directory)


def test_life_of_a_release(cluster, namespace, helm, chart):
    def word() -> str:
        return cluster.get("cm", "small", "-n", namespace)["data"]["word"]

    helm("install", "small", chart, "--wait", "--timeout=30s")
    assert word() == "first"
    assert cluster.get("deployment", "small", "-n", namespace)["status"]["readyReplicas"] == 1
    helm("upgrade", "small", chart, "--set=word=second,replicas=2", "--wait", "--timeout=30s")
    assert word() == "second"
    helm("rollback", "small", "1", "--wait", "--timeout=30s")
    assert word() == "first"
    assert [entry["status"] for entry in json.loads(helm("history", "small", "-o", "json"))][-1] == "deployed"
    assert json.loads(helm("list", "-o", "json"))[0]["revision"] == "3"
    helm("uninstall", "small", "--wait", "--timeout=30s")
    assert "NotFound" in cluster.fails("get", "deployment", "small", "-n", namespace)
    assert json.loads(helm("list", "-o", "json")) == []
