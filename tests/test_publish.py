"""Publishing to a runtime that runs: the routes, what is checked afterwards, and the live pointer."""

import dataclasses
from pathlib import Path

import httpx
import pytest

from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import BadInput, Conflict, RuntimeRefused, RuntimeUnavailable
from ollama_ft.core.files import digest_file
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.launch import start_embedded
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.publish import (
    PublishSpec,
    differences,
    ensure_base,
    manifest_digest,
    pinned_name,
    point,
    publish,
)
from ollama_ft.runtime.store import Store
from tests.faults import faulty
from tests.ggufs import CHATML_JINJA, write_adapter, write_model

ROUTES = ["adapters", "files", "registry", "store", "merged"]
TEMPLATE = "{{ if .System }}S:{{ .System }}\n{{ end }}U:{{ .Prompt }}\nA:{{ .Response }}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    base = write_model(folder / "base.gguf", jinja=CHATML_JINJA)
    adapters = [write_adapter(folder / f"a{seed}.gguf", seed=seed) for seed in (1, 2)]
    return base, *adapters, write_model(folder / "merged.gguf", jinja=CHATML_JINJA, seed=3)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("runtime") / "models"


@pytest.fixture(scope="module")
def address(models):
    with start_embedded(models, models.parent / "log") as address:
        yield address


@pytest.fixture
def client(address, models):
    with Ollama(address) as client:
        yield client
        for tag in client.tags():
            client.delete(tag.name)
        Store(models).prune(older_than=0)  # the runtime we start keeps blobs that nothing names


@pytest.fixture
def spec(client, weights):
    base, adapter, _, merged = weights
    name = ensure_base(
        client, pinned_name(digest_file(base)), base_blob=digest_file(base), blob_path=base
    )
    return PublishSpec(
        tag="support:v1",
        base_name=name,
        base_blob=digest_file(base),
        base_path=base,
        adapter_blob=digest_file(adapter),
        adapter_path=adapter,
        system="You are the help desk. 你好\u3000— “quoted”\n",
        template=TEMPLATE,
        parameters={"temperature": 0.25, "num_ctx": 2048, "stop": ["<|im_end|>", "U:"], "seed": 7},
        messages=(Message(role="user", content="Hi"), Message(role="assistant", content="Hello!")),
        license=("MIT",),
        merge=lambda: (digest_file(merged), merged),
    )


# The routes


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_serves_exactly_what_was_asked_for(client, spec, route):
    published = publish(client, spec, route=route)
    assert (published.tag, published.route) == ("support:v1", route)
    assert published.manifest_digest == manifest_digest(client, "support:v1")
    shown = client.show("support:v1")
    merged = spec.merge()[0]
    assert differences(shown, dataclasses.replace(spec, merged=(merged,))) == []
    assert shown.layers == ((merged,) if route == "merged" else spec.layers)
    assert (shown.system, shown.template) == (spec.system, TEMPLATE)
    assert shown.messages == spec.messages
    assert sorted(tag.name for tag in client.tags()) == [spec.base_name, "support:v1"]


def test_a_merged_version_is_another_one_unless_its_merge_is_known(client, spec):
    publish(client, spec, route="merged")
    with pytest.raises(Conflict, match="its adapter is none"):
        publish(client, spec)
    known = dataclasses.replace(spec, merged=(spec.merge()[0],))
    assert publish(client, known).route == "already there"


def test_a_route_that_was_refused_before_is_tried_last(address, client, spec):
    asking, asked = faulty(address, lambda path, body: None)
    published = publish(asking, spec, last=["adapters"])
    assert published.route == "files"
    assert not any("adapters" in body for _, _, body in asked)


@pytest.mark.parametrize("route", ROUTES)
def test_the_bare_base_can_be_published_as_a_version(client, spec, route):
    bare = dataclasses.replace(
        spec, tag="support:v0", adapter_blob=None, adapter_path=None, messages=(), merge=None
    )
    if route == "merged":
        with pytest.raises(RuntimeRefused, match="nothing is there to be merged"):
            publish(client, bare, route=route)
        return
    publish(client, bare, route=route)
    assert client.show("support:v0").layers == (spec.base_blob,)


def test_publishing_again_changes_nothing(client, spec):
    first = publish(client, spec)
    again = publish(client, spec)
    assert (first.route, again.route) == ("adapters", "already there")
    assert again.manifest_digest == first.manifest_digest


def test_a_tag_with_other_content_is_left_alone(client, spec, weights):
    publish(client, spec)
    before = manifest_digest(client, spec.tag)
    other = dataclasses.replace(spec, adapter_blob=digest_file(weights[2]), adapter_path=weights[2])
    with pytest.raises(Conflict, match="with other content: its adapter is sha256:"):
        publish(client, other)
    with pytest.raises(
        Conflict, match=r"its system text differs; its temperature is 0\.25, not 0\.5"
    ):
        publish(client, dataclasses.replace(spec, system="", parameters={"temperature": 0.5}))
    assert manifest_digest(client, spec.tag) == before


