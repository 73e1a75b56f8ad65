"""The gate as `promote` asks it: on stored answers, so that no model is needed."""

import json
from dataclasses import replace

import pytest

from ollama_ft import loop
from ollama_ft.core.catalog import every, newest
from ollama_ft.core.errors import BadInput, GateFailed, NotEnoughData
from ollama_ft.core.events import silent
from ollama_ft.core.gates import GateRules
from ollama_ft.core.judged_records import Verdict
from ollama_ft.core.records import Dataset, Promotion
from ollama_ft.core.refs import live
from ollama_ft.kinds.suites import question_id
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages.gate import Gate, words
from ollama_ft.stages.promote import promote
from ollama_ft.stages.suite import add
from ollama_ft.workshop import Workshop
from tests.rows import a_family, a_reply, a_version
from tests.test_suite import asked

GATE = Gate(name="quick", rules=GateRules(suites=()), accepted={})


class Shop:
    """A family with two proved versions whose every answer is stored."""

    def __init__(self, db, home, monkeypatch, rows):
        self.db, self.home = db, home
        self.family = a_family(db)
        self.rows = rows
        self.one, self.two = (self.version(number, rows) for number in (1, 2))
        promote(db, self.one, lambda v: "", "first")
        monkeypatch.setattr(loop, "pointer", lambda shop: lambda version: "moved")
        self.shop = Workshop(db=db, home=home, client=None, emit=silent)

    def version(self, number, rows):
        made = a_version(self.db, self.family, number)
        frozen = datasets.build(rows)
        if not (dataset := newest(self.db, Dataset, digest=frozen.digest)):
            dataset = datasets.freeze(self.db, self.home, "bot", frozen)
        self.db.execute("update versions set dataset = ? where id = ?", [dataset.id, made.id])
        self.db.conn.commit()
        return replace(made, dataset=dataset.id)

    def says(self, version, right, questions=None, reason="stop"):
        """Store a version's answers: right to the questions that `right` says yes to."""
        for number, question in enumerate(questions or self.rows):
            text = question.answer if right(number) else "No idea."
            a_reply(self.db, version, question, text, reason)

    def promote(self, gate=GATE, **how):
        return loop.promote(self.shop, self.two, how.pop("reason", "because"), gate, **how)


@pytest.fixture
def shop(db, home, monkeypatch):
    """v1 is live; both were made with the same 120 test questions, of which v1 answers 90."""
    rows = [asked(f"What is {n}?", f"Number {n}.", split="test") for n in range(120)]
    made = Shop(db, home, monkeypatch, rows)
    made.says(made.one, lambda n: n < 90)
    return made


def test_a_better_version_goes_live_and_the_verdict_is_a_row(shop):
    shop.says(shop.two, lambda n: n < 88 or n >= 106)
    promotion, verdict = shop.promote()
    assert verdict.outcome == "pass"
    assert words(verdict)[1] == [
        "test questions: v2 answers 12 more of 120 questions right than v1 (14 gained, 2 lost). "
        "Luck alone does that once in 480 tries."
    ]
    assert (promotion.version, promotion.reason) == (shop.two.key, "because")
    figures = json.loads(verdict.figures_json)
    assert (
        figures["gains"][0] | {"gained": 14, "lost": 2, "before": 90, "after": 102}
        == (figures["gains"][0])
    )


def test_a_worse_version_is_refused_with_what_it_lost_and_stays_a_candidate(shop):
    shop.says(shop.two, lambda n: n < 60)
    with pytest.raises(GateFailed) as refused:
        shop.promote()
    assert str(refused.value) == (
        "v2 answers 30 fewer of 120 test questions right (30 lost, 0 gained). "
        "bot:v1 stays live; bot:v2 is kept."
    )
    assert "--force --reason" in refused.value.mend
    assert live(shop.db, "bot").version.number == 1
    assert [v.outcome for v in every(shop.db, Verdict)] == ["fail"]


