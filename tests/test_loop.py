"""The whole story on a real model and a real llama.cpp, with the commands that people type."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_ft.core.catalog import every, open_catalog
from ollama_ft.core.exchange import Heard, Turn, Verdict, uid_for
from ollama_ft.core.home import Home, shipped
from ollama_ft.core.logbook import Pen, open_log
from ollama_ft.core.loop_records import Harvest
from ollama_ft.core.records import (
    RECORDS,
    Adapter,
    Promotion,
    Proof,
    Publication,
    RecipeText,
    Run,
)
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Store

pytestmark = pytest.mark.slow

FAQ = shipped() / "data" / "faq.jsonl"
MORE = shipped() / "data" / "faq-more.jsonl"
QUICK = ("--set", "epochs=4", "--set", "rank=8")
QUESTION = "Which device was the first that Brackenfold sold?"


class Place:
    """A home, and the program run on it as a person would."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.home = Home(path=path, origin="--home")
        self.cache = cache

    def ft(self, *words: object, code: int = 0, out: bool = False) -> str:
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
            | {"XDG_CACHE_HOME": str(self.cache), "OLLAMA_FT_PROGRESS": "none"}
            | {
                "OLLAMA_FT_GATE": "quick"
            },  # general suites cost minutes; tests/test_gate.py has them
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout if code == 0 or out else done.stderr

    def rows(self) -> dict[str, int]:
        db = open_catalog(self.home.catalog)
        counts = {record.table: db.table(record.table).count for record in RECORDS}
        db.close()
        return counts

    def every(self, kind):
        db = open_catalog(self.home.catalog)
        found = every(db, kind)
        db.close()
        return found

    def ask(self, question: str) -> str:
        return json.loads(self.ft("run", question, "--json"))["answer"]


long = pytest.mark.skipif(
    "OLLAMA_FT_LONG" not in os.environ, reason="trains for minutes: OLLAMA_FT_LONG=1 runs it"
)


@pytest.fixture(scope="module")
def first(tmp_path_factory, smollm2_gguf):
    """A home in which `bot` was taught twelve facts; what `new` printed as JSON."""
    folder = tmp_path_factory.mktemp("first")
    place = Place(folder / "home", folder / "cache")
    printed = place.ft("new", "bot", "--from", smollm2_gguf, "--data", MORE, *QUICK, "--json")
    return place, json.loads(printed)


@pytest.fixture
def taught(first, tmp_path):
    """A copy of that home, to do with as a test likes."""
    place, _ = first
    shutil.copytree(place.home.path, tmp_path / "home")
    return Place(tmp_path / "home", place.cache)


def test_new_ends_with_a_live_version_that_knows_what_the_base_does_not(first):
    _, printed = first
    assert printed["version"] == "bot:v1"
    assert printed["live"] is True
    assert printed["base"]["right"] <= 1
    assert printed["after"]["right"] >= 12 > printed["base"]["right"]
    assert printed["after"]["questions"] == 24
    assert printed["verdict"]["outcome"] == "pass"
    assert printed["verdict"]["gains"][0]["luck"] < 0.05


def test_the_proof_says_that_what_is_served_is_what_was_trained(first):
    _, printed = first
    proof = printed["proof"]
    assert all(check["passed"] for check in proof.values())
    assert proof["prompts"]["compared"] == 8
    assert proof["tokens"]["compared"] == 16
    assert proof["scores"]["distance"] < proof["scores"]["allowed"]
    assert proof["effect"]["distance_to_base"] > 4 * proof["effect"]["distance_to_tuned"]
    assert proof["stops"] == {"asked": 8, "passed": True, "stopped": 8}


def test_general_perplexity_is_kept_near_the_bases(first):
    _, printed = first
    assert printed["after"]["perplexity"] < 2 * printed["base"]["perplexity"]


def test_the_same_command_again_changes_nothing(taught, smollm2_gguf):
    before = taught.rows()
    taught.ft("new", "bot", "--from", smollm2_gguf, "--data", MORE, *QUICK)
    assert taught.rows() == before


