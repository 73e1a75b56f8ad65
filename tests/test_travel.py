"""Versions on the way from one machine to another: a real model, a real registry."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from ollama_ft import travel
from ollama_ft.core.catalog import every, open_catalog
from ollama_ft.core.errors import BadInput, Conflict, FtError, NotFound, OutOfResources
from ollama_ft.core.events import silent
from ollama_ft.core.files import digest_file
from ollama_ft.core.home import Home, shipped
from ollama_ft.core.records import Adapter, Base, Evaluation, Family, Origin, Proof, Version
from ollama_ft.kinds import signatures
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.suites import make_suite
from ollama_ft.runtime.client import user_message
from ollama_ft.runtime.find import connect
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.oci.client import Reach
from ollama_ft.runtime.oci.place import Place
from ollama_ft.runtime.registry import pull as pull_as_ollama
from ollama_ft.runtime.store import Store
from ollama_ft.stages.evaluate import answers, evaluate
from ollama_ft.travel import Terms
from ollama_ft.weights.peft_folder import read_peft
from ollama_ft.workshop import Workshop
from tests.docker_registry import docker_registry
from tests.loras import peft_folder

pytestmark = pytest.mark.slow

QUESTIONS = ("What do bees make?", "Tell me something about foxes.")


@contextmanager
def machine(path: Path):
    """A home with its runtime running."""
    home = Home(path=path / "home", origin="--home")
    db = open_catalog(home.catalog)
    with connect(
        home.models, host="embedded", env={}, notice=lambda text: None, log=path / "log"
    ) as client:
        yield Workshop(db=db, home=home, client=client, emit=silent)
    db.close()


def version(shop, number=1) -> Version:
    (found,) = every(shop.db, Version, number=number)
    return found


def said(shop, tag):
    options = {"temperature": 0, "num_predict": 24}
    return [shop.client.chat(tag, user_message(q), options=options).text for q in QUESTIONS]


def pushed(shop, place, env, **how):
    return travel.push(
        shop.db, shop.home, version(shop), Place.parse(place), Reach(), silent, env=env, **how
    )


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """Nobody's logins."""
    return {"HOME": str(tmp_path_factory.mktemp("nobody"))}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("registry")) as served:
        yield served.address


@pytest.fixture(scope="module")
def one(tmp_path_factory, smollm2_gguf):
    """A machine that took in an adapter made elsewhere, asked it two questions, and has a key."""
    path = tmp_path_factory.mktemp("one")
    with machine(path) as shop:
        folder = peft_folder(path / "peft", smollm2_gguf, strength=8.0)
        taken = travel.take(shop, folder, Terms(family="bot", base=str(smollm2_gguf), env={}))
        rows = [row for _, row in read_rows(shipped() / "data" / "questions.jsonl", None)][:2]
        suite = make_suite("test", "domain", "bot", rows)
        evaluate(shop.db, shop.home, shop.client, taken.version, suite, silent)
        signatures.new_key(shop.home, "ann", {})
        yield shop


@pytest.fixture(scope="module")
def two(tmp_path_factory, one, registry, env):
    """An empty machine that pulled what the first one pushed, and nothing else."""
    pushed(one, f"{registry}/team/a/bot", env, ollama_tag="v1-ollama", key="ann")
    with machine(tmp_path_factory.mktemp("two")) as shop:
        signatures.trust(shop.home, signatures.folder(one.home) / "ann.pub", "ann")
        place = Place.parse(f"{registry}/team/a/bot:v1")
        travel.pull(shop, place, Reach(), Terms(signed=True, env=env))
        yield shop


def test_an_adapter_made_elsewhere_is_proved_before_it_is_listed(one):
    (proof,) = every(one.db, Proof, version=version(one).key)
    assert proof.passed
    listed = list(one.db.query("select number, status from versions_view order by number"))
    assert [(r["number"], r["status"]) for r in listed] == [(0, "live"), (1, "candidate")]
    (origin,) = every(one.db, Origin)
    assert (origin.kind, origin.source) == ("peft", "peft")


