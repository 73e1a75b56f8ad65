import json
import math
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace

import pytest

from ollama_ft.core.catalog import newest, row
from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import NotFound
from ollama_ft.core.files import artefact
from ollama_ft.core.records import Publication, Run
from ollama_ft.kinds.probes import Reference
from ollama_ft.kinds.rendering import prompt_digest
from ollama_ft.stages.verify import distance_to, failures, verify
from tests.rows import a_family, a_proof, a_version

BASE, TUNED, OTHER = {"a": 0.9, "b": 0.1}, {"c": 0.8, "a": 0.2}, {"x": 1.0}


def logs(**chances):
    return {token: math.log(chance) for token, chance in chances.items()}


@pytest.mark.parametrize(
    ("told", "trained", "distance"),
    [
        ({"a": 0.6, "b": 0.4}, logs(a=0.6, b=0.4), 0.0),
        ({"a": 1.0}, logs(b=1.0), 1.0),
        ({"a": 0.8, "b": 0.2}, logs(a=0.5, b=0.5), 0.3),
        # 0.5 * (|0.7 - 0.5| + |0.3 - 0.5| for all the tokens that were not told)
        ({"a": 0.7}, logs(a=0.5, b=0.25, c=0.25), 0.2),
        ({}, logs(a=1.0), 1.0),
    ],
)
def test_distance_is_total_variation_with_one_place_for_all_untold_tokens(told, trained, distance):
    assert distance_to(told, trained) == pytest.approx(distance)


def render(messages):
    return "".join(f"<{m.role}>{m.content}" for m in messages)


@dataclass
class Runtime:
    """Serves what was trained, but for what a test changes."""

    base: dict = field(default_factory=lambda: BASE)
    tuned: dict = field(default_factory=lambda: TUNED)
    tokens: int = 7
    reason: str = "stop"
    prompt: str = ""  # before every rendered prompt
    address: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(url="here"))

    def render(self, tag, messages):
        return self.prompt + render(messages)

    def generate(self, tag, text, **_):
        chances = self.base if tag.endswith(":v0") else self.tuned
        told = [SimpleNamespace(token=k, logprob=math.log(v)) for k, v in chances.items()]
        return SimpleNamespace(first_token=told, prompt_tokens=self.tokens)

    def ask_many(self, tag, asked, **_):
        return [SimpleNamespace(done=True, done_reason=self.reason) for _ in asked]


@pytest.fixture
def proved(db, home):
    """Prove bot:v1, whose trainer said TUNED with its adapter and BASE without, at a runtime."""
    family = a_family(db)
    version = a_version(db, family, 1, proved=None)
    a_proof(db, version, passed=False)  # for its publication
    db.execute("update runs set prompt_digest = ?", [prompt_digest(render)])
    messages = (Message(role="user", content="When?"),)
    reference = Reference(
        messages=messages,
        prefix="",
        text=render(messages),
        token_count=7,
        base=logs(**BASE),
        tuned=logs(**TUNED),
    )
    folder = artefact(home.data("runs"), row(db, Run, version.run).digest, "")
    folder.mkdir(parents=True)
    (folder / "reference.json").write_text(json.dumps([asdict(reference)]))

    def proved(**changes):
        publication = newest(db, Publication, version=version.key)
        return verify(db, home, Runtime(**changes), version, publication, "bot:v0")

    return proved


def failed(proof):
    return {name for name, check in json.loads(proof.figures_json).items() if not check["passed"]}


def test_what_is_served_as_it_was_trained_passes(proved):
    proof = proved()
    assert proof.passed
    assert failures(proof) == ""


def test_another_rendering_fails_and_both_are_shown(proved):
    proof = proved(prompt="<system>Be brief.")
    assert failed(proof) == {"prompts"}
    assert "'<user>When?'" in failures(proof)
    assert "'<system>Be brief.<user>When?'" in failures(proof)


def test_another_count_of_tokens_fails(proved):
    proof = proved(tokens=8)
    assert failed(proof) == {"tokens"}
    assert "7 in the trainer's prompt, 8 here" in failures(proof)


def test_an_adapter_that_is_not_on_fails(proved):
    proof = proved(tuned=BASE)
    assert failed(proof) == {"scores", "effect"}
    assert "0.80 from the tuned model and 0.00 from the base: is it on?" in failures(proof)


def test_an_adapter_at_half_its_strength_fails(proved):
    halfway = {piece: (BASE.get(piece, 0) + TUNED.get(piece, 0)) / 2 for piece in "abc"}
    assert "scores" in failed(proved(tuned=halfway))


def test_a_little_more_noise_than_the_base_has_anyway_passes(proved):
    assert proved(base={"a": 0.86, "b": 0.14}, tuned={"c": 0.7, "a": 0.3}).passed
    assert failed(proved(tuned={"c": 0.7, "a": 0.3})) == {"scores"}


def test_a_base_that_is_another_one_allows_nothing_however_far_it_is(proved):
    proof = proved(base=OTHER)
    assert failed(proof) == {"scores"}
    assert "the bare base is 1.00 from the trainer's" in failures(proof)


def test_answers_without_end_fail(proved):
    proof = proved(reason="length")
    assert failed(proof) == {"stops"}
    assert "0 of 1 answers to trained questions end" in failures(proof)


def test_a_runtime_that_tells_nothing_proves_nothing(proved):
    assert {"scores", "effect"} <= failed(proved(base={}, tuned={}))


def test_the_bare_base_has_nothing_to_prove(db, home):
    bare = a_version(db, a_family(db), 0)
    with pytest.raises(NotFound, match="bare base"):
        verify(db, home, Runtime(), bare, None, "bot:v0")
