"""Fixtures of the whole suite: a home in tmp, a migrated catalog, real models, no network."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ollama_ft.core.catalog import open_catalog
from ollama_ft.core.home import Home

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # few cores: idle OpenMP threads must not spin
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A busy machine is no fault. `make test` tries the same examples everywhere, `make fuzz` new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None)
settings.load_profile("same")

MODELS = Path(
    os.environ.get("OLLAMA_FT_TEST_MODELS", Path(__file__).parent.parent / ".cache" / "models")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker ends alone with one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "unix"
        assert host in ("127.0.0.1", "::1", "localhost", "unix"), f"a test connects to {host}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's home, settings or Ollama."""
    monkeypatch.setenv("OLLAMA_FT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [n for n in os.environ if n.startswith(("OLLAMA_", "HTTP_", "HTTPS_"))]:
        if not name.startswith("OLLAMA_FT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(path=tmp_path / "home", origin="--home")


@pytest.fixture
def db(home: Home) -> Iterator[object]:
    """A catalog with today's tables."""
    catalog = open_catalog(home.catalog)
    yield catalog
    catalog.close()


@pytest.fixture
def log(home: Home) -> Iterator[object]:
    """A log with today's tables."""
    from ollama_ft.core.logbook import open_log

    log = open_log(home.log)
    yield log
    log.close()


@pytest.fixture
def ft(home: Home) -> Callable[..., str]:
    """`ollama-ft` in this home, with keys typed if any; it returns what it printed."""
    from click.testing import CliRunner

    from ollama_ft.cli.app import cli

    def run(*arguments: object, code: int = 0, keys: str | None = None) -> str:
        words = ["--home", str(home.path), *map(str, arguments)]
        result = CliRunner().invoke(cli, words, input=keys)
        assert result.exit_code == code, result.output
        return result.output

    return run


def _model(name: str) -> Path:
    from tests.models import fetch

    return fetch(name, MODELS)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct, Q4_1."""
    return _model("smollm2")


@pytest.fixture(scope="session")
def gemma3_gguf() -> Path:
    """Gemma 3 270M, Q4_K_M: a base model without a chat template."""
    return _model("gemma3")
