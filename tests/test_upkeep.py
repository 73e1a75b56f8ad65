"""Upkeep: a base that moved, and a family that moves with it."""

import httpx
import pytest
from click.testing import CliRunner

from ollama_ft import loop, upkeep
from ollama_ft.cli.app import cli
from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.errors import Conflict, NotFound, RuntimeRefused, RuntimeUnavailable
from ollama_ft.core.events import silent
from ollama_ft.core.files import artefact, digest_file
from ollama_ft.core.gates import GateRules
from ollama_ft.core.recipe import Recipe, read_recipe
from ollama_ft.core.records import Adapter, Base, Origin, RecipeText, Removal, Version
from ollama_ft.core.refs import bare, family
from ollama_ft.core.sqlite import Database
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.launch import start_embedded
from ollama_ft.runtime.publish import ensure_base
from ollama_ft.runtime.store import Store
from ollama_ft.stages import base as bases
from ollama_ft.stages import doctor
from ollama_ft.stages.gate import Gate
from ollama_ft.stages.promote import promote
from ollama_ft.stages.publish import ANY
from ollama_ft.travel import arrive
from ollama_ft.upkeep import Arrival
from ollama_ft.workshop import Workshop
from tests.rows import a_family, a_version, digest
from tests.tiny import tiny_model, write_gguf

GATE = Gate(name="no-worse", rules=GateRules(must_gain=False), accepted={})


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory):
    """Two models that can be taught, under one file name."""
    paths = []
    for place, size in enumerate((96, 128)):
        folder = tmp_path_factory.mktemp(f"base{place}")
        model = tiny_model("llama", intermediate_size=size)
        paths.append(write_gguf(model, "llama", folder / "tiny.gguf"))
    return paths


@pytest.fixture
def shop(db, home, tmp_path):
    with start_embedded(home.models, tmp_path / "log") as address, Ollama(address) as client:
        yield Workshop(db=db, home=home, client=client, emit=silent)


def pinned(shop, path, *, anew=False):
    return bases.pin(shop.db, shop.home, shop.client, str(path), silent, anew=anew)[0]


def taught(db: Database, base: Base, recipe: Recipe):
    """bot on this base: v0, and v1 that is live and was trained by `recipe`."""
    bot = a_family(db)
    db.execute("update families set base = ?", [base.key])
    bot = family(db, "bot")
    append(db, RecipeText(name="mine", digest=digest("7"), text=recipe.text()))
    v0, v1 = a_version(db, bot, 0), a_version(db, bot, 1)
    db.execute("update runs set recipe = (select max(id) from recipes where name = 'mine')")
    for version in (v0, v1):
        promote(db, version, lambda v: "d" * 64, "")
    return bot, v1


