"""Pulling from an Ollama registry on loopback, with the faults that networks have."""

import os
import shutil

import pytest

from ollama_ft.core.errors import (
    BadInput,
    NotFound,
    OutOfResources,
    RuntimeRefused,
    RuntimeUnavailable,
)
from ollama_ft.core.files import digest_bytes
from ollama_ft.runtime import registry as client
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.assemble import Texts, assemble, read_texts
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.registry import pull
from ollama_ft.runtime.store import Store
from tests.registries import registry

WEIGHTS = os.urandom(3 << 20)
TEXTS = Texts(template="{{ .Prompt }}", system="Be kind.", parameters={"stop": ["<e>"], "top_k": 4})


@pytest.fixture
def server():
    with registry() as held:
        held.add("library/m:1", WEIGHTS, TEXTS)
        yield held


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "models")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client._continue.retry, "sleep", lambda seconds: None)


def name(server, tag="1"):
    return Name.parse(f"{server.address}/library/m:{tag}")


def test_a_model_arrives_whole_with_its_texts_and_its_manifests_own_bytes(server, store):
    steps = []
    model = pull(name(server), store, insecure=True, on_progress=steps.append)
    assert model.manifest.content() == server.manifests["library/m:1"]
    assert store.read_blob(digest_bytes(WEIGHTS), limit=1 << 30) == WEIGHTS
    assert read_texts(store, model.manifest) == TEXTS
    assert (steps[0].total, steps[-1].completed) == (len(WEIGHTS), model.manifest.config.size)
    assert not list((store.root / "incoming").glob("*.part"))


def test_a_second_pull_asks_for_the_manifest_alone(server, store):
    pull(name(server), store, insecure=True)
    server.asked.clear()
    pull(name(server), store, insecure=True)
    assert server.asked == ["/v2/library/m/manifests/1"]


def test_a_cut_connection_is_continued_where_it_was_cut(server, store):
    server.cut_after = 1 << 20
    pull(name(server), store, insecure=True)
    ranges = [
        line.rpartition(" ")[2] for line in server.asked if "Range" in line or "bytes=" in line
    ]
    assert ranges == [f"bytes={n << 20}-" for n in (1, 2)]
    # the small blobs come whole; nothing of the weights is fetched twice
    assert server.sent == sum(map(len, server.blobs.values()))


def test_what_a_killed_pull_left_is_continued_by_the_next_one(server, store):
    part = store.root / "incoming" / f"{digest_bytes(WEIGHTS)[7:]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS[: 2 << 20])
    pull(name(server), store, insecure=True)
    assert f"/v2/library/m/blobs/{digest_bytes(WEIGHTS)} bytes={2 << 20}-" in server.asked


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, store):
    server.ignore_range = True
    part = store.root / "incoming" / f"{digest_bytes(WEIGHTS)[7:]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"y" * 1000)
    pull(name(server), store, insecure=True)
    assert store.has_blob(digest_bytes(WEIGHTS))


def test_a_failing_server_is_asked_again(server, store):
    server.fail = 3
    pull(name(server), store, insecure=True)
    assert store.has_blob(digest_bytes(WEIGHTS))


def test_a_server_that_fails_for_good_is_given_up_and_nothing_has_a_name(server, store):
    server.fail = 1000
    with pytest.raises(RuntimeUnavailable, match="failed \\(500\\)"):
        pull(name(server), store, insecure=True)
    assert list(store.names()) == []


def test_content_with_a_wrong_digest_is_refused_and_not_kept(server, store):
    server.blobs[digest_bytes(WEIGHTS)] = WEIGHTS[:-1] + b"!"
    with pytest.raises(BadInput, match="has the digest"):
        pull(name(server), store, insecure=True)
    assert list(store.names()) == []
    assert list((store.root / "incoming").glob("*.part")) == []
    server.blobs[digest_bytes(WEIGHTS)] = WEIGHTS
    assert pull(name(server), store, insecure=True).size > len(WEIGHTS)


def test_more_bytes_than_the_manifest_says_are_refused(server, store):
    server.blobs[digest_bytes(WEIGHTS)] = WEIGHTS + b"more"
    with pytest.raises(RuntimeRefused, match="more bytes than"):
        pull(name(server), store, insecure=True)


def test_an_unknown_model_is_not_found(server, store):
    with pytest.raises(NotFound, match=r"m:2 is not at 127\.0\.0\.1"):
        pull(name(server, "2"), store, insecure=True)


def test_a_missing_blob_is_not_found(server, store):
    del server.blobs[digest_bytes(WEIGHTS)]
    with pytest.raises(NotFound, match="lacks sha256:"):
        pull(name(server), store, insecure=True)


def test_other_weights_than_expected_are_refused_before_anything_large_comes(server, store):
    with pytest.raises(BadInput, match="has other weights"):
        pull(name(server), store, insecure=True, expected_blob="sha256:" + "0" * 64)
    assert not any("/blobs/" in line for line in server.asked)


def test_a_full_disk_is_seen_before_the_download(server, store, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutOfResources, match="has room for 0 MB"):
        pull(name(server), store, insecure=True)
    assert not any("/blobs/" in line for line in server.asked)


def test_a_model_without_gguf_is_refused(server, store):
    made = assemble([("tensor", digest_bytes(b"t"), 1)], Texts(), Details())
    server.manifests["library/m:mlx"] = made.manifest.content()
    with pytest.raises(BadInput, match="has no GGUF"):
        pull(name(server, "mlx"), store, insecure=True)


def test_what_is_no_manifest_is_refused(server, store):
    server.manifests["library/m:bad"] = b"<html>Sign in</html>"
    with pytest.raises(BadInput, match="not JSON"):
        pull(name(server, "bad"), store, insecure=True)


def test_plain_http_is_used_only_if_asked_for(server, store):
    with pytest.raises(BadInput, match="plain http"):
        pull(Name.parse(f"http://{server.address}/library/m:1"), store)
    assert server.asked == []


def test_nobody_listening_is_unavailable(store):
    with pytest.raises(RuntimeUnavailable, match="cannot be reached"):
        pull(Name.parse("127.0.0.1:9/library/m:1"), store, insecure=True)


def test_an_assembled_model_has_the_digests_that_a_real_ollama_gave_the_same_texts():
    # from the records of a real server: its smol:latest, layer by layer
    texts = Texts(
        template="{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n",
        parameters={"stop": ["<|im_start|>", "<|im_end|>"]},
    )
    details = Details(
        format="gguf",
        family="llama",
        families=("llama",),
        parameter_size="134.52M",
        quantization_level="Q4_1",
    )
    made = assemble([("model", "sha256:" + "9" * 64, 98362432)], texts, details).manifest
    assert (
        made.config.digest
        == "sha256:4157c46799c19ced6cac0c50480eb70cd5c096c0a632d8fc68a793e7376dd7bb"
    )
    assert [layer.digest[7:19] for layer in made.layers[1:]] == ["e3b2721cec51", "f02dd72bb242"]
    assert made.size == 98362745
