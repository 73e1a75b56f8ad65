"""What a runtime can do, concluded from its version, and said in plain words."""

import httpx
import pytest

from ollama_ft.core.errors import RuntimeUnavailable
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.probe import Runtime, check_floor, parse_version, probe


def runtime(version: str, kind: str = "ollama") -> Runtime:
    return Runtime(
        kind=kind,
        version=version,
        address="http://127.0.0.1:11434",
        debug_render=True,
        logprobs=True,
        adapters_at_create=True,
        loaded=(),
    )


@pytest.mark.parametrize(
    ("version", "architecture", "said"),
    [
        ("0.24.0", "qwen3", "Ollama 0.24.0 cannot run adapters on qwen3; 0.30 or newer can."),
        ("0.12.6", "gemma3", "cannot run adapters on gemma3; 0.30 or newer can"),
        ("0.5.4", "llama", "cannot make models from an adapter; 0.5.5 or newer can"),
        ("0.11.7", "llama", "cannot show how it renders a prompt.*; 0.11.8 or newer can"),
    ],
)
def test_a_runtime_that_is_too_old_is_told_apart_in_plain_words(version, architecture, said):
    with pytest.raises(RuntimeUnavailable, match=said):
        check_floor(runtime(version), architecture)


@pytest.mark.parametrize(
    ("version", "kind", "architecture"),
    [
        ("0.30.0", "ollama", "qwen3"),
        ("0.33.0-rc2", "ollama", "gemma3"),
        ("0.24.0", "ollama", "qwen2"),
        ("0.0.0", "ollama", "qwen3"),
        ("0.1.0", "embedded", "qwen3"),
    ],
)
def test_a_runtime_that_is_new_enough_passes(version, kind, architecture):
    check_floor(runtime(version, kind), architecture)


def test_versions_are_read_as_ollama_writes_them():
    assert parse_version("0.33.0-rc2") == (0, 33, 0)
    assert parse_version("v0.5.13") == (0, 5, 13)
    assert parse_version("0.0.0") is None
    assert parse_version("unknown") is None


@pytest.mark.parametrize(
    ("version", "debug_render", "logprobs", "adapters"),
    [
        ("0.5.4", False, False, False),
        ("0.11.8", True, False, True),
        ("0.12.11", True, True, True),
        ("0.34.0", True, True, True),
        ("0.34.1", True, True, None),
        ("0.0.0", True, True, None),
    ],
)
def test_the_probe_concludes_from_the_version(version, debug_render, logprobs, adapters):
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/ps":
            return httpx.Response(200, json={"models": [{"name": "qwen3:8b"}]})
        return httpx.Response(200, json={"version": version})

    found = probe(Ollama(parse_host(""), transport=httpx.MockTransport(answer)))
    assert (found.debug_render, found.logprobs) == (debug_render, logprobs)
    assert found.adapters_at_create is adapters
    assert (found.kind, found.loaded) == ("ollama", ("qwen3:8b",))
