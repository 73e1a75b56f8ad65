"""Pulling from an Ollama registry on loopback, with the faults that networks have."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from ollama_ft.core.errors import (
    BadInput,
    NotFound,
    OutOfResources,
    RuntimeRefused,
    RuntimeUnavailable,
)
from ollama_ft.core.files import digest_bytes, digest_file
from ollama_ft.runtime import download
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.assemble import Texts, assemble, read_texts
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.parts import Parts
from ollama_ft.runtime.registry import pull
from ollama_ft.runtime.store import Store
from tests.registries import registry

PART = download.PART  # as people have it; the tests use smaller ones
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
    monkeypatch.setattr(download._persistently.retry, "sleep", lambda seconds: None)
    monkeypatch.setattr(download, "PART", 1 << 20)


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
    server.cut_after = 1 << 18
    pull(name(server), store, insecure=True)
    # one byte to learn whether ranges are heeded; nothing of the weights is fetched twice
    assert server.sent == 1 + sum(map(len, server.blobs.values()))
    ranges = [line.rpartition("bytes=")[2] for line in server.asked if "bytes=" in line]
    assert {int(r.partition("-")[0]) for r in ranges} == {n << 18 for n in range(12)}


def test_a_part_is_continued_at_the_byte_where_a_crash_left_it(server, store):
    part = store.root / "incoming" / f"{digest_bytes(WEIGHTS)[7:]}.part"
    part.parent.mkdir(parents=True)
    with Parts(part, len(WEIGHTS), 1 << 20) as parts:
        for index, count in ((0, 1 << 20), (1, 1000)):
            with parts.writer(index, anew=False) as writer:
                writer.write(WEIGHTS[index << 20 :][:count])
    pull(name(server), store, insecure=True)
    asked = {line.rpartition("bytes=")[2] for line in server.asked if "bytes=" in line}
    assert asked == {"0-0", f"{(1 << 20) + 1000}-{(2 << 20) - 1}", f"{2 << 20}-{(3 << 20) - 1}"}


def test_after_a_power_cut_only_whole_parts_are_trusted(server, store, tmp_path, monkeypatch):
    part = store.root / "incoming" / f"{digest_bytes(WEIGHTS)[7:]}.part"
    part.parent.mkdir(parents=True)
    with Parts(part, len(WEIGHTS), 1 << 20) as parts:
        with parts.writer(0, anew=False) as writer:
            writer.write(WEIGHTS[: 1 << 20])
        with parts.writer(1, anew=False) as writer:
            writer.write(b"what never reached the disk")
    (tmp_path / "boot").write_text("another start of the machine")
    monkeypatch.setattr("ollama_ft.runtime.parts._BOOT", tmp_path / "boot")
    pull(name(server), store, insecure=True)
    assert server.sent < len(WEIGHTS) - (1 << 20) + 10_000


def test_a_server_that_ignores_ranges_gives_it_in_one_piece(server, store):
    server.ignore_range = True
    pull(name(server), store, insecure=True)
    assert store.has_blob(digest_bytes(WEIGHTS))
    server.asked.clear()
    store.blob_path(digest_bytes(WEIGHTS)).unlink()
    server.cut_after = 1 << 20  # and then it can never be had whole
    with pytest.raises(RuntimeUnavailable, match="received 1048576 bytes"):
        pull(name(server), store, insecure=True)


def test_several_connections_fetch_parts_at_once(server, store, monkeypatch):
    gate = threading.Barrier(3, timeout=20)
    fetch = download._Crew._fetch

    def watched(crew, index):
        gate.wait()  # opens when three threads have come, each for a part of its own
        fetch(crew, index)

    monkeypatch.setattr(download._Crew, "_fetch", watched)
    digest = digest_bytes(WEIGHTS)
    part = store.root / "weights.part"
    store.root.mkdir(parents=True)
    wanted = download.Wanted(digest=digest, size=len(WEIGHTS), path=f"/blobs/{digest}", missing="")
    with httpx.Client(base_url=f"http://{server.address}/v2/library/m") as http:
        download.download(http, wanted, part, lambda done: None)
    assert part.read_bytes() == WEIGHTS


def test_blobs_that_lie_elsewhere_are_asked_there_at_once(server, store):
    server.elsewhere = True
    pull(name(server), store, insecure=True)
    at_registry = [a for a in server.asked if digest_bytes(WEIGHTS) in a and "/cdn/" not in a]
    assert len(at_registry) == 1  # not once for each part
    assert store.has_blob(digest_bytes(WEIGHTS))


def test_a_name_as_on_hf_co_is_pulled_like_any_other(server, store):
    server.elsewhere = True
    server.add("Someone/Tiny-1B-GGUF:Q4_K_M", WEIGHTS, TEXTS)
    wanted = Name.parse(f"{server.address}/Someone/Tiny-1B-GGUF:Q4_K_M")
    model = pull(wanted, store, insecure=True)
    assert server.asked[0] == "/v2/Someone/Tiny-1B-GGUF/manifests/Q4_K_M"
    assert read_texts(store, model.manifest) == TEXTS
    hub = Name.parse("hf.co/Someone/Tiny-1B-GGUF:Q4_K_M")
    assert (hub.host, hub.repository, hub.tag) == ("hf.co", "Someone/Tiny-1B-GGUF", "Q4_K_M")


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


def test_more_bytes_than_the_manifest_says_are_refused(server, store, monkeypatch):
    monkeypatch.setattr(download, "PART", PART)  # of ranges, no more is taken than was asked for
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


# Kills

PULL = """
import sys
from pathlib import Path
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.registry import pull
from ollama_ft.runtime.store import Store
pull(Name.parse(sys.argv[1]), Store(Path(sys.argv[2])), insecure=True)
"""
KILLS = 10


@pytest.mark.slow
def test_a_pull_that_is_killed_ten_times_ends_right_and_asks_little_twice(server, store):
    weights = os.urandom(1 << 20) * 250
    digest = server.add("library/big:1", weights)
    command = [sys.executable, "-c", PULL, str(name(server)).replace("/m:", "/big:")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    for kill in range(1, KILLS + 1):
        process = subprocess.Popen([*command, str(store.root)], env=environment)
        while server.sent < kill * 20_000_000 and process.poll() is None:
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not store.has_blob(digest)
        assert list(store.names()) == []
    subprocess.run([*command, str(store.root)], env=environment, check=True)
    assert digest_file(store.blob_path(digest)) == digest
    again = server.sent - len(weights)
    sys.stdout.write(
        f"{KILLS} kills: {again / 1e6:.1f} MB of {len(weights) / 1e6:.0f} sent twice\n"
    )
    assert again < KILLS * PART
    assert list((store.root / "incoming").glob("*.part")) == []


def test_of_a_refusal_no_more_is_read_than_anybody_would():
    sent = []

    def endless():
        for _ in range(1 << 12):
            sent.append(1)
            yield b"no " * 1024

    refusal = httpx.Response(403, content=endless(), request=httpx.Request("GET", "http://r/"))
    with pytest.raises(RuntimeRefused, match="sent more than"):
        download.check_status(refusal, "")
    assert len(sent) < 1000
