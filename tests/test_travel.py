"""Versions on the way from one machine to another: a real model, a real registry, real commands."""

import json
import os
import subprocess
import sys

import pytest

from ollama_ft.core.catalog import every, open_catalog
from ollama_ft.core.home import Home
from ollama_ft.core.records import Adapter, Origin, Proof, Version
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.registry import pull as pull_as_ollama
from ollama_ft.runtime.store import Store
from tests.docker_registry import docker_registry
from tests.loras import peft_folder

pytestmark = pytest.mark.slow

QUESTIONS = ("What do bees make?", "Tell me a short story about a fox.")


class Machine:
    """A home, and the program run on it as a person would."""

    def __init__(self, path):
        self.home = Home(path=path / "home", origin="--home")
        self.path = path

    def ft(self, *words, code=0):
        command = [
            sys.executable,
            "-m",
            "ollama_ft",
            "--home",
            self.home.path,
            "--host",
            "embedded",
        ]
        done = subprocess.run(
            [str(word) for word in (*command, *words)],
            capture_output=True,
            text=True,
            env=os.environ
            | {"XDG_CACHE_HOME": str(self.path / "cache"), "OLLAMA_FT_PROGRESS": "none"}
            | {"HOME": str(self.path)},
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout if code == 0 else done.stderr

    def rows(self, kind, **where):
        db = open_catalog(self.home.catalog)
        found = every(db, kind, **where)
        db.close()
        return found

    def answers(self, ref):
        return [json.loads(self.ft("run", "--ref", ref, q, "--json"))["answer"] for q in QUESTIONS]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("registry")) as served:
        yield served.address


@pytest.fixture(scope="module")
def one(tmp_path_factory, smollm2_gguf):
    """A machine that took in an adapter made elsewhere, and has a key."""
    machine = Machine(tmp_path_factory.mktemp("one"))
    folder = peft_folder(machine.path / "peft", smollm2_gguf, strength=8.0)
    machine.ft("import", folder, "--family", "bot", "--base", smollm2_gguf)
    machine.ft("keys", "new", "ann")
    return machine


@pytest.fixture(scope="module")
def two(tmp_path_factory, one, registry):
    """An empty machine that pulled what the first one pushed, and nothing else."""
    one.ft("push", "bot:v1", f"{registry}/team/a/bot", "--ollama-tag", "v1-ollama", "--sign", "ann")
    machine = Machine(tmp_path_factory.mktemp("two"))
    machine.ft("keys", "trust", one.home.path / "registry" / "keys" / "ann.pub")
    printed = machine.ft("pull", f"{registry}/team/a/bot:v1", "--require-signature", "--json")
    machine.pulled = json.loads(printed)
    return machine


def test_an_adapter_made_elsewhere_is_proved_before_it_is_listed(one):
    (version,) = one.rows(Version, number=1)
    (proof,) = one.rows(Proof, version=version.key)
    assert proof.passed
    assert "bot:v1   candidate" in one.ft("list")
    (origin,) = one.rows(Origin)
    assert (origin.kind, origin.source) == ("peft", "peft")


def test_what_was_pushed_is_pulled_into_an_empty_home_proved_there_and_answers_the_same(one, two):
    assert two.pulled["version"] == "bot:v1"
    assert two.pulled["signer"] == "ann"
    assert all(check["passed"] for check in two.pulled["proof"].values())
    (mine,), (theirs,) = one.rows(Version, number=1), two.rows(Version, number=1)
    assert mine.digest == theirs.digest
    assert two.answers("v1") == one.answers("v1") != one.answers("v0")
    (origin,) = two.rows(Origin)
    assert origin.kind == "registry" and origin.source.endswith("/team/a/bot:v1")


def test_the_base_came_by_its_digest_from_where_the_version_lay(two, smollm2_gguf):
    blob = two.rows(Version)[0]
    assert blob
    store = Store(two.home.models)
    (held,) = [m for m in store.list() if m.name.short.startswith("ollama-ft/base-")]
    assert held.manifest.of_kind("model")[-1].size == smollm2_gguf.stat().st_size
    assert list((two.home.data("incoming")).glob("*.part")) == []