def test_ten_questions_are_too_few_and_it_says_how_many_more(db, home, monkeypatch):
    rows = [asked(f"What is {n}?", f"Number {n}.", split="test") for n in range(10)]
    shop = Shop(db, home, monkeypatch, rows)
    shop.says(shop.one, lambda n: n < 5)
    shop.says(shop.two, lambda n: n < 8)
    with pytest.raises(NotEnoughData, match=r"11 more of the same kind would be enough"):
        shop.promote()


def test_force_promotes_and_stands_in_the_history_for_ever(shop):
    shop.says(shop.two, lambda n: n < 60)
    with pytest.raises(BadInput, match="needs a --reason"):
        shop.promote(force=True, reason="")
    shop.promote(force=True, reason="the boss wants it")
    assert live(shop.db, "bot").version.number == 2
    assert newest(shop.db, Promotion).reason == (
        "forced, though the gate said fail: the boss wants it"
    )


def test_the_same_question_to_the_gate_gives_the_same_row(shop):
    shop.says(shop.two, lambda n: True)
    _, first = shop.promote()
    promote(shop.db, shop.one, lambda v: "", "back")
    _, second = shop.promote()
    assert first == second
    assert len(every(shop.db, Verdict)) == 1
    assert shop.promote()[1] is None, "what is live is not judged against itself"


def test_answers_that_do_not_stop_lose_their_questions(shop):
    shop.says(shop.two, lambda n: True, reason="length")
    with pytest.raises(GateFailed, match="90 fewer of 120"):
        shop.promote()


def test_a_must_not_forget_question_that_flips_needs_a_reason(shop):
    shop.says(shop.two, lambda n: True)
    rule = asked("When do you open?", "At nine.")
    add(shop.db, shop.home, "must-not-forget", "must-not-forget", "bot", [rule], "by hand")
    shop.says(shop.one, lambda n: True, [rule])
    shop.says(shop.two, lambda n: False, [rule])
    gate = replace(GATE, rules=GateRules(suites=("must-not-forget",)))
    with pytest.raises(GateFailed, match="must not be forgotten"):
        shop.promote(gate)
    name = question_id(rule.digest)
    with pytest.raises(BadInput, match=f"Lost: {name}"):
        shop.promote(replace(gate, accepted={"12345678": "no"}))
    _, verdict = shop.promote(replace(gate, accepted={name: "we open at ten now"}))
    assert json.loads(verdict.accepted_json) == {name: "we open at ten now"}
    assert "When do you open? (accepted: we open at ten now)" in words(verdict)[1][-1]


def test_questions_that_the_live_version_was_not_taught_are_judged_apart(shop):
    fresh = [asked(f"Which is {n}?", f"New {n}.", split="test") for n in range(8)]
    corrected = [asked("What is 119?", "Number one hundred and nineteen.", split="test")]
    grown = [*shop.rows[:119], *corrected, *fresh]
    shop.two = shop.version(3, grown)
    shop.says(shop.one, lambda n: n < 90, grown)
    shop.says(shop.two, lambda n: n < 90 or n >= 119, grown)
    _, verdict = shop.promote()
    figures = json.loads(verdict.figures_json)
    assert [(f["name"], f["questions"]) for f in figures["gains"]] == [
        ("test questions", 128),
        ("new questions", 9),
    ]
    assert figures["old"]["questions"] == 119
    assert verdict.outcome == "pass"


def test_general_knowledge_that_is_lost_is_seen(shop):
    shop.says(shop.two, lambda n: True)
    general = [asked(f"Who was {n}?", f"P{n}.") for n in range(100)]
    add(shop.db, shop.home, "general", "general", "", general, "by hand")
    shop.says(shop.one, lambda n: n < 80, general)
    shop.says(shop.two, lambda n: n < 50, general)
    gate = replace(GATE, rules=GateRules(suites=("general",)))
    with pytest.raises(GateFailed, match="30 fewer of 100 general questions"):
        shop.promote(gate)


def test_a_metric_that_is_none_is_refused_by_name(shop):
    shop.says(shop.two, lambda n: True)
    with pytest.raises(BadInput, match=r"'rouge' is none of: right, contains"):
        shop.promote(replace(GATE, rules=GateRules(suites=(), primary="rouge")))