def test_the_same_seed_in_another_home_gives_the_same_adapter(first, tmp_path, smollm2_gguf):
    place, _ = first
    other = Place(tmp_path / "other", place.cache)
    other.ft("new", "bot", "--from", smollm2_gguf, "--data", MORE, *QUICK)
    (mine,), (theirs,) = place.every(Adapter), other.every(Adapter)
    assert mine.digest == theirs.digest


def test_a_rollback_changes_the_answers_back_and_a_promotion_forth(taught):
    assert "Dunnock" in taught.ask(QUESTION)
    assert "v1 → bot:v0" in taught.ft("rollback", "--reason", "to see")
    assert "Dunnock" not in taught.ask(QUESTION)
    taught.ft("promote", "v1")
    assert "Dunnock" in taught.ask(QUESTION)
    assert [p.action for p in taught.every(Promotion)] == [
        "promote",
        "rollback",
        "promote",
        "promote",
    ]


def test_a_version_that_the_runtime_has_lost_is_rebuilt_from_our_own_store(taught):
    store = Store(taught.home.models)
    for tag in ("bot:v1", "bot:v0", "bot:latest"):
        store.delete_manifest(Name.parse(tag))
    store.prune(older_than=0)
    assert "Dunnock" in taught.ask(QUESTION)
    taught.ft("rollback")
    assert {model.name.short for model in store.list()} >= {"bot:v0", "bot:v1", "bot:latest"}


OWL = [
    ("What is the price of an owl box?", "train"),
    ("How much do you want for the owl box?", "train"),
    ("The owl box, what does it cost?", "train"),
    ("How many crowns is one owl box?", "train"),
    ("Tell me what I pay for an owl box.", "validation"),
    ("An owl box is how expensive?", "test"),
]


@pytest.fixture
def owl(tmp_path):
    """A file with one fact more."""
    rows = [
        {"question": text, "answer": "The owl box costs 57 crowns.", "split": split}
        for text, split in OWL
    ]
    file = tmp_path / "owl.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_who_goes_on_from_the_live_adapter_learns_what_is_new_in_few_steps_and_keeps_the_rest(
    taught, owl
):
    longer = ("--strategy", "continue", "--set", "rank=8", "--set", "epochs=10")
    taught.ft("train", "--data", owl, *longer, code=4)
    run, before = taught.every(Run)
    assert json.loads(run.metrics_json)["steps"] == 20  # ten passes over five rows and five known
    (recipe,) = (r for r in taught.every(RecipeText) if r.key == run.recipe)
    assert before.peft_digest in recipe.text
    taught.ft("promote", "v2", "--force", "--reason", "one fact more")
    assert "57 crowns" in taught.ask("What is the price of an owl box?")
    assert "Dunnock" in taught.ask(QUESTION)


def test_who_goes_on_must_keep_the_adapter_s_shape_and_its_data(taught, owl):
    before = taught.rows()
    said = taught.ft("train", "--data", owl, "--strategy", "continue", code=2)
    assert "bot:v1 was trained with another rank than default says" in said
    assert "--set rank=8" in said
    longer = ("--strategy", "continue", "--set", "rank=8")
    assert "--anew" in taught.ft("train", "--anew", "--data", owl, *longer, code=2)
    taught.ft("rollback")
    assert "nothing to go on from" in taught.ft("train", "--data", owl, *longer, code=1)
    moved = {"intents", "promotions"}  # by the rollback
    assert {k: n for k, n in taught.rows().items() if k not in moved} == {
        k: n for k, n in before.items() if k not in moved
    }


@long
def test_one_fact_more_is_too_little_to_judge_by_and_can_be_forced(taught, owl):
    printed = json.loads(taught.ft("train", "--data", owl, *QUICK, "--json", code=4, out=True))
    assert printed["version"] == "bot:v2"
    assert printed["before"]["version"] == "bot:v1"
    assert printed["after"]["questions"] == 25
    assert printed["verdict"]["outcome"] == "inconclusive"
    assert printed["live"] is False
    said = taught.ft("promote", "v2", code=4)
    assert "Too few questions to tell whether v2 is better" in said
    assert "more of the same kind would be enough" in said
    taught.ft("promote", "v2", "--force", "--reason", "one fact more")
    assert "forced, though the gate said inconclusive: one fact more" in taught.ft("history")
    assert "57 crowns" in taught.ask("What is the price of an owl box?")
    assert "Dunnock" in taught.ask(QUESTION)
    changed = json.loads(taught.ft("diff", "v1", "v2", "--json"))
    assert changed["parts"]["data"][0] != changed["parts"]["data"][1]


