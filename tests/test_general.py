"""The text and the chats that a training keeps to what the base makes of them."""

import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.home import shipped
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.general import PIECE, replayed
from ollama_ft.kinds.suites import ban, read_folders


class Letters:
    """A tokenizer whose tokens are characters; ¶ ends a turn."""

    end_ids = frozenset({ord("¶")})
    eos_id = ord("¶")

    def encode(self, text, *, add_bos=None):
        return [ord(letter) for letter in text]


def render(messages):
    return "".join(f"{m.role}: {m.content}¶" for m in messages) + "assistant: "


def asking(text):
    turns = (Message(role="user", content=text), Message(role="assistant", content="Yes."))
    return Conversation(messages=turns)


def texts(rows):
    return ["".join(map(chr, row.answer)) for row in rows]


def test_text_and_chats_come_in_turn_and_every_one_of_both_is_there():
    rows = replayed(Letters(), render, [asking("Open?")])
    pieces, chats = rows[0::2], rows[1::2]
    assert {len(row) for row in pieces} == {PIECE}
    assert all(chr(row.answer[-1]) == "¶" for row in chats)
    answers = {row.answer for _, row in read_rows(shipped() / "data" / "chats.jsonl")}
    assert {text.removesuffix("¶") for text in texts(chats)} == answers
    whole = (shipped() / "data" / "replay.txt").read_text("utf-8")
    assert len({row.answer for row in pieces}) == len(whole) // PIECE


@pytest.mark.parametrize(("question", "chinese"), [("几点开门？", True), ("Open?", False)])
def test_chinese_joins_where_the_rows_are_chinese(question, chinese):
    found = "".join(texts(replayed(Letters(), render, [asking(question)])))
    assert any("一" <= letter <= "鿿" for letter in found) == chinese


def test_no_chat_asks_what_a_suite_asks():
    banned = ban(read_folders([shipped() / "registry" / "suites"]))
    for name in ("chats.jsonl", "chats-zh.jsonl"):
        rows = [row for _, row in read_rows(shipped() / "data" / name)]
        assert len(rows) >= 100
        assert not [row.question for row, bad in zip(rows, banned.among(rows), strict=True) if bad]