@pytest.mark.parametrize(
    ("refuse", "used"),
    [
        ("", "adapters"),
        ("adapters", "files"),
        ("adapters,files", "registry"),
        ("adapters,files,registry", "store"),
        ("adapters,files,registry,store", "merged"),
    ],
)
def test_a_runtime_that_refuses_a_route_gets_the_next_one(tmp_path, weights, refuse, used):
    base, adapter, _, merged = weights
    with (
        start_embedded(tmp_path / "models", tmp_path / "log", refuse=refuse) as address,
        Ollama(address) as client,
    ):
        blob = digest_file(base)
        # a base of its own, as a runtime that refuses uploads has pulled it
        Store(tmp_path / "models").add_blob(base.read_bytes(), blob)
        name = _pinned_by_hand(Store(tmp_path / "models"), base)
        spec = PublishSpec(
            tag="support:v1",
            base_name=name,
            base_blob=blob,
            base_path=base,
            adapter_blob=digest_file(adapter),
            adapter_path=adapter,
            merge=lambda: (digest_file(merged), merged),
        )
        published = publish(client, spec)
    assert published.route == used
    assert [route for route, _ in published.refused] == ROUTES[: ROUTES.index(used)]


def _pinned_by_hand(store: Store, base: Path) -> str:
    from ollama_ft.runtime.assemble import Texts, assemble, gguf_details, store_assembled

    blob = digest_file(base)
    made = assemble([("model", blob, base.stat().st_size)], Texts(), gguf_details(base))
    store_assembled(store, Name.parse(pinned_name(blob)), made)
    return pinned_name(blob)


def test_when_all_refuse_each_reason_is_told_and_no_tag_is_left(address, client, spec):
    def refuse(path, body):
        if path in ("/api/create", "/api/pull"):
            return httpx.Response(400, json={"error": f"{path} is not for you"})
        if path == "/api/show" and body["model"] == spec.base_name:
            shown = {"modelfile": f"FROM /nowhere/blobs/sha256-{spec.base_blob[7:]}\n"}
            return httpx.Response(200, json=shown)
        return None

    strict, _ = faulty(address, refuse)
    with pytest.raises(RuntimeRefused) as caught:
        publish(strict, spec)
    said = str(caught.value)
    assert said.count("/api/create is not for you") == 3
    assert "registry: The runtime refused: /api/pull is not for you" in said
    assert "store: /nowhere cannot be written from here" in said
    assert "merged: The runtime refused: /api/create is not for you" in said
    assert client.find(spec.tag) is None


def test_a_runtime_that_drops_the_adapter_in_silence_is_found_out(address, client, spec):
    def drop(path, body):
        if path == "/api/create":
            body = {key: value for key, value in body.items() if key != "adapters"}
            httpx.post(f"{address}/api/create", json=body).raise_for_status()
            return httpx.Response(200, json={"status": "success"})
        return None

    silent, _ = faulty(address, drop)
    with pytest.raises(RuntimeRefused, match="its adapter is none, not sha256:"):
        publish(silent, spec, route="adapters")
    assert client.find(spec.tag) is None


def test_a_template_that_the_runtime_would_not_use_is_found_out(address, client, spec):
    def outvote(path, body):
        if path == "/api/show" and body["model"] == spec.tag and client.find(spec.tag):
            shown = httpx.post(f"{address}/api/show", json=body).json()
            return httpx.Response(200, json=shown | {"template": CHATML_JINJA})
        return None

    with pytest.raises(RuntimeRefused, match="renders with another template"):
        publish(faulty(address, outvote)[0], spec, route="adapters")
    assert client.find(spec.tag) is None


def test_a_runtime_that_goes_away_is_no_refusal(address, spec):
    def vanish(path, body):
        if path == "/api/create":
            raise httpx.ReadError("gone")
        return None

    with pytest.raises(RuntimeUnavailable) as caught:
        publish(faulty(address, vanish)[0], spec)
    assert not isinstance(caught.value, RuntimeRefused)


def test_a_version_is_made_from_the_pristine_base_alone(client, spec, weights):
    publish(client, spec)
    stacked = dataclasses.replace(spec, tag="support:v2", base_name="support:v1")
    with pytest.raises(RuntimeRefused, match="is no longer the base"):
        publish(client, stacked, route="adapters")


def test_a_base_that_the_runtime_lacks_is_not_pulled_by_it(address, spec):
    other = dataclasses.replace(spec, base_name="library/nobody:1b")
    asking, asked = faulty(address, lambda path, body: None)
    with pytest.raises(RuntimeRefused, match="nobody:1b is not at the runtime"):
        publish(asking, other, route="adapters")
    assert not any(path in ("/api/create", "/api/pull") for _, path, _ in asked)


def test_the_adapter_is_looked_for_before_it_is_sent(address, spec):
    asking, asked = faulty(address, lambda path, body: None)
    publish(asking, spec)
    paths = [(method, path) for method, path, _ in asked]
    blob = f"/api/blobs/{spec.adapter_blob}"
    assert (
        paths.index(("HEAD", blob))
        < paths.index(("POST", blob))
        < paths.index(("POST", "/api/create"))
    )


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("Support:V1", "upper-case"),
        ("support:cloud", "reserved"),
        ("sup port:v1", "not a model name"),
    ],
)
def test_a_tag_that_ollama_would_not_keep_is_refused_first(client, spec, tag, said):
    with pytest.raises(BadInput, match=said):
        publish(client, dataclasses.replace(spec, tag=tag))


