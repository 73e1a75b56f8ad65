"""Suites from the log: what becomes a question, who may never learn it, and how it is taken back."""

import json

import pytest

from ollama_ft import questions, retrain
from ollama_ft.core.catalog import every
from ollama_ft.core.errors import BadInput, NotEnoughData, NotFound
from ollama_ft.core.exchange import Verdict
from ollama_ft.core.files import artefact
from ollama_ft.core.judged_records import FrozenSuite
from ollama_ft.core.logbook import Pen
from ollama_ft.kinds.harvest.candidate import exchange_of
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages.suite import banned, find, known
from tests.rows import a_family
from tests.test_retrain import corrected, file_row, heard

UP, DOWN = Verdict(rating="up"), Verdict(rating="down")
ASKED = [
    "When do you open on Mondays?",
    "Can I park behind the house?",
    "Who repairs the till?",
    "Is the blue owl box waterproof?",
    "How much does shipping cost?",
    "Where are spare batteries kept?",
    "Which paint is safe for birds?",
    "Do children pay for the tour?",
    "Why does the lamp blink twice?",
    "What is the code of the gate?",
]
PASSAGE = {"path": "guide.md", "heading": "", "text": "We open at nine."}


@pytest.fixture
def family(db):
    """`bot`, that was taught nothing."""
    return a_family(db)


@pytest.fixture
def choose(db, home, log, family):
    def choose(**wish):
        chosen = questions.choose(db, home, log, family, questions.Wish(**wish))
        return [row.question for row in chosen.rows], chosen.left

    return choose


def ask(log, count=10):
    """The first of ASKED, each corrected to an answer of its own."""
    rows = enumerate(ASKED[:count])
    Pen(log).write([corrected(i, asked, f"That is answer {i}.") for i, asked in rows])


def test_what_a_person_called_right_is_asked_and_nothing_else(choose, log):
    Pen(log).write(
        [
            corrected(1, "When do you open?", "At nine."),
            heard(2, "Can I park here?", "Yes, behind the house.", UP),
            heard(3, "Do you sell tea?", "Certainly.", DOWN),
            heard(4, "Where are you?", "We open at nine.", context=(PASSAGE,)),
            heard(5, "Who are you?", "A shop."),
            heard(6, "Can I pay by card?", "Ye", UP, status="incomplete"),
        ]
    )
    asked, left = choose()
    assert asked == ["Can I park here?", "When do you open?"], "the newest first"
    assert left == {"thumbs down": 1, "broken": 1}


def test_the_reference_is_the_correction_and_the_row_names_its_exchange(db, home, log, family):
    Pen(log).write([corrected(1, "When do you open?", "At nine.")])
    (row,) = questions.choose(db, home, log, family, questions.Wish()).rows
    assert (row.answer, exchange_of(row)) == ("At nine.", "0000000000000001")


def test_what_was_taught_is_not_asked_nor_what_nearly_is_it(choose, db, home, log):
    taught = [
        file_row(ASKED[0], "At ten."),
        file_row("Is the blue owl box watterproof?", "That is answer 3."),
    ]
    taught += [file_row(ASKED[1], "Yes.", "test")]
    datasets.freeze(db, home, "bot", datasets.Frozen(rows=tuple(taught)))
    ask(log, 4)
    asked, left = choose()
    assert asked == [ASKED[2]]
    assert left == {questions.LEARNED: 2, "asked by a suite": 1}


def test_exchanges_can_be_named_counted_and_be_of_late(choose, log):
    ask(log, 4)
    old = corrected(9, "Where is the oldest shelf?", "Gone.", at="2025-01-01T00:00:00+00:00")
    Pen(log).write([old])
    log.execute("update feedback set at = '2025-01-01T00:00:00+00:00' where exchange = 5")
    assert choose(exchanges=("2", "0000000000000003"))[0] == [ASKED[3], ASKED[1]]
    assert choose(most=2)[0] == [ASKED[3], ASKED[2]]
    assert "Where is the oldest shelf?" in choose()[0]
    assert "Where is the oldest shelf?" not in choose(since="2026-01-01")[0]


