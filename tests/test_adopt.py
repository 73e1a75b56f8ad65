"""A version from elsewhere becomes rows of this home, or leaves no trace."""

import json
import shutil
from dataclasses import replace

import pytest

from ollama_ft.core.catalog import append, every, newest
from ollama_ft.core.errors import BadInput, BadWeights, Conflict, NotFound, Unsupported
from ollama_ft.core.files import artefact, digest_bytes, digest_file
from ollama_ft.core.home import shipped
from ollama_ft.core.records import (
    RECORDS,
    Adapter,
    Base,
    Dataset,
    Evaluation,
    Family,
    Origin,
    Proof,
    RecipeText,
    Run,
    Version,
)
from ollama_ft.kinds.bundle import pack, read_bundle
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.provenance import version_digest
from ollama_ft.runtime.store import Store
from ollama_ft.stages import adopt as stage
from ollama_ft.stages.adopt import Arrival, adopt
from ollama_ft.stages.dataset import build, freeze, load, newest_here
from ollama_ft.stages.gc import plan, remove
from ollama_ft.travel import export
from ollama_ft.weights.adapter import convert_adapter
from ollama_ft.weights.peft_folder import read_peft
from ollama_ft.weights.reader import open_gguf
from tests.bundles import some_files, some_provenance
from tests.loras import peft_folder

ARRIVAL = Arrival(kind="bundle", source="v2.tar", signer="f" * 64)


@pytest.fixture
def base(db, home, smollm2_gguf):
    blob = Store(home.models).add_blob(smollm2_gguf)
    return append(
        db,
        Base(
            name="smollm2:135m",
            pinned="ollama-ft/base-b179c952:latest",
            blob_digest=blob,
            manifest_digest="sha256:" + "1" * 64,
            size=smollm2_gguf.stat().st_size,
            architecture="llama",
            parameter_size="134.52M",
            quantization="Q4_1",
            licence="apache-2.0",
            source_json="{}",
        ),
    )


@pytest.fixture
def family(db, base):
    return append(
        db, Family(name="bot", base=base.key, system="", template="", parameters_json="{}")
    )


@pytest.fixture
def make(tmp_path, smollm2_gguf, base, family):
    """A bundle of a small adapter; `seed` makes another one, `swap` puts in other PEFT files."""

    def made(seed=0, number=2, swap=None):
        folder = peft_folder(tmp_path / f"peft{seed}", smollm2_gguf, seed=seed)
        with open_gguf(smollm2_gguf) as gguf:
            gguf = convert_adapter(folder, gguf, tmp_path / f"{seed}.gguf", provenance={})
        files = some_files(
            **{
                "adapter.gguf": gguf.path.read_bytes(),
                **{f.name: f.read_bytes() for f in (swap or folder).iterdir()},
            }
        )
        told = some_provenance(files, number=number, parameters={})
        told = told.model_copy(
            update={"base": told.base.model_copy(update={"blob_digest": base.blob_digest})}
        )
        digest = {"digest": version_digest(base.blob_digest, gguf.digest, family)}
        told = told.model_copy(update={"version": told.version.model_copy(update=digest)})
        packed = pack(told, files)
        at = tmp_path / f"blobs{seed}"
        at.mkdir(exist_ok=True)
        paths = {}
        for digest, content in packed.contents.items():
            paths[digest] = at / digest[7:]
            paths[digest].write_bytes(content)
        return read_bundle(packed.artefact, paths)

    return made


@pytest.fixture
def take(db, home, family, base, tmp_path):
    def taken(bundle, **how):
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        return adopt(db, home, family, base, bundle, ARRIVAL, work=tmp_path / "work", **how)

    return taken


def counts(db):
    return {record.table: db.table(record.table).count for record in RECORDS}


