"""`rate`: blind, shuffled by a seed, stopped and gone on with; the blend never without its parts."""

import json
import re

import pytest

from ollama_ft.compare import pairs
from ollama_ft.core.catalog import every
from ollama_ft.core.errors import BadInput
from ollama_ft.core.judged_records import Rating
from ollama_ft.kinds.pairs import Pair
from ollama_ft.kinds.ratings import Blend, agreement, preferred, read_marks, shuffled, summary
from ollama_ft.stages.rate import unrated
from tests.contest import ASKED, two_versions
from tests.test_compare import ft  # noqa: F401


@pytest.fixture
def versions(db, home):
    return two_versions(db, home)


def a_pair(number):
    return Pair(
        question_digest=f"sha256:{number}",
        question="",
        expected="",
        first="a",
        second="b",
        first_right=True,
        second_right=True,
    )


def a_rating(rater, version, question, marks):
    return Rating(
        first=1,
        second=2,
        version=version,
        question_digest=question,
        rater=rater,
        shown=1,
        relevance=marks[0],
        fluency=marks[1],
        expertise=marks[2],
    )


@pytest.mark.parametrize("typed", ["5 4 3", "543", "5,4,3", " 5 / 4 / 3 ", "５４３", "5、4、3"])
def test_three_marks_are_read_as_people_type_them(typed):
    assert read_marks(typed) == (5, 4, 3)


@pytest.mark.parametrize("typed", ["", "5 4", "5 4 3 2", "0 1 2", "6 5 4", "good", "5 4 x"])
def test_anything_else_is_asked_for_again(typed):
    with pytest.raises(BadInput):
        read_marks(typed)


def test_the_order_hangs_on_the_seed_and_the_question_alone():
    some = [a_pair(n) for n in range(200)]
    order = shuffled(some, 3)
    assert shuffled(some[::-1], 3) == order
    assert shuffled(some[:50], 3) == [case for case in order if case[0] in some[:50]]
    assert shuffled(some, 4) != order
    assert 70 < sum(turned for _, turned in order) < 130  # each side first about as often
    half = sum(turned for _, turned in order[:100])
    assert 30 < half < 70  # and early as often as late


def test_the_rater_never_sees_whose_an_answer_is_until_all_is_rated(ft, versions, db):  # noqa: F811
    said = ft("rate", "v1", "v2", typed="5 5 5\n1 1 1\n" * 4 + "3 3 3\n")
    before_the_end = said[: said.index("All rated")]
    assert not re.search(r"v1|v2", before_the_end)
    assert "compare bot:v1 bot:v2" in said
    assert len(every(db, Rating)) == 2 * len(ASKED)


def test_the_marks_go_to_the_version_whose_answer_was_shown(ft, versions, db, home):  # noqa: F811
    v1, v2 = versions
    cases = unrated(db, v1, v2, pairs(db, home, v1, v2), rater="me", seed=0)
    ft(
        "rate",
        "v1",
        "v2",
        typed="".join("2 2 2\n" if p.same else "5 4 3\n1 2 1\n" for p, _ in cases),
    )
    given = {(r.version, r.question_digest): r for r in every(db, Rating)}
    assert len({turned for pair, turned in cases if not pair.same}) == 2  # both sides came first
    for pair, turned in cases:
        if not pair.same:
            better, worse = (v2, v1) if turned else (v1, v2)
            good, bad = (given[v.key, pair.question_digest] for v in (better, worse))
            assert (good.shown, good.relevance, good.fluency, good.expertise) == (1, 5, 4, 3)
            assert (bad.shown, bad.relevance, bad.fluency, bad.expertise) == (2, 1, 2, 1)


def test_what_is_shown_first_is_what_the_order_says(ft, versions, db, home):  # noqa: F811
    v1, v2 = versions
    cases = unrated(db, v1, v2, pairs(db, home, v1, v2), rater="me", seed=0)
    said = ft("rate", "v1", "v2", typed="4 4 4\n" * 9)
    wanted = [(p.second if t else p.first).split("\n")[0] for p, t in cases if not p.same]
    assert re.findall(r"\[answer 1\]\n(.+)", said) == [text.replace("\x1b", "") for text in wanted]


def test_two_answers_that_say_the_same_are_marked_once_and_count_for_both(ft, versions, db):  # noqa: F811
    said = ft("rate", "v1", "v2", typed="4 4 4\n" * 9)
    assert said.count("[both say the same]") == 1
    same = [r for r in every(db, Rating) if r.shown == 0]
    assert {r.version for r in same} == {v.key for v in versions}


