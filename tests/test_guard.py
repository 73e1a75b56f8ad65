"""Only calls that name this machine are answered."""

import socket

import pytest

from ollama_ft.runtime.embedded.guard import is_local


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "localhost:11434", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:11434", "192.168.1.5:1",
     "0.0.0.0", "my.localhost", "box.local:11434", "host.docker.internal", socket.gethostname(), "LOCALHOST"],
)  # fmt: skip
def test_names_of_this_machine_and_its_network_pass(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "evil.example.com:11434",
        "8.8.8.8",
        "localhost.evil.com",
        "[2001:4860::8888]",
    ],
)
def test_other_names_do_not(host: str) -> None:
    assert not is_local(host)
