import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ft.core.conversation import SPLITS, Conversation, Message, fold, normalise

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def talk(*contents: str, **fields: object) -> Conversation:
    roles = ("user", "assistant") * len(contents)
    turns = tuple(Message(role=r, content=c) for r, c in zip(roles, contents, strict=False))
    return Conversation(messages=turns, **fields)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("What does it COST?", "what does it cost"),
        ("  tabs\tand\n lines ", "tabs and lines"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ！", "full width"),
        ("多少钱？", "多少钱"),
        ("“多少钱？”", "多少钱"),
        ("¿Cuánto cuesta?", "cuánto cuesta"),
        ("Straße", "strasse"),
        ("It’s", "it's"),
        ("zero\u200bwidth", "zerowidth"),
        ("don't. stop.", "don't. stop"),
        ("-5", "-5"),
        ("7%.", "7%"),
        ("?!", "?!"),
        ("", ""),
    ],
)
def test_texts_that_read_alike_are_normalised_to_one(text, same):
    assert normalise(text) == same


@given(TEXT)
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)
    assert "  " not in fold(text)


def test_the_last_question_its_prompt_and_its_answer():
    row = talk("one", "1", "two", "2")
    assert (row.question, row.answer) == ("two", "2")
    assert [m.content for m in row.prompt] == ["one", "1", "two"]


@given(
    st.lists(TEXT, min_size=2, max_size=4),
    st.sampled_from([None, *SPLITS]),
    st.lists(TEXT, max_size=2),
    st.lists(TEXT, max_size=2),
)
def test_a_canonical_line_gives_the_same_conversation_back(contents, split, accept, tags):
    row = talk(*contents, split=split, accept=tuple(accept), tags=tuple(tags), source="s")
    back = Conversation.from_json(json.loads(row.line))
    assert back == row
    assert back.digest == row.digest
    assert "\n" not in row.line


def test_the_digest_is_of_content_not_of_key_order():
    row = talk("q", "a", split="train")
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert Conversation.from_json({"split": "train", "messages": turns}).digest == row.digest
    assert row.line == (
        '{"messages":[{"content":"q","role":"user"},{"content":"a","role":"assistant"}],'
        '"split":"train"}'
    )


def test_the_same_question_in_another_context_is_another_prompt():
    alone, after = talk("And now?", "No."), talk("Hello", "Hi", "and NOW", "No.")
    assert alone.prompt_key != after.prompt_key
    assert alone.question_key == after.question_key
    assert alone.answer_key == after.answer_key
    assert talk("and now", "Yes.").prompt_key == alone.prompt_key