def test_what_cannot_be_a_question_is_refused_with_what_to_do(choose, log):
    with pytest.raises(NotEnoughData, match="nobody rated any"):
        choose()
    Pen(log).write([heard(1, "Do you sell tea?", "Certainly."), heard(2, "Milk?", "No.", DOWN)])
    Pen(log).write([corrected(3, "Sugar?", "Yes.", family="shop")])
    for ref in "12":
        with pytest.raises(BadInput, match=f"Nobody said what is right for exchange {ref}") as told:
            choose(exchanges=(ref,))
        assert told.value.mend == f'ollama-ft feedback {ref} --correct "…"'
    with pytest.raises(BadInput, match="one of shop, not of bot"):
        choose(exchanges=("3",))
    with pytest.raises(NotFound):
        choose(exchanges=("77",))
    with pytest.raises(NotEnoughData, match="thumbs down: 1"):
        choose()


def test_a_suite_from_the_log_is_never_learned_from_the_log(ft, db, home, log, family):
    ask(log)
    told = ft("suite", "add", "asked", "--from-logs", "-n", "4")
    assert told.startswith("asked (domain): 4 questions")
    planned = retrain.plan(db, home, log, family, retrain.Wish())
    held = {row.question for row in find(db, home, "bot", "asked").questions}
    learned = {row.question for row in planned.frozen.rows}
    assert len(held) == 4
    assert learned == set(ASKED) - held
    again = json.loads(ft("suite", "add", "asked", "--from-logs", "--json"))
    assert (again["questions"], again["left_out"]) == (10, {"asked by a suite": 4})


def test_forget_takes_the_question_back_and_the_ban_stays(ft, db, home, log, family):
    ask(log, 3)
    ft("suite", "add", "asked", "--from-logs")
    assert "suite     asked asks 1 of them" in ft("forget", "1", "--dry-run")
    assert len(find(db, home, "bot", "asked").questions) == 3
    assert json.loads(ft("forget", "1", "--json"))["suites"] == {"asked": 1}
    asked = [row.question for row in find(db, home, "bot", "asked").questions]
    assert sorted(asked) == ASKED[1:3]
    assert banned(db, home, "bot").among([file_row(ASKED[0], "Up.")]) == [True]
    ft("forget", "2", "3", "--yes")
    assert "asked" not in [suite.name for suite in known(db, home, "bot")]
    ft("suite", "add", "asked", "-q", "Where is the till?", "-a", "In front.")
    assert len(find(db, home, "bot", "asked").questions) == 1


def test_the_file_of_an_older_suite_may_be_deleted_to_be_rid_of_its_words(
    ft, db, home, log, family
):
    ask(log, 2)
    ft("suite", "add", "asked", "--from-logs")
    ft("forget", "1", "--yes")
    new, old = every(db, FrozenSuite)
    artefact(home.data("suites"), old.digest, ".jsonl").unlink()
    rows = [file_row(asked, f"{asked} Up.") for asked in ASKED[:2]]
    assert banned(db, home, "bot").among(rows) == [False, True]
    assert len(find(db, home, "bot", "asked").questions) == new.questions == 1
    artefact(home.data("suites"), new.digest, ".jsonl").unlink()
    with pytest.raises(NotFound, match="file of the suite asked is gone"):
        banned(db, home, "bot")


def test_options_about_the_log_that_would_do_nothing_are_refused(ft, family):
    assert "there is no --from-logs" in ft("suite", "add", "asked", "--since", "7d", code=2)
    assert "names none" in ft("suite", "add", "asked", "--from-logs", "--for-all", code=2)
    both = ("suite", "add", "asked", "--from-test", "--from-logs")
    assert "nobody rated any" in ft(*both, code=4)
