"""Room: what may go, what stays and why, and what is still known afterwards."""

import json
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from ollama_ft.core.catalog import append, every, row
from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.events import silent
from ollama_ft.core.files import artefact
from ollama_ft.core.recipe import Recipe
from ollama_ft.core.records import Adapter, Base, Dataset, Intent, Removal, Run, Version
from ollama_ft.core.refs import tags
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.assemble import Texts, assemble, store_assembled
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Store
from ollama_ft.stages import doctor, gc, tag, train
from ollama_ft.stages.convert import convert
from ollama_ft.stages.promote import promote, rollback
from tests.rows import a_family, a_version


@pytest.fixture
def bot(db, home):
    """bot: v0 to v6 with weights in the home; v1 to v4 were live one after the other."""
    family = a_family(db)
    versions = [a_version(db, family, number) for number in range(7)]
    for version in versions[:5]:
        promote(db, version, lambda v: "d" * 64, "")
    store = Store(home.models)
    for version in versions[1:]:
        adapter, run = row(db, Adapter, version.adapter), row(db, Run, version.run)
        gguf = artefact(home.data("adapters"), adapter.digest, ".gguf")
        peft = artefact(home.data("runs"), run.digest, "") / "adapter"
        peft.mkdir(parents=True)
        gguf.parent.mkdir(parents=True, exist_ok=True)
        gguf.write_bytes(b"g" * 1000)
        (peft / "adapter_model.safetensors").write_bytes(b"s" * 500)
        (peft.parent / "reference.json").write_text("[]")
        blob = store.add_blob(f"weights of {version.tag}".encode())
        size = store.blob_path(blob).stat().st_size
        made = assemble([("model", blob, size)], Texts(), Details())
        store_assembled(store, Name.parse(version.tag), made)
    return family


def going(found, kind="adapter"):
    return sorted(item.what for item in found.items if item.kind == kind)


def kept(found):
    return {k.version.number: k.why for k in found.kept}


def test_live_previous_base_and_the_newest_stay(db, home, bot):
    found = gc.plan(db, home, 1)
    assert kept(found) == {0: "the bare base", 3: "previous", 4: "live", 6: "one of the newest 1"}
    assert going(found) == ["bot:v1", "bot:v2", "bot:v5"]
    assert found.size == 3 * 1500 + sum(i.size for i in found.items if i.kind == "blob")


def test_a_tagged_version_stays_until_the_tag_is_taken_off(db, home, bot):
    version = next(v for v in every(db, Version) if v.number == 2)
    tag.put(db, version, "keep", "the shop uses it")
    assert kept(gc.plan(db, home, 1))[2] == "tagged keep"
    tag.take(db, version, "keep", "")
    assert 2 not in kept(gc.plan(db, home, 1))


def test_a_version_in_an_unfinished_move_stays(db, home, bot):
    version = next(v for v in every(db, Version) if v.number == 1)
    append(db, Intent(family="bot", version=version.key, action="promote", parent=None, reason=""))
    assert kept(gc.plan(db, home, 1))[1] == "a move is not finished"


def test_what_a_rollback_could_still_reach_is_said(db, home, bot):
    losses = {item.what: item.loss for item in gc.plan(db, home, 1).items}
    assert losses["bot:v2"].startswith("no rollback to it (2 steps back)")
    assert losses["bot:v1"].startswith("no rollback to it (3 steps back)")
    assert "rollback" not in losses["bot:v5"]


def test_a_plan_changes_nothing(db, home, bot):
    before = sorted(p for p in home.path.rglob("*") if "catalog" not in p.name)
    gc.plan(db, home, 1)
    assert sorted(p for p in home.path.rglob("*") if "catalog" not in p.name) == before
    assert every(db, Removal) == []


def test_weights_go_and_rows_and_references_stay(db, home, bot):
    found = gc.plan(db, home, 1)
    versions = len(every(db, Version))
    gc.remove(db, home, found.items, "room")
    assert len(every(db, Version)) == versions
    assert len(list(home.data("adapters").glob("*.gguf"))) == 3
    assert len(list(home.data("runs").glob("*/adapter"))) == 3
    assert len(list(home.data("runs").glob("*/reference.json"))) == 6
    names = {name.short for name in Store(home.models).names()}
    assert names == {"bot:v3", "bot:v4", "bot:v6"}
    assert gc.plan(db, home, 1).items == ()
    assert {r.reason for r in every(db, Removal)} == {"room"}


def test_what_was_let_go_is_nothing_to_worry_about(db, home, bot):
    gc.remove(db, home, gc.plan(db, home, 1).items, "")
    (finding,) = [f for f in doctor.examine(db, home) if f.name == "adapters"]
    assert "missing or changed: sha256:" in finding.text  # the rows' digests are made up
    assert finding.text.startswith("3 ")


def test_a_rollback_walks_on_over_what_is_kept(db, home, bot):
    gc.remove(db, home, gc.plan(db, home, 1).items, "")
    moved = rollback(db, bot, lambda v: "d" * 64, "")
    assert row(db, Version, moved.version).number == 3


