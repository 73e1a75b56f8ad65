"""The client: what it makes of a real server's recorded answers, and of broken ones."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import RuntimeRefused, RuntimeUnavailable
from ollama_ft.core.files import digest_file
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.host import parse_host

RECORDS = json.loads((Path(__file__).parent / "data" / "ollama_answers.json").read_text())
HELLO = [Message(role="user", content="Hello")]
Answerer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answerer, **options: str) -> Ollama:
    return Ollama(parse_host(""), transport=httpx.MockTransport(answer), **options)


def recorded(name: str) -> Ollama:
    record = RECORDS[name]

    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == (record["method"], record["path"])
        return httpx.Response(record["status"], text="\n".join(record["lines"]) + "\n")

    return client_of(answer)


def lines(*rows: object) -> httpx.Response:
    return httpx.Response(
        200, text="".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )


# What a real Ollama 0.33 said


def test_show_of_a_real_server_gives_the_digests_of_base_and_adapter():
    shown = recorded("037-show-adapter-a").show("smol-a:v1")
    assert shown.base_blob.startswith("sha256:941f309b54ca")
    assert shown.base_path == f"/models/blobs/{shown.base_blob.replace(':', '-')}"
    assert [digest[:19] for digest in shown.adapter_blobs] == ["sha256:307371ca44c3"]
    assert shown.architecture == "llama"
    assert shown.details.quantization_level == "Q4_1"
    assert shown.parameters == {"stop": ["<|im_start|>", "<|im_end|>"]}
    assert shown.capabilities == ("completion",)


def test_show_of_a_full_model_gives_every_text():
    shown = recorded("038-show-adapter-b").show("smol-b:v1")
    assert shown.system == "You answer in one word."
    assert shown.license == "Apache-2.0 text here"
    assert shown.parameters == {
        "temperature": 0,
        "num_ctx": 1024,
        "seed": 7,
        "stop": ["<|im_end|>", "<|im_start|>"],
    }
    assert [m.content for m in shown.messages] == ["Colour of the sky?", "Blue."]
    assert shown.template.endswith("{{ .Response }}<|im_end|>\n")


def test_a_system_text_that_looks_like_a_modelfile_names_no_blob():
    hostile = f"FROM /models/blobs/sha256-{'a' * 64}"
    modelfile = f'# made\n\nFROM /x/sha256-{"b" * 64}\nSYSTEM """hi\nADAPTER /x/sha256-{"c" * 64}\n{hostile}"""\n'
    client = client_of(lambda _: httpx.Response(200, json={"modelfile": modelfile}))
    shown = client.show("m")
    assert shown.layers == (f"sha256:{'b' * 64}",)


def test_tags_and_ps_of_a_real_server():
    tags = recorded("043-tags-after-adapters").tags()
    assert [tag.name for tag in tags][:2] == ["smol2:latest", "smol-a:v1"]
    assert tags[1].digest.startswith("cb6bfe305b28")
    assert tags[1].details.parent_model == "smol:latest"
    assert recorded("102-ps-base").ps()[0].context_length == 4096


def test_create_follows_the_progress_to_success():
    seen = []
    recorded("035-create-adapter-a-stream").create(
        "smol-a:v1", base="smol", on_progress=seen.append
    )
    assert [step.status for step in seen][-2:] == ["writing manifest", "success"]


def test_an_error_line_inside_a_status_200_is_a_refusal():
    client = recorded("320-clean-server-pull-stream")
    with pytest.raises(RuntimeRefused, match="no Location header") as caught:
        client.pull("127.0.0.1:5000/library/smol-a:v1", insecure=True)
    assert caught.value.status == 0


def test_a_refusal_has_the_servers_status_and_words():
    with pytest.raises(RuntimeRefused, match="model 'nope:latest' not found") as caught:
        recorded("040-show-unknown").show("nope")
    assert caught.value.status == 404
    assert recorded("040-show-unknown").find("nope") is None


def test_an_answer_in_pieces_with_log_probabilities():
    pieces = []
    answer = recorded("118-generate-logprobs-stream").generate(
        "smol", "Write one sentence about the sea.", logprobs=2, on_text=pieces.append
    )
    assert pieces == ["The", " sea", " is"]
    assert (answer.text, answer.done, answer.done_reason) == ("The sea is", True, "length")
    assert (answer.prompt_tokens, answer.answer_tokens) == (16, 3)
    assert answer.total_seconds == pytest.approx(0.301247676)
    assert [chance.token for chance in answer.first_token] == ["The", "In"]
    assert answer.logprobs[1].chosen.bytes == b" sea"


def test_an_answer_in_one_piece_is_read_the_same_way():
    answer = recorded("132-chat-adapter-a-nostream").chat("smol-a:v1", HELLO)
    assert answer.text.startswith(" (\n //")
    assert (answer.done, answer.model) == (True, "smol-a:v1")


# What is sent


def test_only_what_is_given_is_sent():
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return lines({"status": "success"})

    client_of(answer).create("a:v1", base="b", adapters={}, parameters={}, system="", messages=[])
    assert seen == [{"model": "a:v1", "from": "b"}]


def test_render_asks_for_the_prompt_alone_and_fixes_thinking():
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, json={"_debug_info": {"rendered_template": "<|im_start|>"}})

    assert client_of(answer).render("m", HELLO, options={"num_ctx": 8192}) == "<|im_start|>"
    assert seen[0]["_debug_render_only"] is True
    assert (seen[0]["think"], seen[0]["truncate"], seen[0]["stream"]) == (False, False, False)
    assert seen[0]["options"] == {"num_predict": 1, "num_ctx": 8192}


def test_a_runtime_that_cannot_render_is_too_old():
    client = client_of(lambda _: httpx.Response(200, json={"message": {"content": "Hi"}}))
    with pytest.raises(RuntimeUnavailable, match="does not show how it renders"):
        client.render("m", HELLO)


def test_the_api_key_is_sent_as_a_bearer():
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"version": request.headers["authorization"]})

    assert client_of(answer, api_key="s3cret").version() == "Bearer s3cret"


def test_half_a_surrogate_pair_in_a_question_is_sent_as_the_escape_it_is():
    def answer(request):
        assert b"\\udce9" in request.content
        assert request.headers["content-type"] == "application/json"
        asked = json.loads(request.content)["messages"][0]["content"]
        return lines({"message": {"content": f"{len(asked)} letters"}, "done": True})

    question = [Message(role="user", content=b"caf\xe9".decode(errors="surrogateescape"))]
    assert client_of(answer).chat("m", question).text == "4 letters"


def test_an_upload_looks_first_and_is_streamed_with_its_length(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"x" * (3 << 20))
    digest, asked, steps = digest_file(path), [], []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if request.method == "HEAD":
            return httpx.Response(404)
        assert request.headers["content-length"] == str(3 << 20)
        assert len(request.read()) == 3 << 20
        return httpx.Response(201)

    assert client_of(answer).upload_blob(digest, path, steps.append) is True
    assert asked == ["HEAD", "POST"]
    assert [step.completed >> 20 for step in steps] == [1, 2, 3]
    assert client_of(lambda _: httpx.Response(200)).upload_blob(digest, path) is False


def test_a_rejected_upload_says_why(tmp_path):
    (tmp_path / "a").write_bytes(b"x")

    def answer(request: httpx.Request) -> httpx.Response:
        record = RECORDS["022-blob-post-mismatch"]
        return (
            httpx.Response(404)
            if request.method == "HEAD"
            else httpx.Response(400, text=record["lines"][0])
        )

    with pytest.raises(RuntimeRefused, match="digest mismatch"):
        client_of(answer).upload_blob("sha256:" + "0" * 64, tmp_path / "a")


def test_many_questions_come_back_in_their_order():
    together = threading.Barrier(3, timeout=10)

    def answer(request: httpx.Request) -> httpx.Response:
        together.wait()
        said = json.loads(request.content)["messages"][0]["content"]
        return lines({"message": {"content": said.upper()}, "done": True, "done_reason": "stop"})

    asked = [[Message(role="user", content=word)] for word in ("one", "two", "three")]
    told: dict[int, str] = {}
    answers = client_of(answer).ask_many(
        "m", asked, workers=3, on_answer=lambda place, a: told.update({place: a.text})
    )
    assert [a.text for a in answers] == ["ONE", "TWO", "THREE"]
    assert told == {0: "ONE", 1: "TWO", 2: "THREE"}


def test_the_first_error_ends_many_questions():
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(400, json={"error": "no"})

    with pytest.raises(RuntimeRefused, match="no"):
        client_of(answer).ask_many("m", [HELLO] * 50, workers=1)
    assert len(asked) < 50


# What goes wrong


def test_a_stream_without_its_last_line_is_an_outcome_of_its_own():
    client = client_of(lambda _: lines({"message": {"content": "la la"}, "done": False}))
    answer = client.chat("m", HELLO)
    assert (answer.text, answer.done, answer.done_reason) == ("la la", False, "")


def test_a_create_without_success_is_a_refusal():
    client = client_of(lambda _: lines({"status": "parsing GGUF"}))
    with pytest.raises(RuntimeRefused, match="after 'parsing GGUF', without success"):
        client.create("m", base="b")


def test_unusual_line_breaks_do_not_cut_a_line():
    text = "a\u2028b\u0085c\x1dd"
    client = client_of(lambda _: lines({"response": text, "done": True}))
    assert client.generate("m", "x").text == text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>502 Bad Gateway</html>", "sent no JSON"),
        (b"[1, 2]", "sent no JSON object"),
        (b"[" * 100_000, "sent no JSON"),
        (b'{"models": "none"}', "'models' that is a str"),
        (b'{"models": [{"name": 7}]}', "'name' that is a int"),
    ],
)
def test_an_answer_that_is_no_ollamas_is_refused(body, said):
    with pytest.raises(RuntimeRefused, match=said):
        client_of(lambda _: httpx.Response(200, content=body)).tags()


def test_an_endless_line_is_not_swallowed(monkeypatch):
    monkeypatch.setattr("ollama_ft.runtime.wire.LINE_LIMIT", 1 << 16)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * (1 << 12)

    with pytest.raises(RuntimeRefused, match="sent a line of more than"):
        client_of(lambda _: httpx.Response(200, content=endless())).generate("m", "x")


def test_a_broken_connection_is_tried_again_where_that_is_safe():
    tries = []

    def flaky(request: httpx.Request) -> httpx.Response:
        tries.append(request.url.path)
        if len(tries) < 3:
            raise httpx.ReadError("reset", request=request)
        return httpx.Response(200, json={"version": "1.2.3"})

    assert client_of(flaky).version() == "1.2.3"
    assert len(tries) == 3


def test_a_broken_create_is_not_sent_twice():
    tries = []

    def flaky(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        raise httpx.ReadError("reset", request=request)

    with pytest.raises(RuntimeUnavailable, match="broke off"):
        client_of(flaky).create("m", base="b")
    assert len(tries) == 1


def test_a_name_that_is_being_replaced_is_asked_again():
    replies = [
        httpx.Response(500, json={"error": "EOF"}),
        httpx.Response(503, json={"error": "busy"}),
    ]

    def swapping(request: httpx.Request) -> httpx.Response:
        return replies.pop(0) if replies else lines({"response": "hi", "done": True})

    assert client_of(swapping).generate("m", "x").text == "hi"


def test_another_error_500_is_told_at_once():
    tries = []

    def dead(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        record = RECORDS["145-chat-adapter-wrongarch-model"]
        return httpx.Response(record["status"], text=record["lines"][0])

    with pytest.raises(RuntimeRefused, match="process has terminated") as caught:
        client_of(dead).chat("m", HELLO)
    assert (caught.value.status, len(tries)) == (500, 1)


def test_a_refused_connection_waits_only_for_a_server_that_was_there(free_port):
    client = Ollama(parse_host(f"127.0.0.1:{free_port}"))
    with pytest.raises(RuntimeUnavailable, match=f"No runtime answers at .*{free_port}") as caught:
        client.version()
    assert "ollama serve" in caught.value.mend


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_loopback_is_never_asked_through_a_proxy(monkeypatch, free_port):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    with pytest.raises(RuntimeUnavailable, match=f"No runtime answers at .*{free_port}"):
        Ollama(parse_host(f"127.0.0.1:{free_port}")).version()


# A real model


@pytest.mark.slow
def test_a_real_model_answers_renders_and_is_asked_many_things_at_once(smollm2_gguf, tmp_path):
    from ollama_ft.runtime.launch import start_embedded

    asked = [Message(role="user", content="Write one sentence about the sea.")]
    options = {"temperature": 0, "seed": 1, "num_predict": 24}
    with (
        start_embedded(tmp_path / "models", tmp_path / "log") as address,
        Ollama(address) as client,
    ):
        digest = digest_file(smollm2_gguf)
        assert client.upload_blob(digest, smollm2_gguf) is True
        client.create("smol", files={"base.gguf": digest})
        prompt = client.render("smol", asked)
        assert prompt == (
            "<|im_start|>user\nWrite one sentence about the sea.<|im_end|>\n<|im_start|>assistant\n"
        )
        pieces = []
        answer = client.chat("smol", asked, options=options, logprobs=5, on_text=pieces.append)
        # as a real Ollama answered on the same GGUF: its records 100 and 117
        assert answer.text.startswith("The sea is a vast and mysterious realm, teeming with life")
        assert (answer.done_reason, answer.prompt_tokens) == ("stop", 16)
        assert "".join(pieces) == answer.text
        first = answer.first_token
        assert (first[0].token, len(first)) == ("The", 5)
        assert first[0].logprob == pytest.approx(-0.2329, abs=0.05)
        raw = client.generate("smol", prompt, raw=True, options=options)
        assert (raw.text, raw.prompt_tokens) == (answer.text, 16)
        many = client.ask_many("smol", [asked] * 4, options=options)
        assert [one.text for one in many] == [answer.text] * 4
        assert [model.name for model in client.ps()] == ["smol:latest"]
        client.unload("smol")
        assert client.ps() == []
