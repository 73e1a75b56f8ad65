"""What goes through the proxy, and what it remembers of it."""

import json
import sqlite3
import threading
import time

import httpx
import pytest
from click.testing import CliRunner

from ollama_ft.cli.app import cli
from ollama_ft.core.catalog import append, newest
from ollama_ft.core.logbook import conversation, find_exchange, open_log
from ollama_ft.core.records import Intent, Promotion
from tests.rows import a_family, a_version
from tests.serving import a_front, an_upstream, eventually


@pytest.fixture
def upstream():
    with an_upstream() as made:
        yield made


@pytest.fixture
def front(home, bot, upstream):
    with a_front(home, upstream.address) as made:
        yield made


@pytest.fixture
def bot(db):
    """bot: v0, and v1, which is live."""
    family = a_family(db)
    versions = [a_version(db, family, number) for number in (0, 1)]
    go_live(db, versions[1])
    return versions


def go_live(db, version):
    """A promotion's rows, without a runtime whose tag would be moved."""
    move = {"family": version.family, "version": version.key, "action": "promote", "parent": None}
    intent = append(db, Intent(**move, reason=""))
    append(db, Promotion(**move, reason="", intent=intent.key, outcome="done", digest=""))


# --- through ---


def test_what_is_not_understood_goes_through_byte_for_byte(front, upstream):
    body = bytes(range(256)) * 300
    headers = {"X-Anything": "Grüße".encode(), "Content-Type": "application/octet-stream"}
    answer = front.http.post("/api/blobs/sha256:0?x=%2F&y", content=body, headers=headers)
    method, path, seen, content = upstream.last()
    assert (method, path, content) == ("POST", "/api/blobs/sha256:0?x=%2F&y", body)
    assert seen["x-anything"].encode("latin-1").decode() == "Grüße"
    assert answer.json() == {"model": None, "bytes": len(body)}
    assert answer.headers["content-type"] == "application/json"


def test_an_upload_of_unknown_length_is_streamed(front, upstream):
    pieces = [b"a" * 70_000, b"b" * 5, b"c"]
    answer = front.http.post("/api/blobs/sha256:1", content=iter(pieces))
    assert answer.json()["bytes"] == sum(map(len, pieces))


def test_a_model_of_no_family_is_answered_with_the_runtimes_own_bytes(front, upstream):
    asked = {"model": "other", "messages": [{"role": "user", "content": "hi"}]}
    direct = httpx.post(f"{upstream.address.url}/api/chat", json=asked, trust_env=False)
    assert front.http.post("/api/chat", json=asked).content == direct.content


def test_tools_and_images_reach_the_runtime_as_they_were_sent(front, upstream):
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"a": 1.0}}}]
    message = {"role": "user", "content": "see", "images": ["aGVsbG8="]}
    raw = json.dumps(
        {"tools": tools, "model": "bot", "messages": [message], "options": {"x": 1e-5}}
    )
    front.http.post("/api/chat", content=raw.encode())
    assert upstream.last()[3].decode() == raw.replace('"model": "bot"', '"model": "bot:v1"')


def test_an_answer_arrives_piece_by_piece(front, upstream):
    upstream.delay = 0.1
    started, times = time.monotonic(), []
    asked = {"model": "bot", "messages": [{"role": "user", "content": "one two three"}]}
    with front.http.stream("POST", "/api/chat", json=asked) as answer:
        times += [time.monotonic() - started for _ in answer.iter_raw()]
    assert len(times) >= 5
    assert times[0] < times[-1] - 0.3


def test_a_client_that_goes_away_ends_the_answer_at_the_runtime(front, upstream):
    upstream.delay = 0.05
    words = " ".join(["word"] * 200)
    asked = {"model": "bot", "messages": [{"role": "user", "content": words}]}
    with front.http.stream("POST", "/api/chat", json=asked) as answer:
        next(answer.iter_raw())
    assert eventually(lambda: upstream.broken_off == ["/api/chat"])
    (row,) = front.logged(1)
    assert row["status"] == "incomplete"
    assert row["answer"].startswith("Echo:")


def test_an_answer_that_breaks_off_breaks_for_the_client_too_and_is_kept_as_incomplete(front):
    with pytest.raises(httpx.RemoteProtocolError):
        front.chat("please break")
    (row,) = front.logged(1)
    assert (row["status"], row["done_reason"]) == ("incomplete", "")