def test_blobs_that_nothing_names_go_once_they_are_old(db, home, bot, monkeypatch):
    store = Store(home.models)
    loose = store.add_blob(b"left by a killed upload")
    assert going(gc.plan(db, home, 9), "blob") == []
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 7200)
    assert [i.digest for i in gc.plan(db, home, 9).items] == [loose]


def test_while_a_manifest_is_broken_no_loose_blob_goes(db, home, bot, monkeypatch):
    store = Store(home.models)
    store.add_blob(b"left by a killed upload")
    store.manifest_path(Name.parse("other:1")).parent.mkdir(parents=True)
    store.manifest_path(Name.parse("other:1")).write_text("")
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 7200)
    assert gc.plan(db, home, 9).items == ()


def test_a_tag_must_be_a_word_and_be_there_to_be_taken(db, bot):
    version = next(v for v in every(db, Version) if v.number == 2)
    with pytest.raises(BadInput, match="cannot be a tag"):
        tag.put(db, version, "no spaces", "")
    with pytest.raises(NotFound, match="has no tag 'keep'"):
        tag.take(db, version, "keep", "")
    for _ in range(2):
        tag.put(db, version, "keep", "")
    tag.put(db, version, "北京", "")
    assert tags(db, version) == ["keep", "北京"]


def test_gc_shows_asks_and_clears(ft, bot, home):
    said = ft("gc", "--dry-run", "--newest", "1")
    assert "bot:v4   live" in said
    assert "no rollback to it (2 steps back)" in said
    assert "try: ollama-ft gc --yes" in ft("gc", "--newest", "1", code=2)
    assert len(list(home.data("adapters").glob("*.gguf"))) == 6
    assert "are free again" in ft("gc", "--newest", "1", "--yes")
    assert len(list(home.data("adapters").glob("*.gguf"))) == 3
    assert json.loads(ft("gc", "--dry-run", "--newest", "1", "--json"))["items"] == []


def test_gc_does_not_take_less_than_nothing_for_a_number(ft, bot):
    assert "0" in ft("gc", "--newest", "-1", "--dry-run", code=2)


def test_tag_remove_without_a_word_is_no_look(ft, bot):
    ft("tag", "v2", "keep")
    assert "try: ollama-ft tag bot:v2 keep --remove" in ft("tag", "v2", "--remove", code=2)


def test_tag_shows_what_is_on_a_version(ft, bot):
    assert ft("tag", "v2") == "bot:v2: no tags\n"
    assert ft("tag", "bot:v2", "keep") == "bot:v2: keep\n"
    assert json.loads(ft("tag", "v2", "keep", "--remove", "--json"))["tags"] == []


def test_weights_that_a_kept_version_of_another_family_shares_stay(db, home, bot):
    twin = a_version(db, a_family(db, "twin"), 1)  # the same data, so the same run and adapter
    found = gc.plan(db, home, 1)
    assert going(found) == ["bot:v2", "bot:v5"]
    gc.remove(db, home, found.items, "")
    adapter = row(db, Adapter, twin.adapter)
    assert artefact(home.data("adapters"), adapter.digest, ".gguf").is_file()
    store = Store(home.models)
    assert "bot:v1" in {name.short for name in store.names()}
    for model in store.list():  # a name that stays keeps every blob that it needs
        assert all(map(store.has_blob, model.manifest.digests)), model.name


def test_what_was_let_go_comes_back_by_training_again(db, home, bot, monkeypatch):
    version = next(v for v in every(db, Version) if v.number == 2)
    run, adapter = row(db, Run, version.run), row(db, Adapter, version.adapter)
    base = row(db, Base, version.base)
    monkeypatch.setattr("ollama_ft.weights.reader.open_gguf", lambda path: nullcontext())
    gc.remove(db, home, gc.plan(db, home, 1).items, "")
    trained = []

    def trainer(job, emit):
        trained.append(job)
        return SimpleNamespace(digest=run.peft_digest)

    def convert_adapter(folder, gguf, path, provenance):
        path.write_bytes(b"again")
        return SimpleNamespace(path=path, digest=adapter.digest)

    monkeypatch.setattr("ollama_ft.weights.adapter.convert_adapter", convert_adapter)
    monkeypatch.setattr(train, "collect", lambda kind: {"lora": SimpleNamespace(thing=trainer)})
    monkeypatch.setattr(train, "_job", lambda prepared, folder: folder)
    prepared = SimpleNamespace(
        family=bot, base=base, recipe=Recipe(), recipe_name="default", digest=lambda _: run.digest
    )
    assert train.train(db, home, prepared, row(db, Dataset, run.dataset), silent) == run
    assert len(trained) == 1
    assert convert(db, home, run) == adapter
    assert artefact(home.data("adapters"), adapter.digest, ".gguf").read_bytes() == b"again"
    assert convert(db, home, run) == adapter
