"""serve --rag: passages of a family's documents are put behind its questions on the way."""

import json
import threading

import pytest

from ollama_ft.core.catalog import row as chunk
from ollama_ft.core.conversation import Message
from ollama_ft.core.events import silent
from ollama_ft.core.shelf_records import Chunk
from ollama_ft.kinds.context import Passage, with_context
from ollama_ft.serve import librarian
from ollama_ft.serve.librarian import furnished, question_of
from ollama_ft.stages import knowledge as stage
from tests.rows import a_family, a_version
from tests.serving import a_front, an_upstream
from tests.test_proxy import go_live

FACTS = "# Hours\n\nWe open at nine on Sundays.\n\n# 保修\n\n水壶保修两年。\n"
PASSAGE = Passage(
    chunk=7, path="a.md", title="", heading="", page=None, text="At nine.", score=1, found_by=()
)


@pytest.fixture
def upstream():
    with an_upstream() as made:
        yield made


@pytest.fixture
def front(home, db, upstream, tmp_path):
    """In front of two families with documents for all; only the questions to bot are furnished."""
    path = tmp_path / "facts.md"
    path.write_text(FACTS)
    stage.add(db, home, [path], silent)
    for name in ("bot", "other"):
        family = a_family(db, name=name)
        a_version(db, family, 0)
        go_live(db, a_version(db, family, 1))
    with a_front(home, upstream.address, rag=("bot",)) as made:
        yield made


def sent(upstream):
    return json.loads(upstream.last()[3])


@pytest.mark.parametrize("question", ["When do you open on Sundays?", "保修多久？"])
def test_the_runtime_gets_the_passages_and_the_log_the_question_and_its_chunks(
    front,
    upstream,
    db,
    question,
):
    answer = front.chat(question, stream=False, tools=[{"type": "function"}])
    body = sent(upstream)
    (row,) = front.logged(1)
    kept = json.loads(row["context_json"])
    passages = [Passage(**{**p, "found_by": tuple(p["found_by"])}) for p in kept]
    (message,) = with_context([Message(role="user", content=question)], passages)
    assert body["messages"] == [{"role": "user", "content": message.content}]
    assert (body["model"], body["tools"]) == ("bot:v1", [{"type": "function"}])
    assert row["question_text"] == question
    assert kept
    assert all(chunk(db, Chunk, p["chunk"]).text == p["text"] for p in kept)
    assert set(answer.json()) == {"model", "created_at", "message", "done", "done_reason"} | {
        "prompt_eval_count",
        "eval_count",
    }
    assert answer.json()["model"] == "bot"


def test_other_families_and_other_models_go_through_as_they_are(front, upstream):
    for model in ("other", "smollm2:135m"):
        front.chat("When do you open on Sundays?", model=model)
        assert sent(upstream)["messages"][0]["content"] == "When do you open on Sundays?"
    assert [row["context_json"] for row in front.logged(2)] == ["[]", "[]"]


def test_a_version_by_its_number_a_prompt_and_a_list_of_parts_are_furnished_too(front, upstream):
    asked = {"model": "bot:v0", "prompt": "Open on Sundays?", "stream": False}
    front.http.post("/api/generate", json=asked)
    assert "Hours\nWe open at nine on Sundays." in sent(upstream)["prompt"]
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "Open on Sundays?"}, picture]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    front.http.post("/v1/chat/completions", json={"model": "bot", "messages": messages})
    system, user = sent(upstream)["messages"]
    assert system == messages[0]
    assert user["content"][1] == picture
    assert user["content"][0]["text"].startswith("Open on Sundays?\n\nUse this")


def test_what_is_not_remembered_is_furnished_all_the_same(front, upstream):
    asked = {"model": "bot", "messages": [{"role": "user", "content": "Open on Sundays?"}]}
    front.http.post("/api/chat", json=asked, headers={"X-Ollama-FT-No-Log": "1"})
    assert "nine on Sundays" in sent(upstream)["messages"][0]["content"]
    assert front.status()["begun"] == 0


def test_a_search_that_fails_or_hangs_never_costs_the_answer(front, upstream, monkeypatch):
    release = threading.Event()

    def fails(*_, **__):
        raise RuntimeError("the shelf has fallen")

    monkeypatch.setattr("ollama_ft.serve.knowledge.retrieve", fails)
    assert front.chat("Open on Sundays?").status_code == 200
    assert "fallen" in front.status()["rag_trouble"]
    monkeypatch.setattr(librarian, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr("ollama_ft.serve.knowledge.retrieve", lambda *_, **__: release.wait(5))
    assert front.chat("Open on Sundays?").status_code == 200
    assert "within" in front.status()["rag_trouble"]
    release.set()
    assert sent(upstream)["messages"][0]["content"] == "Open on Sundays?"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"prompt": "def f(", "suffix": ")"}),
        ("/api/generate", {"prompt": "<|im_start|>user", "raw": True}),
        ("/api/chat", {"messages": [{"role": "assistant", "content": "Hello"}]}),
        ("/api/chat", {"messages": [None, {"role": "user", "content": None}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "x"}]}]}),
    ],
)
def test_nothing_is_put_where_there_is_no_question(path, body):
    assert question_of(path, body) == ""


def test_after_a_tools_answer_the_question_before_it_is_furnished_again():
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock"}}]}
    rows = [{"role": "user", "content": "Open?"}, call, {"role": "tool", "content": "10:00"}]
    asked = question_of("/api/chat", {"messages": rows})
    made = furnished("/api/chat", {"messages": rows}, asked, [PASSAGE])
    assert made["messages"][1:] == rows[1:]
    assert "At nine." in made["messages"][0]["content"]