def test_it_keeps_its_number_its_digest_and_its_whole_story(db, home, make, take):
    bundle = make()
    version = take(bundle)
    told = bundle.provenance
    assert (version.tag, version.digest, version.at) == (
        "bot:v2",
        told.version.digest,
        told.version.at,
    )
    run, adapter = newest(db, Run), newest(db, Adapter)
    assert (run.seed, run.place, json.loads(run.software_json)) == (7, "cpu", {"torch": "2"})
    assert newest(db, RecipeText).text == "rank: 8\n"
    assert newest(db, Dataset).digest == told.dataset.digest
    assert digest_file(artefact(home.data("adapters"), adapter.digest, ".gguf")) == adapter.digest
    folder = artefact(home.data("runs"), run.digest, "")
    assert digest_file(folder / "adapter" / "adapter_model.safetensors") == run.peft_digest
    assert json.loads((folder / "reference.json").read_text())[0]["text"] == "几点开门？"
    assert newest(db, Evaluation).right == 1
    origin = newest(db, Origin, version=version.key)
    assert (origin.kind, origin.source, origin.signer) == ("bundle", "v2.tar", "f" * 64)
    assert origin.digest == bundle.artefact.digest


def test_it_is_not_listed_before_it_is_proved_and_its_makers_proof_counts_for_nothing(
    db, make, take
):
    take(make())
    assert every(db, Proof) == []
    assert list(db.query("select * from versions_view")) == []


def test_the_same_bundle_again_changes_nothing(db, make, take):
    bundle = make()
    first = take(bundle)
    before = counts(db)
    assert take(bundle) == first
    assert counts(db) == before


def test_a_number_that_is_taken_is_refused_or_changed_on_request(db, make, take):
    take(make())
    before = counts(db)
    with pytest.raises(Conflict, match="bot:v2 is here already"):
        take(make(seed=1))
    assert counts(db) == before


def test_with_renumber_it_gets_the_next_number(db, make, take):
    take(make())
    other = some_other_run(make(seed=1))
    assert take(other, renumber=True).number == 3


def some_other_run(bundle):
    told = bundle.provenance
    run = told.run.model_copy(update={"digest": digest_bytes(b"another run")})
    return replace(bundle, provenance=told.model_copy(update={"run": run}))


