"""`base pull` against curl: the same blob from the same server on loopback, in the same run.

    python -m benchmarks.pull [MB] [rounds]      # half a minute on two cores

Both fetch one blob over plain http in turns and write it to the same disk. curl takes it over one
connection and believes it; ours takes it in parts over four, syncs each part, and computes the
digest meanwhile. So the pull is also held against `curl` followed by `sha256sum`, which is what
must be typed to know as much. The ratios are medians over rounds; the first fails below 0.8.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ollama_ft.core.files import digest_file
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.assemble import Texts, assemble
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.registry import pull
from ollama_ft.runtime.store import Store

LEAST = 0.8


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]))
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 250
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    print(f"{megabytes} MB, {rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        weights.write_bytes(os.urandom(1 << 20) * megabytes)
        compare(Path(folder), weights, rounds)


def compare(folder: Path, weights: Path, rounds: int) -> None:
    digest = digest_file(weights)
    ways = {"curl": by_curl, "curl, sha256sum": by_curl_checked, "base pull": by_pull}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with server(folder, weights, digest) as address:
        for place in range(rounds):
            for name in sorted(ways, reverse=bool(place % 2)):
                with tempfile.TemporaryDirectory(dir=folder) as fresh:
                    began = time.perf_counter()
                    ways[name](address, digest, Path(fresh))
                    seconds[name].append(time.perf_counter() - began)
    for name, times in seconds.items():
        speeds = [weights.stat().st_size / 1e6 / t for t in times]
        print(f"{name:<16} {statistics.median(speeds):7.0f} MB/s (best {max(speeds):.0f})")
    plain, checked = (ratio(seconds[n], seconds["base pull"]) for n in ("curl", "curl, sha256sum"))
    print(f"ratio {plain:.2f} against curl, {checked:.2f} against curl and sha256sum")
    sys.exit(plain < LEAST)


def ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def by_curl(address: str, digest: str, fresh: Path) -> Path:
    target = fresh / "blob"
    url = f"http://{address}/v2/library/big/blobs/{digest}"
    subprocess.run(["curl", "-sf", "--noproxy", "*", "-o", target, url], check=True)
    return target


def by_curl_checked(address: str, digest: str, fresh: Path) -> None:
    subprocess.run(
        ["sha256sum", by_curl(address, digest, fresh)], check=True, stdout=subprocess.DEVNULL
    )


def by_pull(address: str, digest: str, fresh: Path) -> None:
    store = Store(fresh)
    pull(Name.parse(f"{address}/library/big:1"), store, insecure=True)
    assert store.has_blob(digest)


@contextmanager
def server(folder: Path, weights: Path, digest: str) -> Iterator[str]:
    """A registry in a process of its own, with one model."""
    size = weights.stat().st_size
    made = assemble([("model", digest, size)], Texts(), Details(format="gguf", family="llama"))
    (folder / "manifest").write_bytes(made.manifest.content())
    for name, content in made.blobs.items():
        assert isinstance(content, bytes)
        (folder / name).write_bytes(content)
    (folder / digest).hardlink_to(weights)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.pull", "serve", folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


def serve(folder: Path) -> None:
    """Serve what lies in a folder until stdin ends; the kernel moves the bytes (sendfile)."""
    import threading

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.path.rpartition("/")[2]
            file = folder / ("manifest" if "/manifests/" in self.path else asked)
            size, wish = file.stat().st_size, self.headers.get("Range", "")
            start, _, end = wish.removeprefix("bytes=").partition("-")
            first, last = (int(start), int(end)) if wish else (0, size - 1)
            self.send_response(206 if wish else 200)
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            with file.open("rb") as content:
                self.wfile.flush()
                self.connection.sendfile(content, first, last + 1 - first)

        def log_message(self, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    print(f"127.0.0.1:{listening.server_port}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
