"""A version in one file: the same bytes each time, and nothing hostile gets in."""

import io
import json
import tarfile

import pytest

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.files import digest_bytes
from ollama_ft.kinds.bundle import KIND, pack, read_bundle
from ollama_ft.kinds.imports import recognise
from ollama_ft.kinds.provenance import read_provenance
from ollama_ft.runtime.oci import layout
from ollama_ft.runtime.oci.artefact import Artefact, Descriptor
from ollama_ft.runtime.oci.layout import blob_path, read_layout, write_layout
from tests.bundles import a_bundle, some_files, some_provenance


def written(tmp_path, packed=None, name="v2.tar"):
    packed = packed or a_bundle()
    return write_layout(tmp_path / name, packed.artefact, packed.contents, "bot:v2")


def read(path, tmp_path):
    artefact = read_layout(path, tmp_path / "blobs")
    blobs = {b.digest: blob_path(tmp_path / "blobs", b.digest) for b in artefact.blobs}
    return read_bundle(artefact, blobs)


def members(path):
    with tarfile.open(path) as tar:
        return [(entry, tar.extractfile(entry).read()) for entry in tar]


def rewritten(path, entries):
    """The tar anew, of these (name or TarInfo, content)."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for entry, content in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_bundle_comes_back_as_it_went(tmp_path):
    bundle = read(written(tmp_path), tmp_path)
    for title, content in some_files().items():
        assert bundle.files[title].read_bytes() == content
    assert bundle.provenance == some_provenance(some_files())
    assert bundle.provenance.tag == "bot:v2"


def test_the_same_version_gives_the_same_bytes(tmp_path):
    one, two = written(tmp_path, name="a"), written(tmp_path, name="b")
    assert one.read_bytes() == two.read_bytes()


def test_it_is_an_oci_layout_that_names_its_files(tmp_path):
    found = {entry.name: content for entry, content in members(written(tmp_path))}
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (told,) = json.loads(found["index.json"])["manifests"]
    assert told["artifactType"] == KIND
    manifest = json.loads(found[f"blobs/sha256/{told['digest'][7:]}"])
    titles = [x["annotations"]["org.opencontainers.image.title"] for x in manifest["layers"]]
    assert titles == list(some_files())
    assert manifest["annotations"]["org.opencontainers.image.base.name"] == "tiny:1m"


def test_it_holds_no_row_of_the_data_and_no_files_name():
    told = some_provenance(some_files()).model_dump()["dataset"]
    assert set(told) == {
        *("digest", "at", "rows", "train", "validation", "test", "duplicates", "conflicts")
    }


def test_a_tar_with_plain_folders_is_read_too(tmp_path):
    path = written(tmp_path)
    folder = tarfile.TarInfo("blobs")
    folder.type = tarfile.DIRTYPE
    rewritten(path, [(folder, b""), *members(path)])
    assert read(path, tmp_path).provenance.tag == "bot:v2"


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "blobs/sha256/../../evil", "blobs/sha256/" + "A" * 64, "extra", ""],
)
def test_a_name_that_does_not_belong_there_is_refused(tmp_path, name):
    path = written(tmp_path)
    rewritten(path, [*members(path), (name, b"x")])
    with pytest.raises(BadInput):
        read(path, tmp_path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    path = written(tmp_path)
    entry = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
    entry.type, entry.linkname = kind, "/etc/passwd"
    rewritten(path, [*members(path), (entry, b"")])
    with pytest.raises(BadInput, match="no plain file"):
        read(path, tmp_path)


def test_a_blob_with_another_digest_than_its_name_is_refused(tmp_path):
    path = written(tmp_path)
    changed = [(e, c.replace(b"rank: 8", b"rank: 9")) for e, c in members(path)]
    rewritten(path, changed)
    with pytest.raises(BadInput, match="was changed"):
        read(path, tmp_path)


def test_a_blob_that_stands_twice_is_refused(tmp_path):
    path = written(tmp_path)
    rewritten(path, [*members(path), members(path)[-1]])
    with pytest.raises(BadInput, match="twice"):
        read(path, tmp_path)


def test_a_missing_part_is_refused(tmp_path):
    path = written(tmp_path)
    lost = digest_bytes(some_files()["adapter.gguf"])[7:]
    rewritten(path, [(e, c) for e, c in members(path) if lost not in e.name])
    with pytest.raises(BadInput, match=r"lacks adapter\.gguf"):
        read(path, tmp_path)


def test_a_compressed_tar_is_no_bundle(tmp_path):
    import gzip

    path = written(tmp_path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(BadInput, match="no bundle"):
        read_layout(path, tmp_path / "blobs")


def test_too_many_files_are_refused(tmp_path):
    path = written(tmp_path)
    more = [(f"blobs/sha256/{digest_bytes(bytes([n]))[7:]}", bytes([n])) for n in range(100)]
    rewritten(path, [*members(path), *more])
    with pytest.raises(BadInput, match="too many files"):
        read(path, tmp_path)


def test_a_size_beyond_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MOST_BYTES", 100)
    with pytest.raises(BadInput, match="too large"):
        read(written(tmp_path), tmp_path)


def test_a_header_that_would_take_memory_is_refused(tmp_path):
    path = tmp_path / "evil.tar"
    entry = tarfile.TarInfo("oci-layout")
    entry.type, entry.size = tarfile.XHDTYPE, 64 << 20
    with path.open("wb") as file:
        file.write(entry.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(65 << 20)
    with pytest.raises(BadInput, match="header of more than 1 MiB"):
        read_layout(path, tmp_path / "blobs")


def test_a_sparse_file_is_refused(tmp_path):
    path = written(tmp_path)
    entry = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
    entry.type = tarfile.GNUTYPE_SPARSE
    rewritten(path, [*members(path), (entry, b"")])
    with pytest.raises(BadInput):
        read(path, tmp_path)


@pytest.mark.parametrize("cut", [0, 100, 600, 5000, 7000])
def test_half_a_file_is_refused(tmp_path, cut):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadInput):
        read_layout(path, tmp_path / "blobs")


def test_two_manifests_are_refused(tmp_path):
    path = written(tmp_path)
    found = {entry.name: content for entry, content in members(path)}
    index = json.loads(found["index.json"])
    found["index.json"] = json.dumps(index | {"manifests": index["manifests"] * 2}).encode()
    rewritten(path, found.items())
    with pytest.raises(BadInput, match="several or none"):
        read(path, tmp_path)


def test_another_kind_of_artefact_is_named_and_refused(tmp_path):
    packed = a_bundle()
    other = Artefact(kind="application/vnd.example.chart", config=packed.artefact.config, layers=())
    path = write_layout(tmp_path / "x", other, packed.contents, "x")
    with pytest.raises(BadInput, match=r"vnd\.example\.chart"):
        read(path, tmp_path)


def test_an_unknown_layer_is_refused(tmp_path):
    packed = a_bundle()
    extra = Descriptor.of("application/x-sh", b"rm", "run.sh")
    changed = Artefact(
        kind=KIND, config=packed.artefact.config, layers=(*packed.artefact.layers, extra)
    )
    path = write_layout(tmp_path / "x", changed, {**packed.contents, extra.digest: b"rm"}, "x")
    with pytest.raises(BadInput, match=r"run\.sh"):
        read(path, tmp_path)


@pytest.mark.parametrize("title", ["adapter.gguf", "adapter_model.safetensors", "evaluation.json"])
def test_a_file_that_the_provenance_does_not_name_is_refused(tmp_path, title):
    files = some_files()
    told = some_provenance(files)
    packed = pack(told, files | {title: files[title] + b" "})
    with pytest.raises(BadInput, match="names another"):
        read(written(tmp_path, packed), tmp_path)


def test_a_version_without_its_reference_cannot_be_proved_and_is_refused(tmp_path):
    files = some_files()
    del files["reference.json"]
    with pytest.raises(BadInput, match=r"lacks reference\.json"):
        read(written(tmp_path, pack(some_provenance(files), files)), tmp_path)


def test_the_answers_may_be_left_out(tmp_path):
    files = some_files()
    told = some_provenance(files)
    del files["evaluation.json"]
    bundle = read(written(tmp_path, pack(told, files)), tmp_path)
    assert "evaluation.json" not in bundle.files
    assert bundle.provenance.evaluation.right == 1


@pytest.mark.parametrize(
    "reference", [b"[]", b"{}", b"[{}]", b'[{"messages": 5}]', b"nonsense", b"[" * 100_000]
)
def test_a_reference_that_is_none_is_refused(tmp_path, reference):
    with pytest.raises(BadInput):
        read(written(tmp_path, a_bundle(**{"reference.json": reference})), tmp_path)


def test_a_recipe_that_is_not_the_one_named_is_refused(tmp_path):
    files = some_files()
    told = some_provenance(files)
    changed = told.model_copy(
        update={"recipe": told.recipe.model_copy(update={"text": "rank: 9\n"})}
    )
    with pytest.raises(BadInput, match="recipe has another digest"):
        read(written(tmp_path, pack(changed, files)), tmp_path)


def test_a_version_that_is_not_made_of_what_it_says_is_refused(tmp_path):
    files = some_files()
    told = some_provenance(files, digest="sha256:" + "b" * 64)
    with pytest.raises(BadInput, match="not made of what"):
        read(written(tmp_path, pack(told, files)), tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "ollama-ft.version/9"}, "format"),
        ({"version": {}}, "version.family"),
        ({"base": {"blob_digest": "sha256:../../x"}}, "base"),
        ({"adapter": None}, "adapter"),
    ],
)
def test_a_provenance_that_is_not_in_order_names_the_field(change, said):
    told = json.loads(some_provenance(some_files()).content())
    with pytest.raises(BadInput, match=said):
        read_provenance(json.dumps(told | change).encode())


def test_a_later_ollama_ft_may_tell_more():
    told = json.loads(some_provenance(some_files()).content())
    told["weather"] = told["version"]["mood"] = "fine"
    assert read_provenance(json.dumps(told).encode()) == some_provenance(some_files())


def test_what_is_nothing_of_the_kind_is_named(tmp_path):
    (tmp_path / "x").write_text("hello")
    with pytest.raises(BadInput, match="nothing that can be imported"):
        recognise(tmp_path / "x", tmp_path / "work")
    with pytest.raises(NotFound):
        recognise(tmp_path / "y", tmp_path / "work")


def test_a_pickle_is_never_loaded(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BadInput, match="never loaded"):
        recognise(tmp_path, tmp_path / "work")


def test_a_modelfile_needs_one_adapter_that_is_there(tmp_path):
    path = tmp_path / "Modelfile"
    path.write_text("FROM smollm2:135m\n")
    with pytest.raises(BadInput, match="no ADAPTER"):
        recognise(path, tmp_path / "work")
    path.write_text("FROM smollm2:135m\nADAPTER ./gone.gguf\n")
    with pytest.raises(NotFound, match=r"gone\.gguf"):
        recognise(path, tmp_path / "work")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("version", "at", "2026-01-01T00:00:00"),  # without a zone: no age can be told of it
        ("version", "at", "2026-99-99T99:99:99+00:00"),
        ("version", "parameters", {"stop": ["\ud800"]}),
        ("version", "parameters", {"stop": {"a": 1}}),
        ("version", "parameters", {"temperature": float("nan")}),
        ("run", "seed", 1 << 80),  # more than the catalog can hold
        ("run", "metrics", {}),
        ("run", "metrics", {"general_perplexity": {"base": 1.0, "tuned": "x"}}),
        ("run", "at", "2026-13-01T00:00:00Z"),
    ],
)
def test_a_value_that_would_break_the_catalog_later_is_refused_at_the_door(part, field, value):
    told = json.loads(some_provenance(some_files()).content())
    told[part][field] = value
    with pytest.raises(BadInput, match=rf"not in order: {part}\.{field}"):
        read_provenance(json.dumps(told).encode())
