import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.kinds.filters import fault, script


def turns(roles: str, content: str = "text", **fields: object) -> Conversation:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return Conversation(
        messages=tuple(Message(role=names[r], content=content) for r in roles), **fields
    )


@pytest.mark.parametrize("roles", ["ua", "sua", "uaua", "suaua"])
def test_alternating_turns_that_end_with_an_answer_are_fit(roles):
    assert fault(turns(roles)) == ""


@pytest.mark.parametrize(
    ("roles", "what"),
    [
        ("", "no question"),
        ("s", "no question"),
        ("u", "ends with a question"),
        ("uau", "ends with a question"),
        ("au", "begins with an answer"),
        ("uua", "two questions in a row (turn 2)"),
        ("uaaua", "two answers in a row (turn 3)"),
        ("usa", "system message that is not its first"),
        ("ssua", "system message that is not its first"),
    ],
)
def test_turns_out_of_order_are_a_fault(roles, what):
    assert what in fault(turns(roles))


@pytest.mark.parametrize(
    ("content", "what"),
    [(" \n", "empty question"), ("a\x00b", "NUL"), ("a\ud800b", "surrogate")],
)
def test_text_that_cannot_be_learned_is_a_fault(content, what):
    assert what in fault(turns("ua", content))


def test_accepted_texts_are_looked_at_too():
    assert "empty text" in fault(turns("ua", accept=("fine", " ")))
    assert "NUL" in fault(turns("ua", accept=("\x00",)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("How much, 12 €?", "Latin"),
        ("Cuánto", "Latin"),
        ("多少钱 OK", "Chinese"),
        ("値段はいくらですか", "Japanese"),
        ("얼마예요", "Korean"),
        ("Сколько", "Cyrillic"),
        ("كم", "Arabic"),
        ("πόσο", "other"),
        ("12 + 3", "none"),
    ],
)
def test_the_script_is_that_of_most_letters(text, name):
    assert script(text) == name
