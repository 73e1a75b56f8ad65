import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_ft.kinds.near import group, is_near, plain, signatures

NEAR = [
    ("How do I reset my password?", "how do I reset my pasword"),
    ("How do I reset my password?", "My password: how do I reset?"),
    ("Do you ship to Norway", "Ｄｏ you ship... to “Norway”?"),
    ("你们周末几点开始营业？", "你们周末几点开始营业呢"),
    ("周末你们几点开门？", "你们周末几点开门"),
]
APART = [
    ("Who founded Brackenfold?", "Which people started the Brackenfold company?"),
    ("What is step 3?", "What is step 4?"),
    ("第三章讲什么内容呢？", "第四章讲什么内容呢？"),
    ("Is it hot?", "Is it not?"),
    ("你们几点开门？", "你们几点关门？"),
    ("红色的多少钱？", "蓝色的多少钱？"),
]


@pytest.mark.parametrize(("one", "other"), NEAR)
def test_typos_punctuation_and_order_are_near(one, other):
    assert is_near(plain(one), plain(other)) and is_near(plain(other), plain(one))
    assert list(group([plain(one), plain(other)], ["A.", "a"]).first) == [0, 0]


@pytest.mark.parametrize(("one", "other"), APART)
def test_other_numbers_short_words_and_other_phrasings_are_not(one, other):
    assert not is_near(plain(one), plain(other))
    assert list(group([plain(one), plain(other)], ["A.", "A."]).first) == [0, 1]


def test_near_questions_with_different_answers_are_told_not_grouped():
    questions = [plain("What is the capital of Mali?"), plain("What is the capital of Malta?")]
    groups = group(questions, ["Bamako.", "Valletta."])
    assert (list(groups.first), list(groups.similar)) == ([0, 1], [(0, 1)])
    assert list(group(questions, ["Yes.", "yes"]).first) == [0, 0]


def test_the_order_of_the_words_groups_whatever_the_answers_are():
    assert list(group(["do you ship", "ship you do"], ["Yes.", "No, never."]).first) == [0, 0]


def test_a_crowd_of_alike_questions_comes_together():
    texts = [f"how do i reset the password of my account{'x' * (n % 3)}" for n in range(300)]
    assert set(group(texts, ["A."] * 300).first) == {0}


def test_empty_texts_are_alone_and_few_texts_are_no_trouble():
    assert list(group(["", "", "a"], ["A."] * 3).first) == [0, 1, 2]
    assert list(group([], []).first) == []
    assert list(group(["a"], ["b"]).first) == [0]


def pieces(text: str) -> set[str]:
    return {f" {w} "[i : i + 3] for w in text.split() for i in range(len(w))}


def test_signatures_estimate_how_many_pieces_are_shared():
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghij", k=6)) for _ in range(60)]
    errors = []
    for _ in range(200):
        one = chance.sample(words, 12)
        other = one[: chance.randrange(13)] + chance.sample(words, 6)
        a, b = " ".join(one), " ".join(other)
        exact = len(pieces(a) & pieces(b)) / len(pieces(a) | pieces(b))
        first, second = signatures([a, b])
        errors.append(float((first == second).mean()) - exact)
    # The standard deviation of one estimate at 60 places is at most 0.065; of the mean, 0.005.
    assert max(map(abs, errors)) < 4 * 0.065
    assert abs(sum(errors) / len(errors)) < 4 * 0.005


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab 你好1", max_size=12), max_size=12))
def test_every_text_is_in_one_group_named_by_its_first(texts):
    first = list(group([plain(text) for text in texts], ["A."] * len(texts)).first)
    assert all(head <= index and first[head] == head for index, head in enumerate(first))