def test_what_was_pushed_is_proved_in_an_empty_home_and_answers_the_same(one, two):
    assert version(two).digest == version(one).digest
    (proof,) = every(two.db, Proof)
    assert proof.passed
    assert said(two, "bot:v1") == said(one, "bot:v1")
    assert said(one, "bot:v1") != said(one, "bot:v0")
    (origin,) = every(two.db, Origin)
    assert origin.kind == "registry" and origin.source.endswith("/team/a/bot:v1")
    assert origin.signer == signatures.known_keys(one.home)[0].fingerprint


def test_its_evaluation_came_with_it(one, two):
    (mine,), (theirs,) = every(one.db, Evaluation), every(two.db, Evaluation)
    assert (mine.digest, mine.right) == (theirs.digest, theirs.right)
    assert answers(two.home, theirs) == answers(one.home, mine)


def test_the_base_came_by_its_digest_from_where_the_version_lay(one, two):
    (mine,), (theirs,) = every(one.db, Base), every(two.db, Base)
    assert (mine.blob_digest, mine.size) == (theirs.blob_digest, theirs.size)
    assert digest_file(Store(two.home.models).blob_path(mine.blob_digest)) == mine.blob_digest
    assert list(two.home.data("incoming").iterdir()) == []


def test_a_bundle_of_what_is_here_finds_it_again_and_writes_nothing(one, two, tmp_path):
    bundle = travel.export(
        one.db, one.home, version(one), "bundle", tmp_path / "v1.tar", key="ann", env={}
    )
    before = two.db.execute("select count(*) from versions, proofs, origins").fetchone()
    taken = travel.take(two, bundle, Terms(signed=True))
    assert (taken.version, taken.signer) == (version(two), "ann")
    assert two.db.execute("select count(*) from versions, proofs, origins").fetchone() == before


def test_unsigned_and_changed_bundles_stay_outside(one, two, tmp_path):
    plain = travel.export(one.db, one.home, version(one), "bundle", tmp_path / "plain.tar")
    with pytest.raises(BadInput, match="this is not signed"):
        travel.take(two, plain, Terms(signed=True))
    changed = tmp_path / "changed.tar"
    changed.write_bytes(plain.read_bytes().replace(b"bot:v1", b"bot:v9"))
    with pytest.raises(BadInput, match="was changed"):
        travel.take(two, changed, Terms())


def test_a_family_that_comes_does_not_take_the_name_of_somebodys_model(
    one, two, tmp_path, smollm2_gguf
):
    bundle = travel.export(one.db, one.home, version(one), "bundle", tmp_path / "v1.tar")
    two.client.copy(version(two).tag, "mine:latest")
    for path in (bundle, peft_folder(tmp_path / "peft", smollm2_gguf)):
        with pytest.raises(Conflict, match="has a model mine:latest"):
            travel.take(two, path, Terms(family="mine", base=str(smollm2_gguf), env={}))
    assert every(two.db, Family, name="mine") == []
    two.client.delete("mine:latest")


def test_the_answers_stay_at_home_if_that_is_wanted(one, tmp_path):
    bundle = travel.export(
        one.db, one.home, version(one), "bundle", tmp_path / "v1.tar", answers=False
    )
    question = next(iter(answers(one.home, every(one.db, Evaluation)[0]))).question
    with_them = travel.export(one.db, one.home, version(one), "bundle", tmp_path / "all.tar")
    assert b'"expected"' in with_them.read_bytes()
    assert b'"expected"' not in bundle.read_bytes(), question