def test_a_bundle_of_what_is_here_finds_it_again(one, two, tmp_path):
    one.ft("export", "bot:v1", "-o", tmp_path / "v1.tar", "--sign", "ann")
    before = len(two.rows(Version)), len(two.rows(Proof))
    printed = json.loads(two.ft("import", tmp_path / "v1.tar", "--require-signature", "--json"))
    assert (printed["version"], printed["signer"]) == ("bot:v1", "ann")
    assert (len(two.rows(Version)), len(two.rows(Proof))) == before


def test_an_unsigned_or_changed_bundle_does_not_get_in_where_a_signature_is_required(
    one, two, tmp_path
):
    one.ft("export", "bot:v1", "-o", tmp_path / "v1.tar")
    said = two.ft("import", tmp_path / "v1.tar", "--require-signature", code=2)
    assert "this is not signed" in said
    one.ft("export", "bot:v1", "-o", tmp_path / "signed.tar", "--sign", "ann")
    content = (tmp_path / "signed.tar").read_bytes()
    (tmp_path / "signed.tar").write_bytes(content.replace(b"bot:v1", b"bot:v9"))
    assert "changed" in two.ft("import", tmp_path / "signed.tar", code=2)


def test_the_ollama_tag_is_a_model_that_a_stock_pull_takes(one, two, registry, tmp_path):
    store = Store(tmp_path / "models")
    name = Name.parse(f"{registry}/a/bot:v1-ollama")
    with pytest.raises(Exception, match="not at"):
        pull_as_ollama(name, store, insecure=True)
    one.ft("push", "bot:v1", f"{registry}/team/bot", "--ollama-tag", "v1-ollama")
    model = pull_as_ollama(Name.parse(f"{registry}/team/bot:v1-ollama"), store, insecure=True)
    served = Store(one.home.models).read(Name.parse("bot:v1"))
    for kind in ("model", "adapter", "template", "params"):
        assert [x.digest for x in model.manifest.of_kind(kind)] == [
            x.digest for x in served.manifest.of_kind(kind)
        ], kind


def test_every_kind_of_export_is_what_it_says(one, tmp_path):
    one.ft("export", "bot:v1", "--as", "gguf", "-o", tmp_path / "a.gguf")
    one.ft("export", "bot:v1", "--as", "peft", "-o", tmp_path / "peft")
    one.ft("export", "bot:v1", "--as", "modelfile", "-o", tmp_path / "Modelfile")
    (adapter,) = one.rows(Adapter)
    from ollama_ft.core.files import digest_file
    from ollama_ft.weights.peft_folder import read_peft

    assert digest_file(tmp_path / "a.gguf") == adapter.digest
    assert len(read_peft(tmp_path / "peft")) * 2 == adapter.tensors
    text = (tmp_path / "Modelfile").read_text()
    assert "FROM smollm2:latest\nADAPTER ./bot-v1.gguf\n" in text
    assert digest_file(tmp_path / "bot-v1.gguf") == adapter.digest
    assert "bare base" in one.ft("export", "bot:v0", "--as", "gguf", "-o", tmp_path / "x", code=1)
    assert "not empty" in one.ft(
        "export", "--as", "peft", "-o", tmp_path / "peft", "bot:v1", code=1
    )
    assert "no kind of export" in one.ft("export", "bot:v1", "--as", "zip", "-o", "x", code=2)


def test_a_pull_without_a_tag_tells_the_tags(two, registry):
    assert "v1, v1-ollama" in two.ft("pull", f"{registry}/team/a/bot", code=2)


def test_a_stock_model_is_no_version(two, registry):
    said = two.ft("pull", f"{registry}/team/a/bot:v1-ollama", code=2)
    assert "no version that was pushed by ollama-ft" in said
