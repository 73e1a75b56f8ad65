"""The registry of two minutes: what it serves, and that it serves nothing else."""

from pathlib import Path

import httpx
import pytest

from ollama_ft.core.files import digest_file
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.assemble import Texts, assemble, store_assembled
from ollama_ft.runtime.loopback import serve_model
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.registry import pull
from ollama_ft.runtime.store import Store


def test_what_is_handed_over_can_be_pulled_by_any_client_and_nothing_else(tmp_path):
    manifest = Store(tmp_path / "a")
    big = tmp_path / "big"
    big.write_bytes(b"0123456789" * 1000)
    name = _served_model(manifest, big)
    content = manifest.manifest_path(Name.parse(name)).read_bytes()
    blobs = {d: manifest.blob_path(d) for d in manifest.read(Name.parse(name)).manifest.digests}
    with serve_model("127.0.0.1", content, blobs) as pulled:
        found = pull(Name.parse(pulled), Store(tmp_path / "b"), insecure=True)
        assert found.manifest.content() == content
        root = f"http://{pulled.rpartition(':')[0].replace('/', '/v2/', 1)}"
        digest = digest_file(big)
        part = httpx.get(f"{root}/blobs/{digest}", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, b"0123456789")
        assert part.headers["content-range"] == "bytes 10-19/10000"
        head = httpx.head(f"{root}/blobs/{digest}")
        assert head.headers["content-length"] == "10000"
        whole = httpx.get(f"{root}/blobs/{digest}")
        assert whole.headers["location"] == f"{root}/blobs/{digest}"
        for path in ("/blobs/sha256:" + "0" * 64, "/../../etc/passwd", "", "/tags/list"):
            assert httpx.get(f"{root}{path}").status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{root}/manifests/v1")


def _served_model(store: Store, weights: Path) -> str:
    digest = store.add_blob(weights)
    made = assemble([("model", digest, weights.stat().st_size)], Texts(system="x"), Details())
    store_assembled(store, Name.parse("m:1"), made)
    return "m:1"
