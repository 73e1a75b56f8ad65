"""What a runtime can do: looked up once, at first contact, and stored with each version.

The versions in this file are those of Ollama in which the change first appeared.
"""

import re
from dataclasses import dataclass

from ollama_ft.core.errors import RuntimeUnavailable
from ollama_ft.runtime.client import Ollama

# /api/create took a Modelfile's text before, and `from`, `files`, `adapters` since.
CREATE_FLOOR = (0, 5, 5)
RENDER_FLOOR = (0, 11, 8)  # _debug_render_only
LOGPROBS_FLOOR = (0, 12, 11)
RESERVED_TAGS_FLOOR = (0, 18, 0)  # :local and :cloud are cut off a name
LLAMA_SERVER_FLOOR = (0, 30, 0)  # every GGUF runs in llama.cpp's own server, which takes adapters
ADAPTER_DOUBT = (0, 34, 1)  # reported to refuse adapters at create; nobody here has seen it

# Architectures that Ollama ran in an engine of its own, without adapters, until llama-server came.
# fmt: off
_NO_ADAPTERS_BEFORE = frozenset({
    "bert", "deepseek2", "deepseekocr", "gemma3", "gemma3n", "gemma4", "glm4moelite", "glmocr",
    "gptoss", "gpt-oss", "laguna", "lfm2", "lfm2moe", "llama4", "mistral3", "mllama",
    "nemotron_h", "nemotron_h_moe", "nomic-bert", "nomic-bert-moe", "olmo3", "qwen25vl",
    "qwen3", "qwen35", "qwen35moe", "qwen3moe", "qwen3next", "qwen3vl", "qwen3vlmoe",
})
# fmt: on

Version = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One runtime as it was met. `adapters_at_create` is None where only a try can tell."""

    kind: str  # "ollama" | "embedded"
    version: str
    address: str
    debug_render: bool
    logprobs: bool
    adapters_at_create: bool | None
    loaded: tuple[str, ...]  # models in memory


def probe(client: Ollama) -> Runtime:
    """Ask a runtime who it is, and conclude what it can do.

    Raises RuntimeUnavailable if it does not answer.
    """
    said = client.version()
    embedded = client.is_embedded()
    version = parse_version(said)
    return Runtime(
        kind="embedded" if embedded else "ollama",
        version=said,
        address=client.address.url,
        debug_render=embedded or _at_least(version, RENDER_FLOOR),
        logprobs=embedded or _at_least(version, LOGPROBS_FLOOR),
        adapters_at_create=True if embedded else _adapters_at_create(version),
        loaded=tuple(model.name for model in client.ps()),
    )


def check_floor(runtime: Runtime, architecture: str) -> None:
    """Make sure that this runtime can make, render and run adapters on an architecture.

    Raises RuntimeUnavailable, naming the version that can.
    """
    if runtime.kind == "embedded":
        return
    version = parse_version(runtime.version)
    for floor, cannot in (
        (CREATE_FLOOR, "make models from an adapter"),
        (RENDER_FLOOR, "show how it renders a prompt, which training needs"),
    ):
        if not _at_least(version, floor):
            raise _too_old(runtime, cannot, floor)
    if architecture in _NO_ADAPTERS_BEFORE and not _at_least(version, LLAMA_SERVER_FLOOR):
        raise _too_old(runtime, f"run adapters on {architecture}", LLAMA_SERVER_FLOOR)


def parse_version(text: str) -> Version | None:
    """Read "0.33.0-rc2" as (0, 33, 0). None for a build from source ("0.0.0") or no version at all.

    Such a build is taken for a new one.
    """
    match = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text)
    if match is None:
        return None
    version = (int(match[1]), int(match[2]), int(match[3]))
    return version if version > (0, 0, 0) else None


def _adapters_at_create(version: Version | None) -> bool | None:
    if version is None or version >= ADAPTER_DOUBT:
        return None
    return version >= CREATE_FLOOR


def _at_least(version: Version | None, floor: Version) -> bool:
    return version is None or version >= floor


def _too_old(runtime: Runtime, cannot: str, floor: Version) -> RuntimeUnavailable:
    number = ".".join(map(str, floor[:2] if floor[2] == 0 else floor))
    return RuntimeUnavailable(
        f"Ollama {runtime.version} cannot {cannot}; {number} or newer can.",
        mend="update Ollama, or use the embedded runtime: OLLAMA_HOST=embedded",
    )