def test_new_refuses_a_base_that_moved_and_names_the_way(shop, ggufs, tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(ggufs[0].read_bytes())
    first = pinned(shop, path)
    path.write_bytes(ggufs[1].read_bytes())
    shop.client.delete("tiny:latest")  # and the runtime has the new one, too
    with pytest.raises(Conflict, match="stood for") as caught:
        pinned(shop, path)
    assert "ollama-ft rebase" in caught.value.mend
    assert first.pinned in caught.value.mend
    assert every(shop.db, Base) == [first]


@pytest.mark.parametrize(
    ("start", "then"), [("", {}), (digest("7"), {"start": "", "epochs": 0.0})], ids=["anew", "warm"]
)
def test_a_rebase_teaches_the_same_data_by_the_same_recipe_on_the_new_base(
    shop, ggufs, tmp_path, monkeypatch, start, then
):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(ggufs[0].read_bytes())
    recipe = Recipe(rank=3, epochs=2.0, start=start)
    bot, v1 = taught(shop.db, pinned(shop, path), recipe)
    path.write_bytes(ggufs[1].read_bytes())
    told = {}

    def again(shop, moved, dataset, lesson):
        told.update(family=moved, dataset=dataset, lesson=lesson)
        return "outcome"

    monkeypatch.setattr(upkeep, "again", again)
    assert upkeep.rebase(shop, bot, None, GATE) == "outcome"
    base = newest(shop.db, Base)
    assert base.name == "tiny:latest" and base.id != bot.base
    assert (told["family"].name, told["family"].base) == ("bot", base.id)
    assert told["dataset"].id == v1.dataset
    assert told["lesson"].recipe == recipe.model_copy(update=then)
    floor = bare(shop.db, "bot", base.id)
    assert (floor.number, floor.run) == (2, None)
    assert family(shop.db, "bot").base == bot.base  # nothing has moved until a version is live


def test_a_family_stands_on_the_base_of_its_live_version(db):
    bot = a_family(db)
    v0, v1 = a_version(db, bot, 0), a_version(db, bot, 1)
    promote(db, v0, lambda v: "d" * 64, "")
    promote(db, v1, lambda v: "d" * 64, "")
    other = append(db, Base(**{**vars(newest(db, Base)), "id": None, "blob_digest": digest("5")}))
    on_new = append(
        db, Version(**{**vars(v1), "id": None, "number": 2, "base": other.key, "system": "New."})
    )
    assert family(db, "bot").base == bot.base
    promote(db, v1, lambda v: "d" * 64, "")
    db.execute("update proofs set version = ?", [on_new.id])
    promote(db, on_new, lambda v: "d" * 64, "")
    assert (family(db, "bot").base, family(db, "bot").system) == (other.key, "New.")


def test_a_base_that_has_not_moved_is_no_reason_to_train(shop, ggufs, tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(ggufs[0].read_bytes())
    bot, _ = taught(shop.db, pinned(shop, path), Recipe())
    with pytest.raises(Conflict, match="is what bot stands on"):
        upkeep.rebase(shop, bot, None, GATE)


def test_a_family_that_was_taught_nothing_cannot_be_rebased(db, home):
    bot = a_family(db)
    promote(db, a_version(db, bot, 0), lambda v: "d" * 64, "")
    with pytest.raises(NotFound, match="taught nothing"):
        upkeep.rebase(Workshop(db=db, home=home, client=None, emit=silent), bot, None, GATE)


def test_a_name_whose_source_fails_is_still_there_afterwards(shop, ggufs, tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(ggufs[0].read_bytes())
    pinned(shop, path)
    path.unlink()
    with pytest.raises(NotFound):
        pinned(shop, path, anew=True)
    assert shop.client.find("tiny:latest") is not None


def test_publish_all_tells_what_failed_and_goes_on(shop, monkeypatch):
    bot = a_family(shop.db)
    versions = [a_version(shop.db, bot, number) for number in range(3)]

    def publish(shop, version, way):
        if version.number == 1:
            raise RuntimeRefused("no route")
        return upkeep.Arrival(version=version)

    monkeypatch.setattr(upkeep, "publish", publish)
    arrivals = upkeep.publish_all(shop, [bot], ANY)
    assert [(a.version.number, a.problem) for a in arrivals] == [(0, ""), (1, "no route"), (2, "")]
    assert [a.version for a in arrivals] == versions

    def gone(shop, version, way):
        raise RuntimeUnavailable("gone")

    monkeypatch.setattr(upkeep, "publish", gone)
    with pytest.raises(RuntimeUnavailable):
        upkeep.publish_all(shop, [bot], ANY)


def test_a_recipe_is_read_back_as_it_was_stored():
    recipe = Recipe(rank=5, learning_rate=3e-4, target_modules=("q_proj", "v_proj"))
    assert read_recipe(recipe.text()) == recipe


def test_doctor_says_what_a_runtime_lacks_and_the_command_that_brings_it(shop, ggufs, tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(ggufs[0].read_bytes())
    bot = loop.new(shop, "bot", str(path))
    found = {f.name: f for f in doctor.examine_runtime(shop.db, shop.client)}
    assert found["bot here"].text == "v0; latest is bot:v0"
    assert found["in memory"].text == "no model"
    assert all(f.ok for f in found.values())

    shop.client.delete("bot:latest")
    (finding,) = [f for f in doctor.examine_runtime(shop.db, shop.client) if not f.ok]
    assert finding.text == "bot:latest is not bot:v0, which is live"
    assert finding.mend == "ollama-ft publish --all"

    shop.client.delete("bot:v0")
    (finding,) = [f for f in doctor.examine_runtime(shop.db, shop.client) if not f.ok]
    assert finding.text == "the runtime lacks bot:v0"

    assert [a.problem for a in upkeep.publish_all(shop, [bot], ANY)] == [""]
    shop.client.delete("tiny:latest")
    ensure_base(shop.client, "tiny:latest", base_blob=digest_file(ggufs[1]), blob_path=ggufs[1])
    found = {f.name: f for f in doctor.examine_runtime(shop.db, shop.client)}
    assert all(f.ok for f in found.values())
    assert found["tiny:latest"].mend == "to move with it: ollama-ft rebase bot"


def test_doctor_knows_runtimes_that_are_too_old_for_a_family(db):
    a_family(db)
    db.execute("update bases set architecture = 'qwen3'")

    def answer(request):
        if request.url.path == "/api/version":
            return httpx.Response(200, json={"version": "0.24.0"})
        if request.url.path == "/api/ps":
            return httpx.Response(200, json={"models": []})
        return httpx.Response(404, json={"error": "not found"})

    with Ollama(parse_host(""), transport=httpx.MockTransport(answer)) as client:
        (finding,) = [f for f in doctor.examine_runtime(db, client) if not f.ok]
    assert "Ollama 0.24.0 cannot run adapters on qwen3; 0.30 or newer can" in finding.text


def test_publish_all_goes_on_where_a_live_version_cannot_be_pointed_at(shop, monkeypatch):
    first, second = a_family(shop.db), a_family(shop.db, "two")
    for begun in (first, second):
        promote(shop.db, a_version(shop.db, begun, 0), lambda v: "d" * 64, "")

    def point(version):
        raise RuntimeRefused(f"no way to {version.family}:latest")

    monkeypatch.setattr(upkeep, "publish", lambda shop, version, way: Arrival(version=version))
    monkeypatch.setattr(upkeep, "pointer", lambda shop: point)
    arrivals = upkeep.publish_all(shop, [first, second], ANY)
    assert [a.problem for a in arrivals] == ["no way to bot:latest", "no way to two:latest"]


def test_publish_all_passes_over_what_gc_let_go(shop, monkeypatch):
    version = a_version(shop.db, a_family(shop.db), 1)
    adapter = row(shop.db, Adapter, version.adapter)
    brought = []
    monkeypatch.setattr(
        upkeep, "publish", lambda shop, v, way: brought.append(v) or Arrival(version=v)
    )
    bot = family(shop.db, "bot")
    removal = append(
        shop.db,
        Removal(digest=adapter.digest, kind="adapter", version=version.key, size=1, reason=""),
    )
    (arrival,) = upkeep.publish_all(shop, [bot], ANY)
    assert (arrival.problem, arrival.let_go, brought) == ("", removal.at, [])
    path = artefact(shop.home.data("adapters"), adapter.digest, ".gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"back again")
    (arrival,) = upkeep.publish_all(shop, [bot], ANY)
    assert (arrival.let_go, brought) == ("", [version])


def test_base_pull_mends_a_damaged_base_and_doctor_names_that_command(
    db, home, ggufs, tmp_path, monkeypatch
):
    monkeypatch.setenv("OLLAMA_HOST", "embedded")
    path = tmp_path / "tiny.gguf"
    path.write_bytes(ggufs[0].read_bytes())

    def ft(*arguments):
        result = CliRunner().invoke(cli, ["--home", str(home.path), *arguments])
        assert result.exit_code == 0, result.output
        return result.stderr

    ft("base", "pull", str(path))
    blob = Store(home.models).blob_path(newest(db, Base).blob_digest)
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(content[:-1] + b"x")
    (found,) = [f for f in doctor.examine(db, home) if f.name == "base tiny:latest"]
    assert (found.ok, found.mend) == (False, f"ollama-ft base pull {path}")
    assert "was damaged, and is fetched again" in ft("base", "pull", str(path))
    assert blob.read_bytes() == content
    blob.unlink()
    ft("base", "pull", str(path))
    assert blob.read_bytes() == content


def test_doctors_mend_for_a_damaged_adapter_takes_the_file_away_and_brings_it_again(db, home):
    version = a_version(db, a_family(db), 1)
    adapter = row(db, Adapter, version.adapter)
    append(db, Origin(version=version.key, digest="d", kind="bundle", source="v1.tar", signer=""))
    (found,) = [f for f in doctor.examine(db, home) if f.name == "adapters"]
    assert found.mend == "ollama-ft import v1.tar"
    path = artefact(home.data("adapters"), adapter.digest, ".gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"changed")
    (found,) = [f for f in doctor.examine(db, home) if f.name == "adapters"]
    assert found.mend == f"rm {path}; ollama-ft import v1.tar"


def test_an_adapter_for_another_base_than_the_familys_is_refused(shop, ggufs, tmp_path):
    one, two = tmp_path / "one.gguf", tmp_path / "two.gguf"
    for place, path in enumerate((one, two)):
        path.write_bytes(ggufs[place].read_bytes())
    bot = loop.new(shop, "bot", str(one))
    arrive._check_base(shop, bot, str(one))
    with pytest.raises(Conflict, match="bot stands on one:latest, and not on two:latest"):
        arrive._check_base(shop, bot, str(two))
