"""The embedded runtime as a process of its own: started, waited for, and sure to end."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import ollama_ft
from ollama_ft.core.errors import RuntimeUnavailable
from ollama_ft.runtime.host import Address

START_SECONDS = 120.0  # importing the engine on a busy small machine takes half a minute
_END_SECONDS = 10.0
_NEEDED = ("xllamacpp", "starlette", "uvicorn", "gguf")


@contextmanager
def start_embedded(models: Path, log: Path, *, refuse: str = "") -> Iterator[Address]:
    """Run the embedded runtime on the store `models`, on a free loopback port.

    It ends with the `with` block, and also when this process dies in any way: it reads a pipe from
    us, and stops when the pipe ends. Its stderr is appended to `log`. `refuse` names publish routes
    ("adapters,files,registry,store") that it shall refuse, as some runtimes do.

    Raises RuntimeUnavailable if it is not installed or does not start.
    """
    _check_installed()
    log.parent.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "ollama_ft.runtime.embedded"]
    command += ["--models", str(models), "--port", "0", "--parent-pipe", "--keep-blobs"]
    command += ["--refuse", refuse] if refuse else []
    with log.open("ab") as errors:
        begin = log.stat().st_size
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is ours: a checkpoint may still need the runtime
        )
    try:
        port = _port(process, log, begin)
        yield Address(scheme="http", host="127.0.0.1", port=port)
    finally:
        _end(process)


def _check_installed() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RuntimeUnavailable(
            f"No Ollama answers, and the embedded runtime lacks {', '.join(missing)}.",
            mend="pip install 'ollama-ft[embedded]', or start Ollama: ollama serve",
        )


def _port(process: "subprocess.Popen[bytes]", log: Path, begin: int) -> int:
    """Read the one line that it prints when it listens: {"port": …}."""
    line = _first_line(process)
    try:
        port = json.loads(line)["port"]
        assert isinstance(port, int)
        return port
    except (ValueError, TypeError, KeyError) as error:
        raise RuntimeUnavailable(
            f"The embedded runtime did not start: {_last_words(log, begin)}",
            mend=f"read {log}",
        ) from error


def _first_line(process: "subprocess.Popen[bytes]") -> bytes:
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_drain, args=(process.stdout, lines), daemon=True).start()
    try:
        return lines.get(timeout=START_SECONDS)
    except Empty:
        return b""


def _drain(stdout: IO[bytes], lines: "SimpleQueue[bytes]") -> None:
    # Read to the end: a full pipe would stop the runtime.
    with stdout:
        lines.put(stdout.readline())
        while stdout.read(1 << 16):
            pass


def _environment() -> dict[str, str]:
    """Ours; in a checkout, with the package's own folder on the path, whatever the folder is."""
    parent = Path(ollama_ft.__file__).parent.parent
    if not (parent / "pyproject.toml").is_file():
        return dict(os.environ)
    known = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{parent}{os.pathsep}{known}" if known else str(parent)}


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        said = file.read()[-4000:].decode(errors="replace").strip().splitlines()
    return said[-1] if said else "it said nothing."


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