def test_a_refusal_goes_through_with_the_name_as_it_was_asked(front):
    answer = front.chat("refuse me")
    assert answer.status_code == 404
    assert answer.json() == {"error": "model 'bot' not found"}
    (row,) = front.logged(1)
    assert (row["status"], row["reply"], row["answer"]) == ("failed", None, "")
    assert row["error"] == "model 'bot:v1' not found"


def test_a_runtime_that_is_gone_is_told_as_such(home, bot):
    with an_upstream() as upstream:
        address = upstream.address
    with a_front(home, address) as front:
        assert front.chat("hello").status_code == 502
        assert front.logged(1)[0]["status"] == "failed"


# --- names ---


@pytest.mark.parametrize("asked", ["bot", "bot:latest", "Bot", "library/bot"])
def test_a_familys_name_means_its_live_version_and_is_given_back_as_asked(front, upstream, asked):
    answer = front.chat("hi", asked, stream=False).json()
    assert json.loads(upstream.last()[3])["model"] == "bot:v1"
    assert (answer["model"], answer["message"]["content"]) == (asked, "Echo: hi by bot:v1")
    lines = [json.loads(line) for line in front.chat("hi", asked).text.splitlines()]
    assert {line["model"] for line in lines} == {asked}


def test_a_version_that_is_named_is_the_one_that_answers(front, upstream, bot):
    front.chat("hi", "bot:v0")
    assert json.loads(upstream.last()[3])["model"] == "bot:v0"
    (row,) = front.logged(1)
    assert (row["family"], row["version"], row["version_digest"]) == (
        "bot",
        "bot:v0",
        bot[0].digest,
    )


def test_only_the_models_name_changes_in_an_answer_that_speaks_of_it(front):
    text = '{"model": "bot:v1"}'
    answer = front.chat(text, stream=False).json()
    assert answer["message"]["content"] == f"Echo: {text} by bot:v1"


def test_the_list_of_models_agrees_with_the_names(front):
    rows = {row["name"]: row["digest"] for row in front.http.get("/api/tags").json()["models"]}
    assert rows == {"bot:latest": "d1", "bot:v0": "d0", "bot:v1": "d1"}


def test_our_own_tools_speak_to_the_runtime_itself(front, upstream):
    front.http.post(
        "/api/chat",
        json={"model": "bot", "messages": [{"role": "user", "content": "a test question"}]},
        headers={"X-Ollama-FT-Direct": "1"},
    )
    assert json.loads(upstream.last()[3])["model"] == "bot"
    assert front.status()["begun"] == 0