def test_the_ollama_tag_is_what_a_stock_pull_takes(one, registry, env, tmp_path):
    pushed(one, f"{registry}/team/bot", env, ollama_tag="v1-ollama")
    store = Store(tmp_path / "models")
    model = pull_as_ollama(Name.parse(f"{registry}/team/bot:v1-ollama"), store, insecure=True)
    served = Store(one.home.models).read(Name.parse("bot:v1"))
    for kind in ("model", "adapter", "template", "system", "params"):
        mine = [layer.digest for layer in served.manifest.of_kind(kind)]
        assert [layer.digest for layer in model.manifest.of_kind(kind)] == mine, kind


def test_every_kind_of_export_is_what_it_says(one, tmp_path):
    def export(kind, name, number=1):
        return travel.export(one.db, one.home, version(one, number), kind, tmp_path / name)

    (adapter,) = every(one.db, Adapter)
    assert digest_file(export("gguf", "a.gguf")) == adapter.digest
    assert len(read_peft(export("peft", "peft"))) * 2 == adapter.tensors
    text = export("modelfile", "Modelfile").read_text()
    assert "FROM smollm2:latest\nADAPTER ./bot-v1.gguf\n" in text
    assert digest_file(tmp_path / "bot-v1.gguf") == adapter.digest
    assert "ADAPTER" not in export("modelfile", "v0", number=0).read_text()
    with pytest.raises(NotFound, match="bare base"):
        export("gguf", "x", number=0)
    with pytest.raises(Conflict, match="not empty"):
        export("peft", "peft")
    with pytest.raises(BadInput, match="no kind of export"):
        export("zip", "x")


def test_a_modelfile_with_its_adapter_is_the_version_that_it_was_made_from(one, tmp_path):
    path = travel.export(one.db, one.home, version(one), "modelfile", tmp_path / "Modelfile")
    taken = travel.take(one, path, Terms(family="bot"))
    assert taken.version == version(one)


def test_a_pull_without_a_tag_tells_the_tags(two, registry, env):
    place = Place.parse(f"{registry}/team/a/bot")
    with pytest.raises(BadInput, match="v1, v1-ollama"):
        travel.pull(two, place, Reach(), Terms(env=env))


def test_a_stock_model_is_no_version(two, registry, env):
    place = Place.parse(f"{registry}/team/a/bot:v1-ollama")
    with pytest.raises(FtError, match="no version that was pushed by ollama-ft"):
        travel.pull(two, place, Reach(), Terms(env=env))


def test_a_proof_that_came_along_counts_for_nothing(two):
    (proof,) = every(two.db, Proof)
    came = [json.loads(path.read_text()) for path in two.home.data("origins").iterdir()]
    theirs = [told for told in came if "checks" in told]
    assert len(theirs) == 1 and theirs[0]["passed"] is True
    mine = json.loads((two.home.data("proofs") / f"{proof.digest[7:]}.json").read_text())
    assert mine["at"] != theirs[0]["at"]


def test_two_pulls_at_once_do_not_write_the_same_file(two, registry, env):
    place = Place.parse(f"{registry}/team/a/bot:v1")
    locks = two.home.path / "registry" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    held = FileLock(locks / "another pull.lock")  # as another process would hold it
    with held, pytest.raises(Conflict, match="another pull is being"):
        travel.pull(two, place, Reach(), Terms(env=env))


def test_room_on_the_disk_is_asked_for_before_a_version_is_fetched(two, registry, env, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutOfResources, match="are to be fetched"):
        travel.pull(two, Place.parse(f"{registry}/team/a/bot:v1"), Reach(), Terms(env=env))
    assert not list(two.home.data("incoming").glob("*.part"))


def test_what_a_killed_import_left_goes_with_a_later_one(one, tmp_path):
    left = one.home.data("incoming") / ".work-killed"
    left.mkdir(parents=True)
    bundle = travel.export(one.db, one.home, version(one), "bundle", tmp_path / "v1.tar")
    travel.take(one, bundle, Terms())
    assert left.exists()  # its import may be under way
    os.utime(left, (0, 0))
    travel.take(one, bundle, Terms())
    assert not left.exists()