def test_it_never_writes_over_a_run_that_is_here(db, home, make, take):
    take(make())
    before = counts(db)
    folder = artefact(home.data("runs"), newest(db, Run).digest, "")
    kept = {p: digest_file(p) for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(Conflict, match="is here already, with other content"):
        take(make(seed=1, number=5))  # another adapter that claims to be of the same run
    assert counts(db) == before
    assert {p: digest_file(p) for p in folder.rglob("*") if p.is_file()} == kept


def test_an_adapter_for_another_base_is_refused_and_leaves_no_row(
    db, home, make, take, base, gemma3_gguf
):
    bundle = make()
    other = Store(home.models).add_blob(gemma3_gguf)
    before = counts(db)
    with pytest.raises((BadWeights, Unsupported)):
        adopt(
            db,
            home,
            newest(db, Family),
            replace(base, blob_digest=other),
            bundle,
            ARRIVAL,
            work=home.path / "w",
        )
    assert counts(db) == before
    assert not home.data("adapters").exists()


def test_peft_files_of_other_modules_than_the_gguf_are_refused(
    db, make, take, tmp_path, smollm2_gguf
):
    other = peft_folder(tmp_path / "other", smollm2_gguf, leaf="o_proj")
    with pytest.raises(Conflict, match="not the same adapter"):
        take(make(swap=other))
    assert every(db, Version) == []


def test_training_on_it_says_that_its_data_stayed_where_it_was_made(db, home, make, take):
    take(make())
    with pytest.raises(NotFound, match="its data stayed where it was made"):
        load(home, newest(db, Dataset))


def test_data_that_is_not_here_is_not_taken_for_the_familys_newest(db, home, make, take):
    mine = freeze(db, home, "bot", build(read_rows_of_ours()))
    take(make())
    assert newest(db, Dataset).digest != mine.digest
    assert newest_here(db, home, "bot") == mine


def read_rows_of_ours():
    return [row for _, row in read_rows(shipped() / "data" / "questions.jsonl", None)]


def test_without_the_trainer_an_adapter_made_elsewhere_is_refused_with_what_is_lacking(monkeypatch):
    monkeypatch.setattr(stage, "find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(Unsupported, match=r"torch is not installed") as refused:
        stage.check_trainer()
    assert "ollama-ft[train]" in refused.value.mend


def given(db, home, version, kind, out, **how):
    return export(db, home, version, kind, out, env={}, **how)


def test_weights_that_gc_let_go_come_back_with_the_bundle_that_they_came_in(
    db, home, make, take, tmp_path
):
    bundle = make()
    version = take(bundle)
    before = counts(db)
    adapter = artefact(home.data("adapters"), newest(db, Adapter).digest, ".gguf")
    folder = artefact(home.data("runs"), newest(db, Run).digest, "") / "adapter"
    (item,) = [i for i in plan(db, home, 0).items if i.kind == "adapter"]
    assert item.loss.endswith("unless it comes again: ollama-ft import v2.tar")
    remove(db, home, [item], "")
    assert not adapter.exists() and not folder.exists()
    with pytest.raises(NotFound, match="was let go by gc") as caught:
        given(db, home, version, "gguf", tmp_path / "x.gguf")
    assert caught.value.mend == "ollama-ft import v2.tar"
    assert take(bundle) == version
    assert digest_file(adapter) == bundle.provenance.adapter.digest
    assert digest_file(folder / "adapter_model.safetensors") == newest(db, Run).peft_digest
    assert counts(db) == before | {"removals": 1}


def test_the_adapter_can_be_had_where_other_files_of_the_version_are_gone(
    db, home, make, take, tmp_path, smollm2_gguf
):
    version = take(make())
    folder = artefact(home.data("runs"), newest(db, Run).digest, "")
    shutil.rmtree(folder)
    made = given(db, home, version, "gguf", tmp_path / "a.gguf")
    assert digest_file(made) == newest(db, Adapter).digest
    again = given(db, home, version, "peft", tmp_path / "again")
    assert read_peft(again)
    with pytest.raises(NotFound, match="a file of it is gone") as caught:
        given(db, home, version, "bundle", tmp_path / "v2.tar")
    assert "--as gguf" in caught.value.mend
    assert not (tmp_path / "v2.tar").exists()


def test_what_is_damaged_is_not_given_away(db, home, make, take, tmp_path):
    version = take(make())
    folder = artefact(home.data("runs"), newest(db, Run).digest, "")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(BadWeights, match=r"adapter_model\.safetensors of bot:v2 was changed"):
        given(db, home, version, "bundle", tmp_path / "v2.tar")
    adapter = artefact(home.data("adapters"), newest(db, Adapter).digest, ".gguf")
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    for kind in ("bundle", "gguf", "peft", "modelfile", "merged"):
        with pytest.raises(BadWeights, match="is damaged"):
            given(db, home, version, kind, tmp_path / kind)
        assert not (tmp_path / kind).exists()


def test_a_signature_that_has_no_place_in_the_file_is_refused(db, home, make, take, tmp_path):
    version = take(make())
    for kind in ("gguf", "peft", "modelfile", "merged"):
        with pytest.raises(BadInput, match="no place for a signature"):
            given(db, home, version, kind, tmp_path / "x", key="ann")


def test_a_place_that_cannot_be_written_is_named(db, home, make, take, tmp_path):
    version = take(make())
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for kind in ("bundle", "gguf", "modelfile", "merged"):
        with pytest.raises(BadInput, match="folder is a folder"):
            given(db, home, version, kind, tmp_path / "folder")
    for kind in ("bundle", "gguf", "peft", "modelfile", "merged"):
        with pytest.raises(BadInput, match="cannot be written"):
            given(db, home, version, kind, tmp_path / "file" / "x")
