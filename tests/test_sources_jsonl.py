"""Lines of JSON come in: requests to OpenAI's or Ollama's API with their answers."""

import json

import pytest

from tests.elsewhere import (
    CHINESE,
    OPEN,
    a_chat,
    an_answer,
    answered,
    asked,
    importer,
    lines,
    rows,
    said,
)


@pytest.fixture
def bring(ft, tmp_path):
    return importer(ft, tmp_path)


FORMS = {
    "a request and its answer, OpenAI": {"request": asked(), "response": answered()},
    "an answer in the request's line, OpenAI": {**asked(), **answered()},
    "a completion, OpenAI": {
        "request": {"model": "m", "prompt": "When do you open?"},
        "response": {"choices": [{"index": 0, "text": "At nine.", "finish_reason": "stop"}]},
    },
    "a line of a batch, OpenAI": {
        "id": "batch_req_1",
        "custom_id": "1",
        "body": asked(),
        "response": {"status_code": 200, "body": {"model": "m", **answered()}},
        "error": None,
    },
    "a request of a batch with its answer": {
        "request": {"custom_id": "1", "method": "POST", "body": asked()},
        "response": {"status_code": 200, "body": answered()},
    },
    "parts instead of a text": {
        "request": asked([{"type": "text", "text": "When do you open?"}]),
        "response": answered(),
    },
    "chat, Ollama": {
        "request": asked(stream=False),
        "response": {"message": {"role": "assistant", "content": "At nine."}, "done": True},
    },
    "chat in one line, Ollama": {
        **asked(),
        "message": {"role": "assistant", "content": "At nine."},
        "done": True,
    },
    "generate, Ollama": {
        "request": {"model": "m", "prompt": "When do you open?"},
        "response": {"model": "m", "response": "At nine.", "done": True},
    },
    "generate in one line, Ollama": {
        "model": "m",
        "prompt": "When do you open?",
        "response": "At nine.",
    },
    "messages that end with the answer": {
        "model": "m",
        "messages": [*asked()["messages"], {"role": "assistant", "content": "At nine."}],
        "choices": None,
    },
    "an answer in words": {**asked(), "answer": "At nine."},
}


@pytest.mark.parametrize("row", FORMS.values(), ids=FORMS.keys())
def test_each_form_of_a_line_is_read_with_its_place(ft, bring, row):
    assert bring("old.jsonl", "\n" + lines(row)) == (1, 0, 0)
    (found,) = rows(ft)
    assert (found["question"], found["answer"]) == ("When do you open?", "At nine.")
    assert (found["model"], found["status"]) == ("m", "complete")
    assert (found["source"], found["place"]) == ("jsonl", "old.jsonl#2")
    assert said(ft) == [("user", "When do you open?"), ("assistant", "At nine.")]


def test_what_stands_beside_a_request_comes_along(ft, bring):
    response = {"created": 1_760_000_000, "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    row = {"request": asked(temperature=0.5, user="till"), "response": answered() | response}
    ollama = {
        "model": "m",
        "prompt": "Why?",
        "response": "So.",
        "created_at": "2026-01-02T03:04:05.678Z",
        "done_reason": "length",
        "prompt_eval_count": 7,
        "eval_count": 3,
        "thinking": "Hm.",
        "total_duration": 5,
    }
    bring("old.jsonl", lines(row, ollama))
    first, second = rows(ft)
    assert (first["client"], first["options"]["temperature"]) == ("till", 0.5)
    assert (first["prompt_tokens"], first["answer_tokens"]) == (9, 4)
    assert first["at"] == "2025-10-09T08:53:20+00:00"
    assert (second["prompt_tokens"], second["answer_tokens"]) == (7, 3)
    assert (second["done_reason"], second["thinking"]) == ("length", "Hm.")
    assert (second["at"], second["options"]) == ("2026-01-02T03:04:05+00:00", {})


@pytest.mark.parametrize(
    ("beside", "rating", "correction"),
    [
        ({"rating": "up"}, "up", None),
        ({"rating": 1}, "up", None),
        ({"rating": -1.0}, "down", None),
        ({"feedback": "Bad"}, "down", None),
        ({"rating": "down", "correction": " At ten. "}, "corrected", "At ten."),
        ({"rating": 0, "feedback": {"a": 1}, "correction": 7}, None, None),
    ],
)
def test_ratings_and_corrections_of_lines_come_along(ft, bring, beside, rating, correction):
    bring("old.jsonl", lines({"request": asked(), "response": answered(), **beside}))
    (row,) = rows(ft)
    assert (row["rating"], row["correction"] or None) == (rating, correction)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('{"messages": [', "is no JSON"),
        ("plain words", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"x": ' + "[" * 150 + "]" * 150 + "}", "is nested too deeply"),
    ],
)
def test_a_bad_line_is_named_and_exits_with_2(ft, tmp_path, bad, why):
    path = tmp_path / "old.jsonl"
    good = lines({"request": asked(), "response": answered()}).encode()
    path.write_bytes(good * 2 + (bad if isinstance(bad, bytes) else bad.encode()) + b"\n" + good)
    output = ft("logs", "import", path, code=2)
    assert "old.jsonl, line 3," in output
    assert why.removeprefix("is ") in output
    assert "Exit codes: 0 ok, 1 failed, 2 usage" in ft("--help")