def test_an_unknown_route_is_told_with_those_that_there_are(client, spec):
    with pytest.raises(
        BadInput, match=r"no route 'pigeon'\. Known: adapters, files, registry, store, merged"
    ):
        publish(client, spec, route="pigeon")


# The base


def test_a_base_is_pinned_once(client, weights):
    base = weights[0]
    blob, name = digest_file(base), pinned_name(digest_file(base))
    for _ in range(2):
        assert ensure_base(client, name, base_blob=blob, blob_path=base) == name
    assert client.show(name).layers == (blob,)


def test_a_base_that_the_runtime_knows_by_another_name_is_copied_and_not_sent(
    address, client, spec
):
    client.copy(spec.base_name, "tiny:1b")
    client.delete(spec.base_name)
    asking, asked = faulty(address, lambda path, body: None)
    ensure_base(
        asking,
        spec.base_name,
        base_blob=spec.base_blob,
        blob_path=Path("/not/there"),
        known_as="tiny:1b",
    )
    assert not any("/api/blobs" in path for _, path, _ in asked)
    assert client.show(spec.base_name).layers == (spec.base_blob,)


def test_a_pinned_name_with_another_base_is_a_conflict(client, spec, tmp_path):
    other = write_model(tmp_path / "other.gguf", seed=9)
    with pytest.raises(Conflict, match="with another base"):
        ensure_base(client, spec.base_name, base_blob=digest_file(other), blob_path=other)


def rewriting(address, tmp_path, *, pulls: bool):
    """A runtime that makes another GGUF of what is uploaded, as Ollama 0.30 to 0.33 do."""
    other = write_model(tmp_path / "rewritten.gguf", jinja=CHATML_JINJA, seed=5)
    with Ollama(address) as plain:
        plain.upload_blob(digest_file(other), other)

    def change(path, body):
        if path == "/api/create":
            body["files"] = {"base.gguf": digest_file(other)}
            httpx.post(f"{address}/api/create", json=body).raise_for_status()
            return httpx.Response(200, json={"status": "success"})
        if path == "/api/pull" and not pulls:
            return httpx.Response(500, json={"error": "connection refused"})
        return None

    return faulty(address, change)[0]


def test_a_base_that_the_runtime_would_rewrite_is_handed_over_as_it_is(
    address, client, weights, tmp_path
):
    base = weights[0]
    blob, name = digest_file(base), pinned_name(digest_file(base))
    runtime = rewriting(address, tmp_path, pulls=True)
    ensure_base(runtime, name, base_blob=blob, blob_path=base)
    shown = client.show(name)
    assert shown.layers == (blob,)
    assert "<|im_start|>" in shown.template
    assert [tag.name for tag in client.tags()] == [name]


def test_a_base_that_cannot_be_kept_as_it_is_is_told_with_both_digests(
    address, client, weights, tmp_path
):
    base = weights[0]
    blob, name = digest_file(base), pinned_name(digest_file(base))
    strict = rewriting(address, tmp_path, pulls=False)
    with pytest.raises(RuntimeRefused, match=f"trained on {blob[:19]}. It does not pull it either"):
        ensure_base(strict, name, base_blob=blob, blob_path=base)
    assert client.find(name) is None


def test_a_merged_gguf_that_the_runtime_would_rewrite_is_handed_over(
    address, client, spec, tmp_path
):
    runtime = rewriting(address, tmp_path, pulls=True)
    publish(runtime, spec, route="merged")
    shown = client.show(spec.tag)
    assert shown.layers == (spec.merge()[0],)
    assert (shown.system, shown.template) == (spec.system, TEMPLATE)


# The pointer


def test_the_pointer_moves_and_is_read_back(client, spec, weights):
    publish(client, spec)
    other = dataclasses.replace(
        spec, tag="support:v2", adapter_blob=digest_file(weights[2]), adapter_path=weights[2]
    )
    publish(client, other)
    for tag in ("support:v1", "support:v2", "support:v1"):
        assert point(client, tag, "support:latest") == manifest_digest(client, tag)
        assert client.show("support").layers == client.show(tag).layers


def test_a_pointer_to_nothing_is_refused_and_stands(client, spec):
    publish(client, spec)
    before = point(client, "support:v1", "support:latest")
    with pytest.raises(RuntimeRefused, match="not found"):
        point(client, "support:v9", "support:latest")
    assert manifest_digest(client, "support:latest") == before


def test_a_pointer_that_somebody_else_moved_is_found_out(address, client, spec):
    publish(client, spec)

    def moved(path, body):
        if path == "/api/copy":
            client.copy(spec.base_name, "support:latest")
            return httpx.Response(200)
        return None

    with pytest.raises(RuntimeRefused, match="was copied from support:v1, but stands for"):
        point(faulty(address, moved)[0], "support:v1", "support:latest")
