"""The console program against a socket that plays QEMU's."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest


@pytest.fixture
def machine(tmp_path):
    """A listening serial socket below a path too long for an address, and its directory."""
    directory = tmp_path / ("d" * 60) / ("e" * 60)
    directory.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(directory, os.O_PATH)
    listener.bind(f"/proc/self/fd/{handle}/serial.sock")
    os.close(handle)
    listener.listen(1)
    listener.settimeout(10)
    yield listener, directory
    listener.close()


@contextmanager
def program(directory, *arguments, stdin=subprocess.PIPE):
    argv = [sys.executable, "-m", "vmruntime.engines.qemu.console", "serial.sock", *arguments]
    child = subprocess.Popen(argv, cwd=directory, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def accept(listener):
    connection, _ = listener.accept()
    connection.settimeout(10)
    return connection


def test_both_directions_and_the_end_of_input(machine):
    listener, directory = machine
    with program(directory) as child, accept(listener) as serial:
        serial.sendall(b"login: ")
        assert child.stdout.read(7) == b"login: "
        child.stdin.write(b"root\x1d\n")
        child.stdin.close()
        assert serial.recv(100) == b"root\x1d\n"
        serial.sendall(b"bye")
        assert child.stdout.read() == b"bye"
        assert child.wait(10) == 0


def test_the_end_of_the_machine_is_told(machine):
    listener, directory = machine
    with program(directory) as child:
        accept(listener).close()
        _, errors = child.communicate(timeout=40)
        assert child.returncode == 0
        assert errors == b"console: the virtual machine ended the connection\n"


def test_one_console_at_a_time_and_a_killed_one_is_no_hindrance(machine):
    listener, directory = machine
    with program(directory) as first, accept(listener):
        with program(directory) as second:
            _, errors = second.communicate(timeout=40)
            assert second.returncode == 1
            assert b"somebody else is connected" in errors
        first.kill()
        first.wait()
        with program(directory) as third, accept(listener) as serial:
            serial.sendall(b"hello")
            assert third.stdout.read(5) == b"hello"


def test_no_machine_is_an_error(tmp_path):
    with program(tmp_path) as child:
        _, errors = child.communicate(timeout=40)
        assert child.returncode == 1
        assert b"does not run" in errors


def test_a_large_paste_arrives_whole(machine):
    listener, directory = machine
    received = bytearray()

    def drain(serial):
        while data := serial.recv(65536):
            received.extend(data)

    with program(directory) as child, accept(listener) as serial:
        thread = threading.Thread(target=drain, args=(serial,))
        thread.start()
        child.stdin.write(b"z" * 1_000_000)
        child.stdin.close()
        assert child.wait(10) == 0
        thread.join(10)
    assert len(received) == 1_000_000