ODD_LINES = {
    "a list": [1],
    "nothing": {},
    "no answer": asked(),
    "an answer without a question": {"response": answered()},
    "an empty answer": {"request": asked(), "response": answered("")},
    "an error": {"request": asked(), "response": {"error": {"message": "no such model"}}},
    "a batch that failed": {
        "body": asked(),
        "response": {"status_code": 500, "body": {"error": {"message": "x"}}},
    },
    "messages that are none": {"request": {"messages": "hi"}, "response": answered()},
    "half of the messages": {
        "request": {"messages": ["hi", *asked()["messages"]]},
        "response": answered(),
    },
    "choices that are none": {"request": asked(), "response": {"choices": 5}},
    "only a system prompt": {
        "request": {"messages": [{"role": "system", "content": "x"}]},
        "response": answered(),
    },
}


@pytest.mark.parametrize("odd", ODD_LINES.values(), ids=ODD_LINES.keys())
def test_a_line_without_a_question_and_an_answer_is_passed_over(ft, bring, odd):
    assert bring("old.jsonl", lines({"x": 1}, odd)) == (0, 0, 2)
    assert rows(ft) == []


def test_odd_values_beside_a_line_do_not_stop_it(ft, bring):
    odd = {
        "request": asked(model=None, user={"a": 1}, seed=10**30),
        "response": {**answered(), "usage": {"prompt_tokens": 10**30, "completion_tokens": True}},
        "at": float("inf"),
        "timestamp": "9" * 400,
        "id": {"a": "b"},
        "client": ["x"],
    }
    assert bring("old.jsonl", lines(odd)) == (1, 0, 0)
    (row,) = rows(ft)
    assert (row["model"], row["client"], row["prompt_tokens"]) == ("", "jsonl", None)


def test_half_a_surrogate_pair_does_not_stop_an_import_and_is_shown_as_lost(ft, bring):
    row = {"id": "\ud83d", "request": asked("a \ud83d b", user="\ude00"), "response": answered()}
    assert bring("old.jsonl", json.dumps(row)) == (1, 0, 0)
    assert bring("old.jsonl", json.dumps(row)) == (0, 1, 0)
    assert rows(ft)[0]["question"] == "a \ufffd b"


def test_an_answer_that_is_not_done_is_incomplete(ft, bring):
    message = {"role": "assistant", "content": "At"}
    bring("old.jsonl", lines({"request": asked(), "response": {"message": message, "done": False}}))
    assert rows(ft, "--incomplete")[0]["answer"] == "At"


def test_lines_of_two_files_that_count_from_one_are_not_taken_for_each_other(ft, bring):
    one = {"id": 1, "request": asked("a"), "response": answered()}
    two = {"id": 1, "request": asked("b"), "response": answered()}
    assert bring("one.jsonl", lines(one)) == (1, 0, 0)
    assert bring("two.jsonl", lines(two)) == (1, 0, 0)
    assert bring("both.jsonl", lines(one, two)) == (0, 2, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("old.jsonl", lines({"request": asked(*CHINESE[:1]), "response": answered(CHINESE[1])})),
        ("export.json", json.dumps([a_chat({**OPEN, **an_answer(content=CHINESE[1])})])),
    ],
)
def test_a_byte_order_mark_is_passed_over(ft, bring, name, content):
    assert bring(name, b"\xef\xbb\xbf" + content.encode()) == (1, 0, 0)
    assert rows(ft)[0]["answer"] == CHINESE[1]
