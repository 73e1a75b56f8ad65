"""Exports of Open WebUI come in: chats with their branches, ratings, and odd values."""

import json

import pytest

from tests.elsewhere import (
    CHINESE,
    OPEN,
    a_chat,
    an_answer,
    feedback,
    importer,
    message,
    rows,
    said,
    show,
)


@pytest.fixture
def bring(ft, tmp_path):
    return importer(ft, tmp_path)


def test_every_answer_of_an_open_webui_chat_comes_with_its_own_branch_and_rating(ft, bring):
    messages = {
        **OPEN,
        **an_answer(annotation={"rating": -1, "reason": "too_short", "tags": ["hours"]}),
        **an_answer("a2", content="From nine to five.", annotation={"rating": 1}),
        **message("u2", "a2", "user", CHINESE[0]),
        **an_answer("a3", "u2", CHINESE[1]),
    }
    assert bring("export.json", [a_chat(messages)]) == (3, 0, 0)
    first, second, third = rows(ft)
    assert [row["rating"] for row in (first, second, third)] == ["down", "up", None]
    assert (first["source"], first["place"]) == ("open-webui", "export.json#chat-1/a1")
    assert (first["model"], first["client"]) == ("bot", "open-webui:user-7")
    assert first["at"] == "2025-10-09T08:53:20+00:00"
    assert said(ft, second["uid"]) == [
        ("user", "When do you open?"),
        ("assistant", "From nine to five."),
    ]
    assert said(ft, third["uid"]) == [
        ("user", "When do you open?"),
        ("assistant", "From nine to five."),
        ("user", CHINESE[0]),
        ("assistant", CHINESE[1]),
    ]


def test_feedback_of_open_webui_brings_its_rating_to_the_answer_in_the_snapshot(ft, bring):
    chat = a_chat({**OPEN, **an_answer(), **an_answer("a2", content="Never.")})
    assert bring("feedback.json", [feedback(chat, "a2", -1)]) == (1, 0, 0)
    (row,) = rows(ft)
    assert (row["answer"], row["rating"], row["place"]) == (
        "Never.",
        "down",
        "feedback.json#chat-1/a2",
    )
    (opinion,) = show(ft)["feedback"]
    assert (opinion["by"], opinion["at"]) == ("open-webui:user-7", "2025-10-09T08:56:40+00:00")


def test_feedback_on_a_chat_that_was_imported_before_adds_only_the_rating(ft, bring):
    chat = a_chat({**OPEN, **an_answer()})
    assert bring("chats.json", [chat]) == (1, 0, 0)
    for _ in range(2):
        assert bring("feedback.json", [feedback(chat, "a1", 1)]) == (0, 1, 0)
    assert [f["rating"] for f in show(ft)["feedback"]] == ["up"]
    assert bring("feedback.json", [feedback(chat, "a1", -1)]) == (0, 1, 0)
    assert [f["rating"] for f in show(ft)["feedback"]] == ["down", "up"]


def test_who_answered_in_the_arena_is_the_model_that_was_selected(ft, bring):
    arena = an_answer(arena=True, model="arena-model", selectedModelId="bot:v1")
    bring("export.json", [a_chat({**OPEN, **arena})])
    assert rows(ft)[0]["model"] == "bot:v1"


def test_the_system_prompt_of_a_chat_and_the_pictures_of_a_question_come_along(ft, bring):
    picture = message("u1", None, "user", "What is it?", files=[{"type": "image", "url": "data:x"}])
    bring("export.json", [a_chat({**picture, **an_answer()}, params={"system": "Be kind."})])
    assert said(ft)[0] == ("system", "Be kind.")
    assert set(show(ft)["messages"][1]["images"][0]) == {"sha256"}


def test_thinking_and_tool_calls_of_open_webui_stand_beside_the_answer(ft, bring):
    content = (
        '<details type="reasoning" done="true" duration="2">\n<summary>Thought for 2 seconds'
        "</summary>\n&gt; Is 9 &lt; 10?\n&gt; Yes.\n</details>\n"
        '<details type="tool_calls" done="true" id="c1" name="clock" arguments="&quot;{}&quot;" '
        'result="&quot;9&quot;">\n<summary>Tool Executed</summary>\n</details>\nAt nine.\n'
        "<details><summary>More</summary>Doors</details>"
    )
    follow = {**message("u2", "a1", "user", "Why?"), **an_answer("a2", "u2", "So it is.")}
    bring("export.json", [a_chat({**OPEN, **an_answer(content=content), **follow})])
    first, second = rows(ft)
    assert first["answer"] == "At nine.\n<details><summary>More</summary>Doors</details>"
    assert first["thinking"] == "Is 9 < 10?\nYes."
    call = show(ft, first["uid"])["messages"][-1]["tool_calls"]
    assert call == [{"function": {"name": "clock"}}]
    assert said(ft, second["uid"])[1] == ("assistant", first["answer"])