def test_no_request_fails_while_versions_are_swapped_every_few_milliseconds(front, db, bot):
    db.execute("pragma synchronous = off")  # a full sync for each swap would make them few
    end, answers = time.monotonic() + 3, []

    def ask():
        with httpx.Client(base_url=front.url, trust_env=False, timeout=30) as http:
            while time.monotonic() < end:
                asked = {"model": "bot", "messages": [{"role": "user", "content": "hi"}]}
                answer = http.post("/api/chat", json=asked | {"stream": False})
                answers.append((answer.status_code, answer.json()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    swaps = 0
    while time.monotonic() < end:
        go_live(db, bot[swaps % 2])
        swaps += 1
        time.sleep(0.002)
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200}
    assert {body["model"] for _, body in answers} == {"bot"}
    said = {body["message"]["content"] for _, body in answers}
    assert said == {"Echo: hi by bot:v0", "Echo: hi by bot:v1"}
    assert swaps > 50
    assert len(answers) > 50
    rows = front.logged(len(answers))
    assert all(row["answer"] == f"Echo: hi by {row['version']}" for row in rows)
    digests = {row["version"]: row["version_digest"] for row in rows}
    assert digests == {f"bot:v{n}": v.digest for n, v in enumerate(bot)}


def test_a_promotion_counts_from_the_next_request_on(front, db, bot):
    assert "by bot:v1" in front.chat("hi", stream=False).text
    go_live(db, bot[0])
    assert newest(db, Promotion).version == bot[0].key
    assert "by bot:v0" in front.chat("hi", stream=False).text


# --- what is remembered ---


def test_an_exchange_is_remembered_with_all_that_belongs_to_it(front, bot):
    answer = front.http.post(
        "/api/chat",
        json={
            "model": "bot",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "please think"},
            ],
            "options": {"temperature": 0},
        },
        headers={"X-Ollama-FT-Client": "till-2"},
    )
    (row,) = front.logged(1)
    assert row["uid"] == answer.headers["x-ollama-ft-exchange"]
    assert row["question_text"] == "please think"
    assert row["answer"] == "Echo: please think by bot:v1 "
    assert row["thinking"] == "Hm. "
    wanted = {
        "family": "bot",
        "version": "bot:v1",
        "version_digest": bot[1].digest,
        "model": "bot",
        "client": "till-2",
        "path": "/api/chat",
        "prompt_tokens": 7,
        "answer_tokens": 3,
        "done_reason": "stop",
        "status": "complete",
        "source": "proxy",
        "context_json": "[]",
    }
    assert {name: row[name] for name in wanted} == wanted
    assert json.loads(row["options_json"]) == {"options": {"temperature": 0}}
    assert 0 < row["first_ms"] <= row["total_ms"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions", "/v1/completions"])
def test_every_path_that_asks_is_understood(front, path, stream):
    asked = (
        {"messages": [{"role": "user", "content": "why"}]} if "chat" in path else {"prompt": "why"}
    )
    front.http.post(path, json={"model": "bot", "stream": stream, **asked})
    (row,) = front.logged(1)
    assert (row["path"], row["question_text"]) == (path, "why")
    assert row["answer"].strip() == "Echo: why by bot:v1"
    assert (row["status"], row["done_reason"]) == ("complete", "stop")


def test_a_conversation_that_goes_on_shares_its_messages(front):
    turns = []
    for text in ("one", "two", "three"):
        turns.append({"role": "user", "content": text})
        asked = {"model": "bot", "messages": turns, "stream": False}
        turns.append(
            front.http.post("/api/chat", json=asked).json()["message"] | {"role": "assistant"}
        )
    rows = front.logged(3)
    db = open_log(front.home.log)
    assert db.table("messages").count == 6
    said = [turn.content for turn in conversation(db, find_exchange(db, "last").reply)]
    assert said == [turn["content"] for turn in turns]
    assert [row["question_text"] for row in rows] == ["one", "two", "three"]
    db.close()


def test_what_asks_nothing_is_not_remembered(front):
    front.http.post("/api/generate", json={"model": "bot", "prompt": ""})
    front.http.post("/api/chat", json={"model": "bot", "messages": []})
    front.http.post("/api/embed", json={"model": "bot", "input": "x"})
    no_log = {"X-Ollama-FT-No-Log": "1"}
    asked = {"model": "bot", "prompt": "secret"}
    assert (
        "x-ollama-ft-exchange"
        not in front.http.post("/api/generate", json=asked, headers=no_log).headers
    )
    assert front.status()["begun"] == 0


def test_our_headers_do_not_reach_the_runtime(front, upstream):
    front.http.post(
        "/api/generate", json={"model": "bot", "prompt": "x"}, headers={"X-Ollama-FT-Client": "me"}
    )
    assert not [name for name in upstream.last()[2] if name.startswith("x-ollama-ft")]


def test_what_is_personal_is_taken_out_before_anything_is_written(front):
    front.chat("Write to ada@example.org and to bob@example.org, then to ada@example.org")
    (row,) = front.logged(1)
    assert row["question_text"] == "Write to [EMAIL_1] and to [EMAIL_2], then to [EMAIL_1]"
    assert "[EMAIL_1]" in row["answer"]
    assert row["redacted"] == 2
    files = [p for p in front.home.log.parent.iterdir() if p.name.startswith("log.")]
    assert files
    assert not [p for p in files if b"ada@example" in p.read_bytes()]


def test_half_a_surrogate_pair_does_not_end_the_memory(front):
    for question in ("a \ud83d b", "and then"):
        message = {"role": "user", "content": question}
        body = json.dumps({"model": "bot", "messages": [message]})  # escaped, as a client may
        front.http.post("/v1/chat/completions", content=body.encode())
    rows = front.logged(2)
    assert sorted(row["question_text"] for row in rows) == ["a \ufffd b", "and then"]


def test_images_are_remembered_by_their_digest(front):
    front.http.post("/api/generate", json={"model": "bot", "prompt": "see", "images": ["aGVsbG8="]})
    (row,) = front.logged(1)
    db = open_log(front.home.log)
    (turn,) = conversation(db, row["prompt"])
    assert turn.extra["images"][0]["characters"] == 8
    assert "aGVsbG8=" not in json.dumps(turn.extra)
    db.close()


def test_tool_calls_that_come_in_pieces_are_put_together():
    from ollama_ft.runtime.heard import Overheard, hear

    def delta(*calls):
        return (
            b"data: "
            + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}).encode()
            + b"\n\n"
        )

    pieces = [
        delta({"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"x"'}}),
        delta(
            {"index": 0, "function": {"arguments": ":1}"}},
            {"index": 1, "id": "b", "function": {"name": "go", "arguments": ""}},
        ),
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    kept = Overheard(
        uid="u",
        at="t",
        path="/v1/chat/completions",
        body=body,
        client="",
        family="",
        version="",
        version_digest="",
        status=200,
        pieces=pieces,
    )
    heard = hear(kept)
    calls = [
        (c["id"], c["function"]["name"], c["function"]["arguments"])
        for c in heard.reply.extra["tool_calls"]
    ]
    assert calls == [("a", "look", '{"x":1}'), ("b", "go", "")]
    assert (heard.status, heard.done_reason) == ("complete", "tool_calls")


# --- who may call ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:11435"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "app://obsidian"}, 200),
    ],
)
def test_names_and_pages_of_elsewhere_are_turned_away(front, headers, status):
    assert front.http.get("/api/version", headers=headers).status_code == status


def test_a_token_is_wanted_by_every_path_and_never_passed_on(home, bot, upstream):
    with a_front(home, upstream.address, token="s3cret") as front:
        for path in ("/api/version", "/ollama-ft/status"):
            assert front.http.get(path).status_code == 401
            wrong = {"Authorization": "Bearer wrong"}
            assert front.http.get(path, headers=wrong).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert front.http.get("/api/version", headers=right).status_code == 200
        assert "authorization" not in upstream.last()[2]
        assert len(upstream.requests) == 1


def test_a_token_may_be_of_any_letters(home, bot, upstream):
    with a_front(home, upstream.address, token="schlüssel-钥匙") as front:
        for token, status in (("schlüssel-钥匙", 200), ("schlussel", 401)):
            headers = {"Authorization": f"Bearer {token}".encode()}
            assert front.http.get("/api/version", headers=headers).status_code == status


def test_feedback_is_refused_in_words_where_it_is_too_long_or_the_log_cannot_be_read(
    front, monkeypatch
):
    def locked(*_, **__):
        raise sqlite3.OperationalError("database is locked")

    long = front.http.post("/ollama-ft/feedback", content=b" " * (2 << 20))
    assert (long.status_code, "too long" in long.json()["error"]) == (400, True)
    monkeypatch.setattr("ollama_ft.serve.desk.open_log", locked)
    answer = front.http.post("/ollama-ft/feedback", json={"id": "1", "rating": "up"})
    assert answer.status_code == 503
    assert "locked" in answer.json()["error"]


def test_without_a_token_it_does_not_listen_beyond_this_machine():
    from ollama_ft.core.errors import BadInput
    from ollama_ft.serve.guard import Doorkeeper

    with pytest.raises(BadInput) as caught:
        Doorkeeper(listen="0.0.0.0")
    assert "OLLAMA_FT_TOKEN" in caught.value.mend
    assert Doorkeeper(listen="0.0.0.0", token="x", names=["bot.example"]).knows("bot.example:80")


def test_a_second_one_on_the_same_home_says_what_to_do(front):
    arguments = ["--home", str(front.home.path), "--host", "127.0.0.1:1", "serve", "--port", "0"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert "runs on this home already" in result.output
    assert "try: use that one, or stop it first" in result.output


def test_our_own_runtime_answers_in_the_same_process(home, bot):
    with a_front(home, None) as front:
        assert front.http.get("/api/version").json()["runtime"] == "ollama-ft"
        refused = front.chat("Who?")
        assert (refused.status_code, "bot:v1" in refused.text) == (404, False)
        (row,) = front.logged(1)
        assert (row["version"], row["status"]) == ("bot:v1", "failed")
