"""A store is Ollama's folder: written whole, found in any case, emptied only when asked."""

import json
import os
from pathlib import Path

import pytest

from ollama_ft.core.errors import BadInput, NotFound, OutOfResources
from ollama_ft.core.files import digest_bytes
from ollama_ft.runtime import store as module
from ollama_ft.runtime.manifest import CONFIG_TYPE, LAYER_PREFIX, Layer, Manifest, go_json
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Store

SMOL = Name.parse("smol:v1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def add_model(store: Store, name: Name, text: bytes = b"weights") -> Manifest:
    layer = Layer(media_type=LAYER_PREFIX + "model", digest=store.add_blob(text), size=len(text))
    config = Layer(media_type=CONFIG_TYPE, digest=store.add_blob(b"{}\n"), size=3)
    manifest = Manifest(config=config, layers=(layer,))
    store.write_manifest(name, manifest)
    return manifest


def test_a_recorded_manifest_is_written_byte_for_byte(store: Store) -> None:
    recorded = (
        b'{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":'
        b'{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:' + b"a" * 64 + b'",'
        b'"size":152},"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:'
        + b"b" * 64 + b'","size":98362432,"from":"smol:latest"}]}\n'
    )  # fmt: skip
    manifest = Manifest.parse(recorded)
    assert manifest.content() == recorded
    assert manifest.size == 98362432 + 152
    store.write_manifest(SMOL, manifest)
    assert store.manifest_path(SMOL).read_bytes() == recorded
    assert store.read(SMOL).digest == digest_bytes(recorded).removeprefix("sha256:")
    assert store.manifest_path(SMOL).relative_to(store.root).as_posix() == (
        "manifests/registry.ollama.ai/library/smol/v1"
    )


def test_unknown_layers_and_fields_are_tolerated() -> None:
    row = {
        "config": {"mediaType": "x/y", "digest": "sha256:" + "0" * 64, "size": 1, "urls": []},
        "layers": [{"mediaType": "x/new", "digest": "sha256:" + "1" * 64, "size": 2}],
        "annotations": {},
    }
    manifest = Manifest.parse(json.dumps(row).encode())
    assert manifest.layers[0].kind == "x/new"


def test_json_is_escaped_as_go_does() -> None:
    assert go_json({"stop": ["<|im_end|>", "&", "é"]}) == (
        b'{"stop":["\\u003c|im_end|\\u003e","\\u0026","\xc3\xa9"]}\n'
    )
    # The digest of Ollama's own parameter blob for ChatML.
    stops = go_json({"stop": ["<|im_start|>", "<|im_end|>"]})
    assert digest_bytes(stops).startswith("sha256:f02dd72bb242")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"layers": [1], "config": {}}', b"\xff"])
def test_what_is_no_manifest_is_not_written(store: Store, content: bytes) -> None:
    with pytest.raises(BadInput):
        store.write_manifest(SMOL, content)
    assert store.list() == ()


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64,
                                    "md5:" + "0" * 64, "sha256:../" + "0" * 61, "sha256-" + "0" * 64])  # fmt: skip
def test_no_path_is_made_from_what_is_no_digest(store: Store, digest: str) -> None:
    with pytest.raises(BadInput):
        store.blob_path(digest)


def test_a_blob_is_taken_from_bytes_pieces_or_a_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    digest = digest_bytes(b"abc")
    assert store.add_blob(path, digest) == digest
    assert store.add_blob([b"a", b"bc"], digest) == digest == store.add_blob(b"abc")
    assert store.read_blob(digest) == b"abc"
    assert [p.name for p in store.blobs.iterdir()] == [digest.replace(":", "-")]


def test_a_file_on_another_disk_is_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert store.read_blob(store.add_blob(path)) == b"abc"


def test_a_wrong_digest_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        store.add_blob(b"abc", digest_bytes(b"abd"))
    assert list(store.blobs.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OutOfResources):
        store.add_blob(b"abc")
    assert list(store.blobs.iterdir()) == []


def test_a_name_is_found_in_any_case_and_keeps_its_spelling(store: Store) -> None:
    add_model(store, Name.parse("smol-a:v1"))
    assert store.find(Name.parse("Smol-A:V1")) == Name.parse("smol-a:v1")
    assert store.spelled(Name.parse("My:V1")).short == "My:v1"
    assert store.find(Name.parse("smol-b:v1")) is None


def test_copy_is_a_new_name_for_the_same_bytes(store: Store) -> None:
    add_model(store, SMOL)
    store.copy(SMOL, Name.parse("smol"))
    assert store.read(Name.parse("smol")).digest == store.read(SMOL).digest
    with pytest.raises(NotFound):
        store.copy(Name.parse("none"), SMOL)


def test_models_are_listed_newest_first(store: Store) -> None:
    for age, name in enumerate(["old", "new"]):
        add_model(store, Name.parse(name), name.encode())
        os.utime(store.manifest_path(Name.parse(name)), (age, age))
    assert [model.name.model for model in store.list()] == ["new", "old"]


def test_deleting_a_name_keeps_its_blobs_until_they_are_pruned(store: Store) -> None:
    kept = add_model(store, Name.parse("kept"))
    gone = add_model(store, SMOL, b"other")
    assert store.delete_manifest(SMOL) == gone
    assert all(store.has_blob(digest) for digest in gone.digests)
    assert store.prune() == ()  # younger than an hour
    assert store.prune(older_than=0) == (digest_bytes(b"other"),)
    assert all(store.has_blob(digest) for digest in kept.digests)
    with pytest.raises(NotFound):
        store.delete_manifest(SMOL)


def test_nothing_is_pruned_while_a_manifest_is_broken(store: Store) -> None:
    store.add_blob(b"loose")
    path = store.manifest_path(SMOL)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert store.broken() == (SMOL,)
    assert store.prune(older_than=0) == ()
    assert store.delete_manifest(SMOL) is None
    assert store.prune(older_than=0) == (digest_bytes(b"loose"),)


def test_what_a_killed_writer_left_is_swept_once_it_is_old(store: Store) -> None:
    add_model(store, SMOL)
    left = [store.blobs / ".incoming-x", store.manifest_path(SMOL).parent / ".v1.x.tmp"]
    for path in left:
        path.write_bytes(b"half")
    merging = store.blobs / ".merge-x"
    merging.mkdir()
    (merging / "merged.gguf").write_bytes(b"half a base")
    left.append(merging)
    store.sweep()
    assert all(path.exists() for path in left)
    store.sweep(older_than=0)
    assert not any(path.exists() for path in left)
    assert store.read(SMOL).manifest.digests


def test_a_file_with_a_strange_name_is_no_model(store: Store) -> None:
    add_model(store, SMOL)
    (store.manifest_path(SMOL).parent / ".v1.tmp").write_bytes(b"{}")
    assert [model.name for model in store.list()] == [SMOL]