def test_it_stops_and_goes_on_where_it_stopped(ft, versions, db):  # noqa: F811
    first = ft("rate", "v1", "v2", "--seed", "1", typed="5 5 5\n1 1 1\nq\n")
    assert "1 rated and kept" in first and "4 left. Go on: ollama-ft rate bot:v1 bot:v2" in first
    seen = re.findall(r"^1/5  (.+)", first, re.MULTILINE)
    second = ft("rate", "v2", "v1", "--seed", "1", typed="")  # the input ends at once
    assert second.startswith("4 of 5 questions to rate")
    assert seen[0] not in second
    assert len(every(db, Rating)) == 2


def test_half_a_pair_is_not_kept(ft, versions, db):  # noqa: F811
    ft("rate", "v1", "v2", typed="5 5 5\nq\n")
    assert every(db, Rating) == []


def test_what_is_no_mark_is_asked_again_and_a_question_can_be_skipped(ft, versions, db):  # noqa: F811
    said = ft("rate", "v1", "v2", typed="nine\n5 5 5\n1 1 1\ns\nq\n")
    assert said.count("Three marks from 1 to 5 are wanted") == 1
    assert len(every(db, Rating)) == 2


def test_the_command_to_go_on_with_is_the_same_command(ft, versions):  # noqa: F811
    said = ft("rate", "v1", "v2", "--rater", "小 王", "--seed", "3", typed="q\n")
    assert "ollama-ft rate bot:v1 bot:v2 --rater '小 王' --seed 3" in said


def test_each_rater_has_own_rows(ft, versions, db):  # noqa: F811
    ft("rate", "v1", "v2", typed="5 5 5\n1 1 1\nq\n")
    assert "5 of 5 questions" in ft(
        "rate", "v1", "v2", "--rater", "小王", typed="5 5 5\n1 1 1\nq\n"
    )
    assert {r.rater for r in every(db, Rating)} == {"me", "小王"}


def test_a_score_goes_from_0_to_100():
    human = summary([a_rating("me", 1, "q", (5, 4, 3)), a_rating("me", 1, "p", (3, 4, 5))])
    assert (human.questions, human.raters, human.relevance) == (2, 1, 4)
    assert human.score == 75  # the mean mark 4 on a scale from 1 to 5
    assert summary([a_rating("me", 1, "q", (1, 1, 1))]).score == 0
    assert summary([]) is None


def test_a_rater_prefers_the_answer_with_more_marks():
    marks = {"q": ((5, 5, 5), (1, 1, 1)), "p": ((1, 2, 3), (3, 2, 2)), "r": ((1, 2, 3), (3, 2, 1))}
    rows = [a_rating("me", v, q, both[v - 1]) for q, both in marks.items() for v in (1, 2)]
    assert preferred(rows, 1, 2) == (1, 1, 1)
    assert preferred(rows, 2, 1) == (1, 1, 1)
    assert preferred([*rows, a_rating("b", 1, "q", (1, 1, 1))], 1, 2) == (1, 1, 1)  # half a pair


def test_the_blend_is_forty_to_sixty():
    assert Blend(automatic=50, human=75).score == pytest.approx(0.4 * 50 + 0.6 * 75)


def test_compare_and_show_tell_the_blend_with_its_parts(ft, versions):  # noqa: F811
    ft("rate", "v1", "v2", typed="4 4 4\n" * 9)
    said = ft("compare", "v1", "v2")
    assert (
        "bot:v1: automatic 60 (5 questions) · human 75 (5 questions, one person: relevance 4.0, "
        "fluency 4.0, expertise 4.0) · 40 % automatic and 60 % human: 69"
    ) in said
    assert "people preferred bot:v1 0 times, bot:v2 0 times, neither 5" in said
    body = json.loads(ft("show", "v1", "--json"))["people"]
    assert (body["questions"], body["automatic score"], body["human score"]) == (5, 60.0, 75.0)
    assert body["40 % automatic and 60 % human"] == 69.0


def test_agreement_needs_two_raters_of_the_same_answer():
    rows = [a_rating("a", 1, "q", (5, 5, 5)), a_rating("b", 1, "p", (1, 1, 1))]
    assert agreement(rows) is None


def test_agreement_is_one_where_raters_agree_and_left_out_where_nothing_varies():
    rows = [
        a_rating(rater, 1, question, (mark, 3, 6 - mark if rater == "a" else mark))
        for rater in "ab"
        for question, mark in (("q", 1), ("p", 5), ("r", 3))
    ]
    found = agreement(rows)
    assert found["relevance"] == 1
    assert "fluency" not in found  # all gave 3
    assert found["expertise"] < 0  # the opposite