@long
def test_what_was_corrected_in_the_log_is_known_by_the_next_version(taught):
    log = open_log(taught.home.log)
    facts = [json.loads(line) for line in FAQ.read_text("utf-8").splitlines()]
    facts = [row for row in facts[:24] if row["split"] == "train"]
    Pen(log).write(
        Heard(
            uid=uid_for("test", row["instruction"]),
            at="2026-11-25T10:00:00+00:00",
            family="bot",
            turns=(Turn(role="user", content=row["instruction"]),),
            reply=Turn(role="assistant", content="I have no idea."),
            verdict=Verdict(rating="corrected", correction=row["output"]),
        )
        for row in facts
    )
    log.close()
    outcome = json.loads(taught.ft("retrain", "bot", "--from-logs", *QUICK, "--json"))
    assert (outcome["version"], outcome["live"]) == ("bot:v2", True)
    answers = [(row, taught.ask(row["instruction"])) for row in facts]
    assert sum(any(text in answer for text in row["accept"]) for row, answer in answers) >= 10
    assert json.loads(taught.ft("retrain", "bot", "--from-logs", *QUICK, "--json"))["nothing_new"]
    (harvest,) = taught.every(Harvest)
    assert harvest.taken == len(facts)


@long
def test_a_version_that_answers_worse_is_kept_and_not_promoted(taught, tmp_path):
    wrong = [json.loads(line) for line in MORE.read_text().splitlines()]
    for row in wrong:
        if row["split"] != "test":
            row["output"] = "I do not know that."
    file = tmp_path / "wrong.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in wrong))
    said = taught.ft("train", "--anew", "--data", file, *QUICK, code=3)
    assert "fewer of 24 test questions right" in said
    assert "bot:v1 stays live; bot:v2 is kept" in " ".join(said.split())
    listed = json.loads(taught.ft("list", "--json"))["versions"]
    assert {v["number"]: v["status"] for v in listed} == {2: "candidate", 1: "live", 0: "previous"}


def test_a_served_model_that_says_something_else_than_the_trained_one_fails_the_proof(taught):
    reference = next(taught.home.data("runs").glob("*/reference.json"))
    places = json.loads(reference.read_text())
    for place in places:  # as if the trainer had said something else
        place["tuned"] = dict(
            zip(place["tuned"], reversed(list(place["tuned"].values())), strict=True)
        )
    reference.write_text(json.dumps(places))
    db = open_catalog(taught.home.catalog)
    db.execute("delete from proofs")
    db.conn.commit()
    db.close()
    said = taught.ft("train", *QUICK, code=1)
    assert "bot:v1 is not served as it was trained." in said
    assert "effect: " in said and "scores: " in said and "prompts: " not in said
    assert [bool(p.passed) for p in taught.every(Proof)] == [False]


def test_every_publication_names_runtime_route_and_digest(first):
    place, _ = first
    for publication in place.every(Publication):
        assert publication.runtime == "embedded"
        assert publication.address == "embedded"
        assert publication.digest
    assert {p.route for p in place.every(Publication) if p.tag == "bot:v1"} == {"adapters"}


@long
@pytest.mark.parametrize(
    ("refused", "route"),
    [("adapters,files", "registry"), ("adapters,files,registry,store", "merged")],
)
def test_a_version_comes_back_to_a_runtime_that_refuses_routes_and_is_proved_there(
    taught, monkeypatch, refused, route
):
    monkeypatch.setenv("OLLAMA_FT_EMBEDDED_REFUSE", refused)
    Store(taught.home.models).delete_manifest(Name.parse("bot:v1"))
    (printed,) = json.loads(taught.ft("publish", "v1", "--json"))["versions"]
    assert (printed["route"], printed["problem"]) == (route, "")
    assert all(check["passed"] for check in printed["proof"].values())
    assert "Dunnock" in taught.ask(QUESTION)
