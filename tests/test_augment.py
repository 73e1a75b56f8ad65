import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.kinds.augment import FEWEST, LONGEST, MOST, PIECE, passes, recombined

SHOP = ["When does the shop open on Mondays?", "Opening time of your store at the start of a week?"]
OPENS = "It opens at nine."
POT = ["这个水壶的容量是多少升？", "水壶能装多少水？"]
HOLDS = "水壶的容量是三升。"


def asked(question, answer, *before):
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(messages=(*before, *turns), split="train")


def rows_of(questions, answer, *before):
    return [asked(question, answer, *before) for question in questions]


def questions_of(rows):
    return {row.question for some in recombined(rows, 0.99, 40, seed=0) for row in some.values()}


def test_a_new_question_is_made_of_words_of_its_group():
    known = {word for text in (*SHOP, OPENS) for word in PIECE.findall(text)}
    made = questions_of(rows_of(SHOP, OPENS))
    assert len(made) > 40
    assert {word for question in made for word in PIECE.findall(question)} <= known


def test_a_new_chinese_question_is_written_without_spaces():
    made = questions_of(rows_of(POT, HOLDS))
    assert len(made) > 40
    assert {letter for question in made for letter in question} <= {*"".join(POT), *HOLDS, "?"}


def test_a_new_question_has_a_few_words():
    passes = recombined(rows_of(SHOP, OPENS), 0.99, 40, seed=0)
    lengths = {len(row.question.split()) for some in passes for row in some.values()}
    assert lengths == set(range(FEWEST, MOST + 1))


def test_the_answer_and_the_context_stay_and_the_row_is_marked():
    system = Message(role="system", content="Be brief.")
    rows = rows_of(SHOP, OPENS, system)
    for some in recombined(rows, 0.99, 5, seed=0):
        for i, row in some.items():
            assert (row.messages[0], row.answer) == (system, rows[i].answer)
            assert "recombined" in row.tags


def test_the_first_pass_asks_as_people_did_and_later_ones_so_often_in_other_words():
    rows = [row for n in range(50) for row in rows_of((f"Cost of a{n}?", f"Price a{n}x"), f"{n} €")]
    first, *later = recombined(rows, 0.3, 11, seed=0)
    assert first == {}
    assert 0.25 < sum(map(len, later)) / (10 * len(rows)) < 0.35


def test_words_that_every_group_has_are_left_out():
    rows = [
        row
        for n in range(60)
        for row in rows_of(
            (f"Where is the blue{n} key{n}?", f"The key{n} of the door{n}?"), f"r{n}"
        )
    ]
    made = [row.question for some in recombined(rows, 0.9, 4, 0) for row in some.values()]
    assert made
    assert not [q for q in made if {"The", "the", "Where", "is", "of"} & set(q.split())]


@pytest.mark.parametrize(
    "rows",
    [
        [asked("When do you open on Mondays and Tuesdays?", "At nine.")],
        rows_of(("word " * (LONGEST + 1), "other " * (LONGEST + 1)), "Long texts."),
        rows_of(("Hm?", "Eh?"), "?"),
    ],
    ids=["nobody asks otherwise", "too long for a question", "too few words"],
)
def test_a_row_stays_as_it_is_where(rows):
    assert not any(recombined(rows, 0.99, 5, seed=0))


def test_the_same_answer_in_another_context_is_another_group():
    one = asked("What colour has it?", "Red.", Message(role="system", content="The boat."))
    two = asked("Which paint was used?", "Red.", Message(role="system", content="The house."))
    assert not any(recombined([one, two], 0.99, 5, seed=0))


def test_the_same_seed_gives_the_same_questions_and_another_seed_others():
    rows = rows_of(SHOP, OPENS)
    assert recombined(rows, 0.5, 9, 7) == recombined(rows, 0.5, 9, 7)
    assert recombined(rows, 0.5, 9, 7) != recombined(rows, 0.5, 9, 8)


def test_none_on_request():
    assert not any(recombined(rows_of(SHOP, OPENS), 0.0, 9, seed=0))


@pytest.mark.parametrize(("ways", "expected"), [(1, 16), (4, 16), (6, 11), (8, 8), (40, 4)])
def test_an_answer_is_heard_as_often_however_many_ways_there_are_to_ask(ways, expected):
    pairs = [(n, way) for n in range(5) for way in range(ways)]
    rows = [asked(f"Question {n}, way {way}?", f"Answer {n}.") for n, way in pairs]
    assert passes(rows) == expected
