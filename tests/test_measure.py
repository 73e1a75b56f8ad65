"""Metrics on request: from stored answers, costly ones once, likelihoods from the trainer's model."""

import math
import re

import pytest

from ollama_ft import compare
from ollama_ft.cli.outcome import print_evaluation
from ollama_ft.core.catalog import every
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput
from ollama_ft.core.events import silent
from ollama_ft.core.files import digest_file
from ollama_ft.core.judged_records import Measurement
from ollama_ft.kinds.metrics import Served, find
from ollama_ft.kinds.suites import make_suite
from ollama_ft.stages import measure as stage
from ollama_ft.stages import publish
from ollama_ft.stages.evaluate import evaluate
from ollama_ft.workshop import Workshop
from tests.contest import answered, conversation, evaluated, two_versions
from tests.rows import a_family, a_reply, a_version


def served(answer, reference, question="?", **more):
    turns = (Message(role="user", content=question), Message(role="assistant", content=reference))
    return Served(question=Conversation(messages=turns), answer=answer, stopped=True, **more)


@pytest.fixture
def evaluation(db, home):
    version = a_version(db, a_family(db), 0)
    return evaluated(db, home, version, [answered(conversation("?", "x"), "x")])


def test_a_value_is_appended_when_it_is_new(db, home, evaluation):
    metrics = find(("chrf", "accuracy"))
    for _ in "ab":
        values = stage.measure(db, home, evaluation, metrics, [served("abc", "abc")], pytest.fail)
        assert values == {"chrf": 100, "accuracy": None}
    assert len(every(db, Measurement)) == 2
    stage.measure(db, home, evaluation, metrics, [served("", "abc")], pytest.fail)
    assert stage.measured(db, evaluation) == {"chrf": 0, "accuracy": None}
    assert len(every(db, Measurement)) == 3


def test_what_needs_the_trainers_model_is_taken_once(db, home, evaluation, monkeypatch):
    asked = []

    def ask(db, home, evaluation, rows, render):
        asked.extend(row.answer for row in rows)
        return [(-1.0 if row.answer == "a" else -3.0, 2) for row in rows]

    monkeypatch.setattr(stage, "_ask", ask)
    answers = [served("a", label) for label in "aabb"]
    metrics = find(("loss", "perplexity", "auc"))
    values = stage.measure(db, home, evaluation, metrics, answers, pytest.fail)
    assert values == {"loss": 1, "perplexity": math.e, "auc": 0.5}  # every question has the same
    assert asked == [*"aabb", *"abababab"]  # each reference once, then each label for each question
    assert stage.measure(db, home, evaluation, metrics, answers, pytest.fail) == values
    assert len(asked) == 12


def test_a_suite_without_labels_is_not_asked_for_their_chances(db, home, evaluation, monkeypatch):
    monkeypatch.setattr(stage, "_ask", lambda *_: pytest.fail("asked"))
    answers = [served("", "a longer answer"), served("", "another")]
    assert stage.measure(db, home, evaluation, find(("auc",)), answers, pytest.fail) == {
        "auc": None
    }


def test_the_log_probability_of_an_answer_is_the_sum_over_its_tokens(tmp_path):
    from ollama_ft.kinds.metrics.likelihood import likelihoods
    from ollama_ft.kinds.trainers.job import Row
    from ollama_ft.kinds.trainers.reference import open_reference
    from tests.tiny import VOCABULARY, tiny_model, write_gguf

    base = write_gguf(tiny_model("llama"), "llama", tmp_path / "tiny.gguf")
    prompt, answer = (
        tuple(range(10, 20)),
        tuple(range(30, 30 + 70)),
    )  # longer than one block of rows
    with open_reference(base) as model:
        places = [(*prompt, *answer[:i]) for i in range(len(answer))]
        told = model.next_tokens(places, top=VOCABULARY, tuned=False)
        one_by_one = sum(dict(chances)[token] for chances, token in zip(told, answer, strict=True))
    ((whole, count),) = likelihoods(base, None, [Row(prompt=prompt, answer=answer)])
    assert count == 70
    assert whole == pytest.approx(one_by_one, rel=1e-4)


