from dataclasses import replace

import pytest

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.gates import GateRules, load_gate
from ollama_ft.core.home import shipped
from ollama_ft.kinds.gate import Asked, Pair, decide
from ollama_ft.kinds.gate_words import _further, headline, luck, sentences

GATES = shipped() / "registry" / "gates"


@pytest.mark.parametrize("path", sorted(GATES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_gate_is_one(path):
    assert load_gate(path.stem, [GATES]).alpha <= 0.05


def test_the_shipped_default_says_what_the_code_would(tmp_path):
    assert load_gate("default", [GATES]) == GateRules()


def test_every_key_has_a_meaning():
    assert all(field.description for field in GateRules.model_fields.values())


def test_a_wrong_gate_names_the_line_and_the_nearest_key(tmp_path):
    (tmp_path / "mine.yaml").write_text("alpha: 0.05\ngeneral_margn: 0.1\n")
    with pytest.raises(BadInput, match=r"line 2: 'general_margn' is no key of a gate.*'general_ma"):
        load_gate("mine", [tmp_path])
    with pytest.raises(NotFound, match=r"no gate 'mein'. Known: mine"):
        load_gate("mein", [tmp_path])


def test_the_homes_own_gate_of_the_same_name_wins(tmp_path):
    (tmp_path / "default.yaml").write_text("alpha: 0.01\n")
    assert load_gate("default", [tmp_path, GATES]).alpha == 0.01


def pairs(*, both=0, gained=0, lost=0, neither=0, new=False, name="q", per_cluster=1):
    outcomes = [(1, 1)] * both + [(0, 1)] * gained + [(1, 0)] * lost + [(0, 0)] * neither
    return tuple(
        Pair(
            id=f"{name}{n}",
            question=f"{name}{n}?",
            cluster=f"{name}{n // per_cluster}",
            right_before=bool(before),
            right_after=bool(after),
            score_before=before,
            score_after=after,
            new=new,
            said_before=bool(before),
            said_after=bool(after),
        )
        for n, (before, after) in enumerate(outcomes)
    )


def rule(*domain, rules=None, accepted=None, **kinds):
    asked = [Asked(name="faq", kind="domain", pairs=sum(domain, ()))]
    asked += [Asked(name=k, kind=k.replace("_", "-"), pairs=found) for k, found in kinds.items()]
    return decide(rules or GateRules(), asked, accepted)


def test_twelve_more_of_120_pass_and_are_told_with_the_luck_they_would_take():
    ruling = rule(pairs(both=90, gained=14, lost=2, neither=14))
    assert ruling.outcome == "pass"
    assert headline(ruling, "v2", "v1") == (
        "v2 is better than v1. What else it may have lost was not asked."
    )
    assert sentences(ruling, "v2", "v1") == [
        "faq: v2 answers 12 more of 120 questions right than v1 (14 gained, 2 lost). "
        "Luck alone does that once in 480 tries."
    ]


def test_fewer_right_answers_fail():
    ruling = rule(pairs(both=90, lost=20, neither=10))
    assert (ruling.outcome, ruling.because) == ("fail", ("faq",))
    said = headline(ruling, "v2", "v1")
    assert said == "v2 answers 20 fewer of 120 questions right (20 lost, 0 gained)."


def test_as_many_right_answers_among_many_questions_fail_since_nothing_is_won():
    ruling = rule(pairs(both=300, gained=5, lost=5, neither=190))
    assert (ruling.outcome, ruling.because) == ("fail", ("gain",))
    assert headline(ruling, "v2", "v1") == "v2 is no better than v1."


def test_ten_questions_are_inconclusive_and_say_how_many_more():
    ruling = rule(pairs(both=5, gained=3, neither=2))
    assert ruling.outcome == "inconclusive"
    assert headline(ruling, "v2", "v1") == (
        "Too few questions to tell whether v2 is better: 11 more of the same kind would be enough."
    )
    enough = rule(pairs(both=11, gained=6, neither=4))  # the same rates on 21
    assert enough.outcome == "pass"


def test_ten_phrasings_of_one_fact_are_one_question():
    assert rule(pairs(gained=10)).outcome == "pass"
    assert rule(pairs(gained=10, per_cluster=10)).outcome == "inconclusive"


def test_new_questions_answered_right_pass_if_the_old_ones_are_no_worse():
    old = {"both": 104, "gained": 2, "lost": 2, "neither": 12, "name": "old"}
    new = pairs(gained=6, new=True, name="new")
    passed = rule(pairs(**old), new)
    assert passed.outcome == "pass"
    assert passed.old.no_worse
    assert [f.luck <= 0.05 for f in passed.gains] == [False, True]
    noisy = rule(pairs(**(old | {"both": 80, "gained": 10, "lost": 14})), new)
    assert (noisy.outcome, noisy.because) == ("inconclusive", ("old questions",))


def test_a_gain_on_new_questions_does_not_hide_what_was_forgotten():
    ruling = rule(pairs(both=90, lost=20, name="old"), pairs(gained=60, new=True, name="new"))
    assert (ruling.outcome, ruling.because) == ("fail", ("old questions",))
    assert "20 fewer of 110 old questions" in headline(ruling, "v2", "v1")


def test_a_worse_general_suite_fails_whatever_was_gained():
    ruling = rule(pairs(both=40, gained=50), general=pairs(both=60, lost=30, neither=30))
    assert (ruling.outcome, ruling.because) == ("fail", ("general",))
    assert "30 fewer of 120 general questions" in headline(ruling, "v2", "v1")


def test_a_first_version_may_lose_more_of_general_knowledge_and_that_is_told():
    general = pairs(both=24, gained=1, lost=10, neither=55)
    rules = GateRules()
    ruling = rule(pairs(both=1, gained=117), rules=rules.for_rival(bare=True), general=general)
    assert ruling.outcome == "pass"
    assert headline(ruling, "v1", "v0") == (
        "v1 is better than v0. It lost some general answers, within what may be."
    )
    assert rules.for_rival(bare=False) == rules
    assert rule(pairs(both=1, gained=117), rules=rules, general=general).outcome != "pass"


def test_a_general_suite_that_is_too_small_leaves_it_open():
    ruling = rule(pairs(both=40, gained=50), general=pairs(both=9, gained=1, lost=1))
    assert (ruling.outcome, ruling.because) == ("inconclusive", ("general",))
    assert f"{ruling.needed['general']} more general questions" in headline(ruling, "v2", "v1")


@pytest.mark.parametrize(("facts", "outcome"), [(4, "inconclusive"), (5, "pass"), (6, "pass")])
def test_a_base_that_knows_nothing_is_beaten_from_five_facts_on(facts, outcome):
    ruling = rule(pairs(gained=2 * facts, per_cluster=2), safety=pairs(both=18, neither=10))
    assert ruling.outcome == outcome
    assert ("gain" in ruling.needed) == (facts == 4)


def test_where_no_gain_is_asked_for_to_be_no_worse_is_enough():
    same = decide(
        GateRules(must_gain=False),
        [Asked(name="test questions", kind="domain", pairs=pairs(both=110, gained=1, lost=1))],
    )
    assert (same.outcome, same.gained) == ("pass", False)
    assert headline(same, "v2", "v1") == "v2 is no worse than v1."
    few = decide(
        GateRules(must_gain=False),
        [Asked(name="test questions", kind="domain", pairs=pairs(both=20))],
    )
    assert few.outcome == "inconclusive"
    assert set(few.needed) == {"test questions"}


def test_forgetting_that_hides_behind_answers_without_end_is_told():
    found = tuple(
        Pair(
            id=str(n),
            question="?",
            cluster=str(n),
            right_before=n < 30,
            right_after=n < 32,
            score_before=0,
            score_after=0,
            said_before=n < 60,
            said_after=n < 32,
        )
        for n in range(90)
    )
    ruling = rule(pairs(gained=50), general=found)
    assert ruling.outcome == "pass"
    (line,) = [line for line in sentences(ruling, "v1", "v0") if line.startswith("general")]
    assert line.endswith("were answers allowed to go on, it would be 32, before 60.")


def test_safety_has_a_margin_of_its_own():
    kept = pairs(both=36, lost=1, neither=3)
    assert rule(pairs(gained=50), safety=kept).outcome == "pass"
    tight = rule(pairs(gained=50), safety=kept, rules=GateRules(safety_margin=0.1))
    assert tight.outcome == "inconclusive"


def test_one_must_not_forget_flip_fails_until_it_is_accepted():
    asked = {"must_not_forget": pairs(both=4, lost=1, neither=2, name="m")}
    ruling = rule(pairs(gained=50), **asked)
    assert (ruling.outcome, ruling.because) == ("fail", ("flips",))
    assert "m4? (accept it with --accept m4)" in sentences(ruling, "v2", "v1")[-1]
    again = rule(pairs(gained=50), **asked, accepted={"m4": "we close at six now"})
    assert again.outcome == "pass"
    assert [flip.accepted for flip in again.flips] == ["we close at six now"]


def test_several_suites_of_its_own_are_corrected_for_and_none_may_lose():
    five = pairs(gained=5, name="a")
    asked = [Asked(name="a", kind="domain", pairs=five)]
    assert decide(GateRules(), asked).outcome == "pass"
    quiet = Asked(name="b", kind="domain", pairs=pairs(both=80, name="b"))
    both = decide(GateRules(), [*asked, quiet])
    assert both.gains[0].luck == pytest.approx(2 / 32), "two chances to be lucky"
    assert both.outcome == "inconclusive"
    six = Asked(name="a", kind="domain", pairs=pairs(gained=6, name="a"))
    assert decide(GateRules(), [six, quiet]).outcome == "pass"
    shaky = Asked(name="b", kind="domain", pairs=pairs(both=18, gained=3, lost=4, name="b"))
    assert decide(GateRules(), [six, shaky]).because == ("b",)


def test_scores_decide_where_the_gate_names_a_metric():
    rules = GateRules(primary="token_f1")
    found = tuple(
        Pair(
            id=str(n),
            question="?",
            cluster=str(n),
            right_before=False,
            right_after=False,
            score_before=0.3 + 0.01 * (n % 5),
            score_after=0.4 + 0.02 * (n % 7),
        )
        for n in range(40)
    )
    ruling = decide(rules, [Asked(name="faq", kind="domain", pairs=found)])
    assert ruling.outcome == "pass"
    assert "faq: v2 scores 0.4" in sentences(ruling, "v2", "v1")[0]
    assert decide(GateRules(), [Asked(name="faq", kind="domain", pairs=found)]).outcome != "pass"


def test_the_strict_gate_wants_more_than_the_default():
    found = pairs(both=90, gained=10, lost=2, neither=18)
    assert rule(found).outcome == "pass"
    assert rule(found, rules=load_gate("strict", [GATES])).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("chance", "words"),
    [
        (0.5, "at least every other time"),
        (1 / 8, "once in 8 tries"),
        (1 / 4096, "once in 4100 tries"),
        (1e-9, "less than once in a million tries"),
        (0.0, "less than once in a million tries"),
    ],
)
def test_luck_is_told_in_tries(chance, words):
    assert luck(chance) == words


def scored(before, after, count, **changes):
    return tuple(
        replace(pair, score_before=before, score_after=after, **changes)
        for pair in pairs(neither=count)
    )


def test_a_lower_score_is_told_as_a_score_and_not_as_questions_that_were_lost():
    rules = GateRules(primary="token_f1")
    ruling = rule(scored(0.8, 0.33, 21), scored(0.8, 0.6, 20), rules=rules)
    assert ruling.outcome == "fail"
    assert headline(ruling, "v2", "v1") == "v2 scores 0.462 on 41 questions, v1 0.800."
    assert "fewer" not in " ".join(sentences(ruling, "v2", "v1"))


def test_old_questions_with_scores_are_told_as_scores():
    rules = GateRules(primary="token_f1")
    ruling = rule(scored(0.1, 0.9, 20, new=True), scored(0.73, 0.73, 21), rules=rules)
    assert "old questions: 0.730 on 21 questions, before 0.730" in sentences(ruling, "b", "a")[-1]


def test_one_further_question_is_no_plural():
    assert _further("general", 1) == "1 more general question would be enough"
    assert _further("old questions", 2) == "2 more old questions would be enough"
