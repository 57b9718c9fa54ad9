"""Kubeconfig files: what is read, and how errors name the file and the remedy."""

import base64
import json
import os
import stat

import pytest
import yaml

from kube.client.config import KubeConfigError, load_kubeconfig, write_kubeconfig


def kubeconfig(**changes):
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "work"}},
            {"name": "two", "context": {"cluster": "c2", "user": "u"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://10.0.0.1:6443/", "insecure-skip-tls-verify": True}},
            {"name": "c2", "cluster": {"server": "https://10.0.0.2", "tls-server-name": "api"}},
        ],
        "users": [{"name": "u", "user": {"token": "sesame"}}],
    }
    return document | changes


@pytest.fixture
def write(tmp_path):
    def _write(document, name="config"):
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        return str(path)

    return _write


def test_reads_the_current_context(write):
    path = write(kubeconfig())
    config = load_kubeconfig(path)
    assert config.server == "https://10.0.0.1:6443"
    assert (config.insecure, config.namespace, config.token, config.source) == (True, "work", "sesame", path)


def test_another_context_can_be_named(write):
    config = load_kubeconfig(write(kubeconfig()), "two")
    assert (config.server, config.namespace, config.tls_server_name) == ("https://10.0.0.2", "default", "api")


def test_inline_data_and_relative_files(write, tmp_path):
    (tmp_path / "key.pem").write_bytes(b"KEY")
    (tmp_path / "ca.pem").write_bytes(b"CA")
    user = {
        "client-certificate-data": base64.b64encode(b"CERT").decode(),
        "client-key": "key.pem",
        "tokenFile": "token",
    }
    path = write(
        kubeconfig(
            users=[{"name": "u", "user": user}],
            clusters=[{"name": "c", "cluster": {"server": "https://h", "certificate-authority": "ca.pem"}}],
        )
    )
    config = load_kubeconfig(path)
    assert (config.client_cert_data, config.client_key_data, config.ca_data) == (b"CERT", b"KEY", b"CA")
    assert config.token_file == str(tmp_path / "token")
    assert "CERT" not in repr(config) and "KEY" not in repr(config)


def test_several_files_are_merged_and_the_first_wins(write, monkeypatch):
    first = write({"current-context": "two", "users": [{"name": "u", "user": {"token": "first"}}]}, "a")
    second = write(kubeconfig(), "b")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([first, "/does/not/exist", second]))
    config = load_kubeconfig(None)
    assert (config.server, config.token) == ("https://10.0.0.2", "first")


def test_home_is_the_last_file(monkeypatch, tmp_path, write):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(KubeConfigError, match=r"no kubeconfig: .*\.kube/config does not exist; name a file"):
        load_kubeconfig(None)
    (tmp_path / ".kube").mkdir()
    write(kubeconfig(), ".kube/config")
    assert load_kubeconfig(None).token == "sesame"


def test_in_cluster(monkeypatch, tmp_path):
    for name, text in (("token", "t"), ("ca.crt", "CA"), ("namespace", "mine\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("kube.client.config.SERVICE_ACCOUNT_DIR", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    config = load_kubeconfig(None)
    assert (config.server, config.namespace, config.ca_data) == ("https://[fd00::1]:6443", "mine", b"CA")
    assert config.token_file == str(tmp_path / "token")


def user(**values):
    return kubeconfig(users=[{"name": "u", "user": values}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("a: [", r"is not YAML \(line 2\)|is not YAML \(line 1\)"),
        ("", "is empty: get a new copy"),
        ("- 1", "is not a kubeconfig"),
        (
            kubeconfig(**{"current-context": ""}),
            r"no current-context \(contexts: one, two\): choose one with --context",
        ),
        (kubeconfig(**{"current-context": "x"}), r"no context 'x' \(contexts: one, two\)"),
        (kubeconfig(users=[]), "names user 'u', which is missing"),
        (kubeconfig(clusters={}), "names cluster 'c', which is missing"),
        (kubeconfig(clusters="x"), "clusters is not a list"),
        (kubeconfig(users=["x"]), "an entry of users has no name"),
        (kubeconfig(clusters=[{"name": "c", "cluster": {"server": "10.0.0.1:6443"}}]), r"is not an http\(s\) URL"),
        (
            kubeconfig(clusters=[{"name": "c", "cluster": {"server": "https://h", "proxy-url": "http://p"}}]),
            "proxy-url",
        ),
        (user(**{"client-key-data": "%%%"}), "client-key-data of 'u' is not base64"),
        (user(**{"client-key-data": "a2V5"}), "has client-key but no client-certificate"),
        (user(**{"client-certificate": "/does/not/exist"}), "cannot read /does/not/exist"),
        (user(exec={"command": "aws"}), "uses exec, which is not supported"),
        (user(username="admin", password="x"), "uses username, which is not supported"),
    ],
)
def test_errors_name_the_file_and_the_remedy(write, document, message):
    path = write(document)
    with pytest.raises(KubeConfigError, match=message) as caught:
        load_kubeconfig(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(KubeConfigError, match="kubeconfig /does/not/exist does not exist: name an existing file"):
        load_kubeconfig("/does/not/exist")


def test_written_files_are_private_and_readable_again(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(0o644)
    write_kubeconfig(
        str(path), cluster="c", user="admin", server="https://h:1", ca_pem=b"CA", cert_pem=b"CERT", key_pem=b"KEY"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = load_kubeconfig(str(path))
    assert (config.ca_data, config.client_cert_data, config.client_key_data) == (b"CA", b"CERT", b"KEY")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["n", "yes", "1", "null", "1e3", "0o7", "~", "a: b", "x #y", 'a"b', "2026-01-01"])
def test_names_stay_texts_for_every_reader_of_yaml(name, tmp_path):
    path = tmp_path / "out"
    write_kubeconfig(str(path), cluster=name, user=name, server="https://h", ca_pem=b"CA", token=name, namespace=name)
    lines = path.read_text().splitlines()
    quoted = json.dumps(name)  # A quoted text of JSON is one in every version of YAML.
    assert f"- name: {quoted}" in lines
    assert f"    cluster: {quoted}" in lines
    assert f"    namespace: {quoted}" in lines
    assert f"    token: {quoted}" in lines
    config = load_kubeconfig(str(path))
    assert (config.token, config.namespace) == (name, name)


def test_written_token_files_are_referred_to(tmp_path):
    path = str(tmp_path / "out")
    write_kubeconfig(
        path, cluster="c", user="sa", server="https://h", ca_pem=b"CA", token_file="/run/token", namespace="ns"
    )
    config = load_kubeconfig(path)
    assert (config.token_file, config.namespace, config.client_cert_data) == ("/run/token", "ns", None)
