import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput
from ollama_ft.core.plugins import collect
from ollama_ft.kinds.metrics import (
    CorpusMetric,
    Metric,
    Served,
    contains,
    exact,
    find,
    length,
    measure,
    regex,
    score,
    stops,
    token_f1,
    tokens,
)


def asked(reference: str, *accept: str) -> Conversation:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=reference))
    return Conversation(messages=turns, accept=accept)


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("Nine days.", "nine days", 1),
        ("“Nine days”", "Nine days.", 1),
        ("Nine whole days", "Nine days", 0),
        ("九天。", "九天", 1),
        ("-5", "5", 0),
    ],
)
def test_exact_is_equality_after_normalising(answer, reference, value):
    assert exact(answer, asked(reference)) == value


@pytest.mark.parametrize(
    ("answer", "reference", "accept", "value"),
    [
        ("It takes nine days, as a rule.", "nine days", (), 1),
        ("Nine days.", "It takes nine days.", (), 0),
        ("Nine days.", "It takes nine days.", ("nine days",), 1),
        ("Nineteen days", "x", ("nine",), 0),  # "nine" goes on
        ("In 2012.", "x", ("12",), 0),
        ("It is 12.5 kg", "x", ("12",), 0),  # the number goes on
        ("It is 12,500 kg", "x", ("12",), 0),
        ("It is 3.12 kg", "x", ("12",), 0),
        ("It is 12. And", "x", ("12",), 1),
        ("In 2012 it was 12", "x", ("12",), 1),  # the second place counts
        ("Read the .hedge file", "x", (".hedge",), 1),
        ("minus (-22) degrees", "x", ("-22",), 1),
        ("一共是三十四天内。", "x", ("三十四天",), 1),
        ("容量１.３５升", "x", ("1.35升",), 1),
        ("", "x", ("y",), 0),
        ("anything", "...", (), 0),
    ],
)
def test_contains_finds_the_reference_or_an_accepted_text_as_a_whole(
    answer, reference, accept, value
):
    assert contains(answer, asked(reference, *accept)) == value


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("nine days", "Nine days.", 1),
        ("it takes nine days", "nine days", 2 * 2 / (4 + 2)),
        ("nine nine", "nine days", 2 * 1 / (2 + 2)),  # counted with multiplicity
        ("ten weeks", "nine days", 0),
        ("三十四天", "三十天", 2 * 3 / (4 + 3)),  # by character
        ("约30天", "30天", 2 * 2 / (3 + 2)),  # 约, 30, 天 against 30, 天
        ("", "nine", 0),
        ("!", "?", 1),  # no tokens on either side
    ],
)
def test_token_f1_by_hand(answer, reference, value):
    assert token_f1(answer, asked(reference)) == pytest.approx(value)


def test_tokens_are_words_and_single_chinese_characters():
    assert tokens("It's 12-fold: 买3把 ソ") == ["it", "s", "12", "fold", "买", "3", "把", "ソ"]
    assert length("nine days", asked("x")) == 2


def test_only_a_generation_that_ends_by_itself_stops():
    assert stops("stop")
    assert not any(stops(reason) for reason in ("length", "", "load", "unload"))


def test_the_default_scores_are_the_cheap_ones():
    scores = score("nine days", asked("Nine days."))
    assert scores == {"exact": 1, "contains": 1, "token_f1": 1, "length": 2}


def test_every_metric_says_in_its_type_whether_it_takes_one_answer_or_all():
    for name, loaded in collect("metrics").items():
        assert isinstance(loaded.thing, Metric | CorpusMetric)
        assert loaded.thing.name == name
        assert loaded.thing.measure.__doc__, f"{name} does not say where it comes from"


@pytest.mark.parametrize(
    ("answer", "accept", "value"),
    [
        ("It takes 9 days.", ("re:[0-9]+ days?",), 1),
        ("It takes nine days.", ("re:[0-9]+ days?",), 0),
        ("NINE days", ("re:(?i)nine",), 1),
        ("NINE days", ("re:nine",), 0),  # as it is written
        ("一共３天", ("re:[3３]天", "re:三天"), 1),  # any of them
        ("nine days", ("nine",), None),  # no pattern: does not apply
    ],
)
def test_regex_searches_for_the_patterns_of_accept(answer, accept, value):
    assert regex(answer, asked("x", *accept)) == value


@pytest.mark.parametrize("pattern", ["re:(", "re:(a|aa)+\\d"])
def test_a_pattern_that_is_none_or_takes_for_ever_is_named(pattern, monkeypatch):
    monkeypatch.setattr("ollama_ft.kinds.metrics.matching.PATIENCE", 0.1)
    with pytest.raises(BadInput, match="cannot be used"):
        regex("a" * 40 + "b", asked("x", pattern))


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match=r"no metric 'blue'\. Known: .*bleu"):
        find(("bleu", "blue"))


def test_a_metric_whose_library_is_missing_says_what_to_install(monkeypatch):
    def needs_a_library(answer, question):
        import no_such_library_anywhere  # noqa: F401

    served = [Served(question=asked("x"), answer="x", stopped=True)]
    with pytest.raises(BadInput, match="needs no_such_library_anywhere") as caught:
        measure(Metric(name="rare", measure=needs_a_library), served)
    assert caught.value.mend == "pip install 'ollama-ft[eval]'"


def test_a_metric_of_answers_is_their_mean_over_the_questions_it_applies_to():
    served = [
        Served(question=asked("x", *accept), answer="9", stopped=True)
        for accept in (("re:9",), ("re:8",), ("nine",))
    ]
    (metric,) = find(("regex",))
    assert measure(metric, served) == 1 / 2
    assert measure(metric, served[2:]) is None
