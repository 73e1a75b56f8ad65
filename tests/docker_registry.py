"""A real registry for the tests: Debian's docker-registry on loopback, with or without a login.

Where the program is not installed, its package is fetched with apt and unpacked into the cache;
nothing is installed, and no root is needed.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path(
    os.environ.get("OLLAMA_FT_TEST_TOOLS", Path(__file__).parent.parent / ".cache" / "tools")
)
# The user ann, whose password is "secret", as `htpasswd -B` writes it.
ANN = "ann:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"


@dataclass(frozen=True)
class Served:
    """A running registry."""

    address: str  # "127.0.0.1:43121"
    storage: Path

    def blob(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        name = digest.removeprefix("sha256:")
        root = self.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return root / name[:2] / name / "data"


def program() -> str:
    """The registry's program; the test is skipped where it is not there and cannot be had."""
    if found := shutil.which("docker-registry"):
        return found
    unpacked = CACHE / "usr" / "bin" / "docker-registry"
    if not unpacked.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fetched = (
            subprocess.run(
                ["apt-get", "download", "docker-registry"],
                cwd=CACHE,
                capture_output=True,
                text=True,
            )
            if shutil.which("apt-get")
            else None
        )
        package = next(CACHE.glob("docker-registry_*.deb"), None)
        if package is None:
            said = fetched.stderr.strip() if fetched else "there is no apt here"
            pytest.skip(f"docker-registry is not installed and cannot be fetched: {said}")
        subprocess.run(["dpkg", "-x", package.name, "."], cwd=CACHE, check=True)
    return str(unpacked)


@contextmanager
def docker_registry(
    folder: Path, *, htpasswd: str = "", tls: tuple[Path, Path] | None = None
) -> Iterator[Served]:
    """Run a registry with its storage below `folder`; `tls` is a certificate and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{_free_port()}"
    config = folder / "config.yml"
    config.write_text(_config(address, folder, htpasswd, tls))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program(), "serve", str(config)], stdout=log, stderr=log)
        try:
            _wait(process, address, folder / "log")
            yield Served(address=address, storage=folder / "storage")
        finally:
            process.terminate()
            process.wait(10)


def _config(address: str, folder: Path, htpasswd: str, tls: tuple[Path, Path] | None) -> str:
    text = (
        "version: 0.1\n"
        "log: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'storage'}}}, delete: {{enabled: true}}}}\n"
    )
    if tls:
        text += f"http: {{addr: '{address}', tls: {{certificate: {tls[0]}, key: {tls[1]}}}}}\n"
    else:
        text += f"http: {{addr: '{address}'}}\n"
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd + "\n")
        text += f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}\n"
    return text


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    host, _, port = address.rpartition(":")
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 0.2):
            return
        time.sleep(0.05)
    raise AssertionError(f"the registry does not answer: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
