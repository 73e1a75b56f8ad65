import random

import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.kinds.augment import KEPT, shortened, with_variants


def asked(question, *before):
    turns = (Message(role="user", content=question), Message(role="assistant", content="Yes."))
    return Conversation(messages=(*before, *turns), split="train")


@pytest.mark.parametrize(
    "question",
    ["How long does the battery of the Wren last?", "这个水壶的容量是多少升？", "Open 9-5?"],
)
def test_a_shortened_question_keeps_words_in_their_order_and_some_of_them(question):
    for seed in range(50):
        short = shortened(question, random.Random(seed))
        letters = iter(question)
        assert all(letter in letters for letter in short), "no letter is new or moved"
        assert len(short.split()) >= min(KEPT, len(question.split()))


def test_chinese_is_shortened_by_characters():
    short = {shortened("这个水壶的容量是多少升？", random.Random(seed)) for seed in range(20)}
    assert len(short) > 10


def test_each_row_is_followed_by_its_variants_with_the_same_answer_and_context():
    system = Message(role="system", content="Be brief.")
    row = asked("When does the shop in the old town open on Mondays?", system)
    first, *variants = with_variants([row], 3, seed=0)
    assert first == row
    assert 1 <= len(variants) <= 3
    for variant in variants:
        assert variant.answer == row.answer
        assert variant.messages[0] == system
        assert variant.question != row.question
        assert "variant" in variant.tags


def test_the_same_seed_gives_the_same_variants_and_another_seed_others():
    rows = [asked(f"What does thing number {n} cost in the shop?") for n in range(10)]
    assert list(with_variants(rows, 2, 7)) == list(with_variants(rows, 2, 7))
    assert list(with_variants(rows, 2, 7)) != list(with_variants(rows, 2, 8))


def test_no_variants_on_request():
    rows = [asked("What does it cost?")]
    assert list(with_variants(rows, 0, 0)) == rows
