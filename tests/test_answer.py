"""Generation, on an engine that says what the test wants."""

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import httpx
import pytest
from starlette.responses import StreamingResponse

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded import openai
from ollama_ft.runtime.embedded.answer import End, Piece, generate, grammar
from ollama_ft.runtime.embedded.asks import Manner
from ollama_ft.runtime.embedded.engine import Engine, Plan
from ollama_ft.runtime.embedded.options import merged

Json = dict[str, object]
Shape = Callable[[openai.Frame, openai.Lines], AsyncIterator[bytes]]


class Saying:
    """An engine that says these texts and remembers what it was asked."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.asked: Mapping[str, object] = {}

    def scales(self, adapters: Sequence[Path]) -> list[object]:
        return [{"id": 0, "scale": float(len(adapters))}]

    async def complete(
        self, body: Mapping[str, object]
    ) -> AsyncGenerator[Mapping[str, object], None]:
        self.asked = body
        for text in self.texts:
            yield {"content": text, "stop": False}
        yield {
            "content": "",
            "stop": True,
            "stop_type": "eos",
            "tokens_evaluated": 3,
            "tokens_predicted": len(self.texts) + 1,
            "timings": {"prompt_ms": 2.0, "predicted_ms": 0.5, "cache_n": 2},
        }


def said(engine: Saying, manner: Manner | None = None, **options: object) -> list[Piece | End]:
    async def collect() -> list[Piece | End]:
        pieces = generate(
            cast(Engine, engine), [1, 2, 3], (), merged(options), manner or Manner(model="m")
        )
        return [piece async for piece in pieces]

    return asyncio.run(collect())


def test_pieces_come_and_then_the_end() -> None:
    *pieces, end = said(Saying(["a", "b"]))
    assert pieces == [Piece(text="a"), Piece(text="b")]
    assert end == End(reason="stop", prompt_count=3, prompt_time=2_000_000, count=3, time=500_000)


def test_one_token_more_than_thirty_times_breaks_off_without_an_end() -> None:
    pieces = said(Saying(["x", *[" y"] * 40]))
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert len(pieces) == 33
    assert isinstance(said(Saying(["x", *[" y"] * 30]))[-1], End)


def test_a_line_of_the_engine_ends_at_its_line_feed_alone() -> None:
    rows = [{"content": "a\u2028b\u0085c"}, {"content": "", "stop": True, "prompt": "x\u2029y"}]
    sent = "".join(f"data: {json.dumps(row, ensure_ascii=False)}\n\n" for row in rows)
    answer = httpx.Response(200, content=sent.encode())
    http = httpx.AsyncClient(
        base_url="http://engine", transport=httpx.MockTransport(lambda _: answer)
    )
    engine = Engine(Plan(base=Path("x"), context=4, slots=1), cast(Process, None), http, [])

    async def collect() -> list[Mapping[str, object]]:
        return [chunk async for chunk in engine.complete({})]

    assert asyncio.run(collect()) == rows


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (openai.chat_chunks, {"message": {"content": "x"}}),
        (openai.completion_chunks, {"response": "x"}),
    ],
)
def test_only_an_answer_that_came_to_its_end_says_done(
    shape: Shape, said: Json, ended: bool
) -> None:
    async def lines() -> AsyncGenerator[Json, None]:
        yield said | {"done": False}
        if ended:
            yield said | {"done": True, "done_reason": "stop"}

    async def events() -> bytes:
        frame = openai.frame_of({"model": "m"}, "chat.completion", "x")
        response = cast(StreamingResponse, await openai.stream_events(frame, lines(), shape))
        return b"".join([bytes(event) async for event in response.body_iterator])  # type: ignore[arg-type]

    whole = asyncio.run(events())
    assert whole.endswith(b"data: [DONE]\n\n") is ended
    assert whole.count(b"[DONE]") == ended


def test_greedy_answers_do_not_use_the_cache_of_earlier_prompts() -> None:
    engine = Saying(["a"])
    said(engine, temperature=0)
    assert engine.asked["cache_prompt"] is False
    said(engine, temperature=0.7)
    assert engine.asked["cache_prompt"] is True


def test_adapters_that_are_not_the_models_are_switched_off() -> None:
    engine = Saying(["a"])
    said(engine)
    assert engine.asked["lora"] == [{"id": 0, "scale": 0.0}]


def test_a_format_becomes_a_schema() -> None:
    assert grammar(None) == {}
    assert grammar("json") == {"json_schema": {"type": "object"}}
    assert grammar({"type": "string"}) == {"json_schema": {"type": "string"}}
    with pytest.raises(RuntimeRefused, match='expected "json" or a valid JSON Schema'):
        grammar("xml")