def test_an_answer_that_broke_off_is_incomplete(ft, bring):
    messages = {
        **OPEN,
        **an_answer("a1", done=False),
        **an_answer("a2", error={"content": "out of memory"}),
        **an_answer("a3", content="Uh-oh! There was an issue.", error=True),
        **an_answer("a4", content='<details type="reasoning" done="false">\n> Hm'),
    }
    assert bring("export.json", [a_chat(messages)]) == (2, 0, 2)
    assert {row["status"] for row in rows(ft)} == {"incomplete"}


def test_a_chat_that_has_only_a_list_of_messages_is_read_too(ft, bring):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    more = [
        {"role": "user", "content": "Hey"},
        turns[1],
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Ciao"},
    ]
    chats = [{"title": "a", "chat": {"messages": turns}}, {"title": "b", "messages": more}]
    assert bring("old.json", chats) == (3, 0, 0)
    assert bring("old.json", chats) == (0, 3, 0)
    assert [row["place"] for row in rows(ft)] == [f"old.json#{at}" for at in ("1/1", "2/1", "2/3")]
    assert said(ft)[-2:] == [("user", "Bye"), ("assistant", "Ciao")]


RING = {**message("u1", "a1", "user", "Q"), **an_answer()}
ODD_CHATS = {
    "no object": 5,
    "nothing": {},
    "chat is a text": {"chat": "x"},
    "history is a list": {"chat": {"history": []}},
    "messages are a list": {"chat": {"history": {"messages": [1]}}},
    "a message is null": a_chat({"u1": None, **an_answer()}),
    "no parent": a_chat(an_answer(parent=None)),
    "a parent that is missing": a_chat({**OPEN, **an_answer(parent="u9")}),
    "a first message that is missing": a_chat({**message("u1", "u0", "user", "Q"), **an_answer()}),
    "a parent of a wrong type": a_chat({**OPEN, **an_answer(parent=["u1"])}),
    "a ring": a_chat(RING),
    "its own parent": a_chat({**OPEN, **an_answer(parent="a1")}),
    "content is an object": a_chat({**OPEN, **an_answer(content={"a": 1})}),
    "content is null": a_chat({**OPEN, **an_answer(content=None)}),
    "the question is a number": a_chat({**message("u1", None, "user", 3), **an_answer()}),
    "the question is empty": a_chat({**message("u1", None, "user", ""), **an_answer()}),
    "the role is a list": a_chat({**message("u1", None, ["user"], "Q"), **an_answer()}),
    "feedback without a chat": feedback(a_chat({}), "a1", 1, snapshot=None),
    "feedback on no message": feedback(a_chat({**OPEN, **an_answer()}), "a9", 1),
    "feedback with wrong types": feedback(a_chat({}), ["a1"], 1, meta=[], data="x"),
}


@pytest.mark.parametrize("odd", ODD_CHATS.values(), ids=ODD_CHATS.keys())
def test_an_odd_chat_is_passed_over_whole_and_the_next_one_comes(ft, bring, odd):
    assert bring("export.json", [odd, a_chat({**OPEN, **an_answer()}, "good")]) == (1, 0, 1)
    assert rows(ft)[0]["place"] == "export.json#good/a1"


def test_odd_values_beside_an_answer_do_not_stop_it(ft, bring):
    odd = an_answer(annotation=[1], timestamp={"a": 1}, done="yes", model=["bot"])
    assert bring("export.json", [a_chat({**OPEN, **odd})]) == (1, 0, 0)
    (row,) = rows(ft)
    assert (row["model"], row["rating"], row["status"]) == ("", None, "complete")


@pytest.mark.parametrize("rating", [0, None, "x", [1], {"a": 1}, 2, True, 1.5])
def test_a_rating_that_is_neither_up_nor_down_is_none(ft, bring, rating):
    bring("export.json", [a_chat({**OPEN, **an_answer(annotation={"rating": rating})})])
    assert rows(ft)[0]["rating"] is None


def test_a_file_of_open_webui_that_is_broken_is_refused_and_adds_nothing(ft, tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps([a_chat({**OPEN, **an_answer()})])[:-1])
    assert "export.json is no JSON" in ft("logs", "import", path, code=2)
    path.write_text("[" * 100_000)
    assert "nested too deeply" in ft("logs", "import", path, code=2)
    assert rows(ft) == []
