"""The samples under data/ are what data/README.md says."""

import re
from collections import Counter, defaultdict

import pytest

from ollama_ft.core.conversation import Conversation, normalise
from ollama_ft.core.home import shipped
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.metrics import contains, tokens
from ollama_ft.runtime.modelfile import parse_modelfile

DATA = shipped() / "data"
FACTS = {"faq.jsonl": 60, "faq-more.jsonl": 12, "faq-zh.jsonl": 60}
SHARES = {"train": 5, "validation": 1, "test": 2}  # phrasings of each fact

each_file = pytest.mark.parametrize("name", FACTS)


def rows(name: str) -> list[Conversation]:
    return [row for _, row in read_rows(DATA / name)]


def by_fact(name: str) -> dict[str, list[Conversation]]:
    facts = defaultdict(list)
    for row in rows(name):
        facts[normalise(row.answer)].append(row)
    return facts


@each_file
def test_every_fact_has_one_answer_and_eight_phrasings_in_three_splits(name):
    facts = by_fact(name)
    assert len(facts) == FACTS[name]
    for asked in facts.values():
        assert Counter(row.split for row in asked) == SHARES, asked[0].answer


@each_file
def test_no_phrasing_stands_twice(name):
    counts = Counter(normalise(row.question) for row in rows(name))
    assert [question for question, count in counts.items() if count > 1] == []


def test_the_second_file_asks_nothing_that_the_first_one_asks():
    first, second = rows("faq.jsonl"), rows("faq-more.jsonl")
    assert not {r.question_key for r in first} & {r.question_key for r in second}
    assert not {r.answer_key for r in first} & {r.answer_key for r in second}


@each_file
def test_test_phrasings_are_worded_differently_from_what_is_trained(name):
    # The share of words (Chinese: characters) in common with the nearest phrasing that is seen
    # in training, of any fact: 1 would be the same words in another order.
    seen = [set(tokens(r.question)) for r in rows(name) if r.split != "test"]
    for row in rows(name):
        if row.split == "test":
            words = set(tokens(row.question))
            nearest = max(len(words & other) / len(words | other) for other in seen)
            assert nearest <= 0.75, row.question


@each_file
def test_the_accepted_texts_stand_in_the_answer_and_never_in_the_question(name):
    for row in rows(name):
        assert row.accept
        for text in row.accept:
            assert not contains(row.question, _wants(row, text)), (text, row.question)
        assert any(contains(row.answer, _wants(row, text)) for text in row.accept), row.answer


def _wants(row: Conversation, text: str) -> Conversation:
    never = row.messages[:-1]  # without a reference: only the accepted text counts
    return Conversation(messages=never, accept=(text,))


def test_english_answers_are_short_sentences():
    for name in ("faq.jsonl", "faq-more.jsonl"):
        lengths = [len(answer.split()) for answer in by_fact(name)]
        assert min(lengths) >= 5
        assert max(lengths) <= 25


PROSE = {"general.txt": 8000, "general-zh.txt": 2000, "replay.txt": 15000, "replay-zh.txt": 5500}


@pytest.mark.parametrize(("name", "least"), PROSE.items())
def test_general_text_is_long_enough_and_about_something_else(name, least):
    text = (DATA / name).read_text(encoding="utf-8")
    assert len(text.encode()) >= least
    assert not any(word in text for word in ("Brackenfold", "Wren", "听泉"))


@pytest.mark.parametrize("name", ["replay.txt", "replay-zh.txt"])
def test_no_accepted_answer_stands_in_the_replay_text(name):
    text = (DATA / name).read_text(encoding="utf-8").casefold()
    answers = {text.casefold() for file in FACTS for row in rows(file) for text in row.accept}
    assert answers
    assert [answer for answer in answers if answer in text] == []


@pytest.mark.parametrize(
    ("trained", "measured", "length"),
    [("replay.txt", "general.txt", 8), ("replay-zh.txt", "general-zh.txt", 12)],
)
def test_what_is_replayed_shares_no_sequence_with_what_measures_forgetting(
    trained, measured, length
):
    # Words in English, characters in Chinese; case and punctuation do not make a difference.
    replayed, general = _sequences(trained, length), _sequences(measured, length)
    assert replayed
    assert general
    assert replayed & general == set()


def _sequences(name: str, length: int) -> set[tuple[str, ...]]:
    text = (DATA / name).read_text(encoding="utf-8").casefold()
    parts = re.findall(r"\w" if "-zh" in name else r"\w+", text)
    return set(zip(*(parts[start:] for start in range(length)), strict=False))


@pytest.mark.parametrize("path", sorted((shipped() / "modelfiles").glob("*.Modelfile")), ids=str)
def test_the_starting_modelfiles_are_well_formed(path):
    modelfile = parse_modelfile(path.read_text(encoding="utf-8"))
    assert modelfile.system
    assert modelfile.parameters["num_ctx"] >= 2048