def test_eval_takes_metrics_of_stored_answers_and_asks_nothing(db, home, monkeypatch, capsys):
    v1, _ = two_versions(db, home)
    monkeypatch.setattr(publish, "bring", lambda *_: None)
    shop = Workshop(db=db, home=home, client=None, emit=silent)
    ((found, values),) = compare.measure(shop, v1, ("refusals", "length_ratio", "latency"))
    ratios = [2 / 2, 4 / 4, 5 / 2, 2 / 1, 1 / 1]  # tokens of v1's answers over the references'
    assert values["length_ratio"] == pytest.approx(sum(ratios) / 5)
    assert values["latency"] is None  # these answers were stored without times
    print_evaluation(v1, found, values)
    said = capsys.readouterr().out
    assert re.search(r"^  refusals +0$", said, re.MULTILINE)
    assert re.search(r"^  latency +nothing here to take it from$", said, re.MULTILINE)


def test_an_unknown_metric_is_refused_before_anything_is_asked(db, home):
    version = a_version(db, a_family(db), 0)
    shop = Workshop(db=db, home=home, client=None, emit=silent)
    with pytest.raises(BadInput, match="no metric 'blue'"):
        compare.measure(shop, version, ("blue",))


def test_times_that_were_stored_with_an_answer_are_measured(db, home, monkeypatch):
    version = a_version(db, a_family(db), 0)
    told = {"seconds": 2.0, "writing": 0.5, "tokens": 10.0}
    one = answered(conversation("?", "x"), "x", told)
    evaluation = evaluated(db, home, version, [one])
    monkeypatch.setattr(compare.loop, "evaluate", lambda *_: [evaluation])
    shop = Workshop(db=db, home=home, client=None, emit=silent)
    ((_, values),) = compare.measure(shop, version, ("latency", "tokens_per_second"))
    assert values == {"latency": 2.0, "tokens_per_second": 20.0}


def test_a_suites_own_accepted_texts_and_earlier_turns_are_measured(db, home, monkeypatch):
    version = a_version(db, a_family(db), 1)
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "When?")]
    messages = [Message(role=role, content=text) for role, text in [*turns, ("assistant", "At 9")]]
    question = Conversation(messages=tuple(messages), accept=("re:[0-9]+",))
    suite = make_suite("hours", "domain", "bot", [question])
    a_reply(db, version, question, "At 9")
    evaluation = evaluate(db, home, None, version, suite, silent)
    monkeypatch.setattr(compare.loop, "evaluate", lambda *_: [evaluation])
    seen = []

    def ask(db, home, evaluation, rows, render):
        seen.extend(rows)
        return [(-1.0, 2)]

    monkeypatch.setattr(stage, "_ask", ask)
    shop = Workshop(db=db, home=home, client=None, emit=silent)
    ((_, values),) = compare.measure(shop, version, ("regex", "loss"), ("hours",))
    assert values["regex"] is not None and seen == [question]


@pytest.mark.slow
def test_a_true_sentence_is_likelier_than_a_false_one(db, home, evaluation, smollm2_gguf):
    from ollama_ft.core.catalog import row
    from ollama_ft.core.records import Base, Version
    from ollama_ft.runtime.store import Store

    base = row(db, Base, row(db, Version, evaluation.version).base)
    digest = digest_file(smollm2_gguf)
    db.execute("update bases set blob_digest = ? where id = ?", [digest, base.key])
    db.conn.commit()
    Store(home.models).add_blob(smollm2_gguf)

    def render(messages):  # ChatML, as the base's own template has it
        turns = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
        return f"{turns}<|im_start|>assistant\n"

    def nats(reference):
        asked = [served("", reference, "What is the capital of France?")]
        rows = stage._add(
            "likelihood", asked, lambda q: stage._ask(db, home, evaluation, q, render)
        )
        return find(("loss",))[0].measure(rows)

    assert nats("The capital of France is Paris.") < nats("The capital of France is Oslo.")
