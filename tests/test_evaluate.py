import pytest

from ollama_ft.core.catalog import every
from ollama_ft.core.errors import RuntimeUnavailable
from ollama_ft.core.events import Count, silent
from ollama_ft.core.judged_records import Reply
from ollama_ft.core.records import Evaluation
from ollama_ft.kinds.suites import make_suite
from ollama_ft.runtime.answers import Answer
from ollama_ft.stages.evaluate import answers, evaluate, unasked
from tests.rows import a_family, a_version
from tests.test_suite import asked


class Runtime:
    """Answers every question by a function, and remembers what it was asked."""

    def __init__(self, say, reason="stop", breaks_after=None):
        self.say = say
        self.reason = reason
        self.breaks_after = breaks_after
        self.asked = []
        self.budgets = []

    def ask_many(self, name, conversations, *, options, think, on_answer):
        for place, messages in enumerate(conversations):
            if len(self.asked) == self.breaks_after:
                raise RuntimeUnavailable("gone")
            self.asked.append((name, messages[-1].content))
            self.budgets.append(options["num_predict"])
            text = self.say(messages[-1].content)
            on_answer(place, Answer(text=text, done=True, done_reason=self.reason))


def the_suite(count=6, name="test", **fields):
    rows = [asked(f"What is {n}?", f"It is {n}.", **fields) for n in range(count)]
    return make_suite(name, "domain", "bot", rows)


def echo(question):
    return f"It is {question[8:-1]}."


@pytest.fixture
def version(db):
    return a_version(db, a_family(db), 1)


def test_the_second_run_of_the_same_asks_nothing(db, home, version):
    runtime = Runtime(echo)
    first = evaluate(db, home, runtime, version, the_suite(), silent)
    assert (first.right, first.questions, len(runtime.asked)) == (6, 6, 6)
    assert evaluate(db, home, None, version, the_suite(), silent) == first


def test_a_question_of_another_suite_is_not_asked_again(db, home, version):
    runtime = Runtime(echo)
    evaluate(db, home, runtime, version, the_suite(4), silent)
    grown = evaluate(db, home, runtime, version, the_suite(6, name="other"), silent)
    assert (grown.questions, grown.suite, len(runtime.asked)) == (6, "other", 6)


def test_a_corrected_reference_is_scored_anew_without_asking(db, home, version):
    evaluate(db, home, Runtime(echo), version, the_suite(4), silent)
    corrected = make_suite("test", "domain", "bot", [asked("What is 3?", "It is III.")])
    assert evaluate(db, home, None, version, corrected, silent).right == 0


def test_the_same_version_of_another_family_is_not_asked_again(db, home, version):
    evaluate(db, home, Runtime(echo), version, the_suite(), silent)
    twin = a_version(db, a_family(db, "twin"), 1)
    assert twin.digest == version.digest
    assert evaluate(db, home, None, twin, the_suite(), silent).right == 6


def test_a_broken_evaluation_goes_on_where_it_was(db, home, version):
    with pytest.raises(RuntimeUnavailable):
        evaluate(db, home, Runtime(echo, breaks_after=4), version, the_suite(), silent)
    assert every(db, Evaluation) == []
    assert len(every(db, Reply)) == 4
    assert len(unasked(db, version, the_suite())) == 2
    again = Runtime(echo)
    assert evaluate(db, home, again, version, the_suite(), silent).right == 6
    assert len(again.asked) == 2


def test_an_answer_that_does_not_stop_is_wrong_whatever_it_says(db, home, version):
    row = evaluate(db, home, Runtime(echo, reason="length"), version, the_suite(), silent)
    assert row.right == 0
    assert {a.stopped for a in answers(home, row)} == {False}


def test_each_answer_has_room_for_twice_its_reference(db, home, version):
    long, free = asked("Long?", "word " * 80), asked("Bad?", "No.", must_not_say=("yes",))
    suite = make_suite("mixed", "domain", "bot", [asked("Short?", "A."), long, free])
    runtime = Runtime(lambda question: "no")
    evaluate(db, home, runtime, version, suite, silent)
    assert runtime.budgets == [64, 96, 224]


def test_progress_tells_how_long_is_left(db, home, version):
    told = []
    evaluate(db, home, Runtime(echo), version, the_suite(3), told.append)
    counts = [event for event in told if isinstance(event, Count)]
    assert [(c.done, c.total) for c in counts] == [(1, 3), (2, 3), (3, 3)]
    assert counts[0].eta_seconds >= counts[-1].eta_seconds == 0
