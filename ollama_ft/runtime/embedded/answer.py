"""Generation: the prompt's tokens go to an engine, pieces of text and one end come back."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.asks import Manner
from ollama_ft.runtime.embedded.engine import Engine
from ollama_ft.runtime.embedded.options import Options

Json = Mapping[str, object]

_MOST_REPEATS = 30  # Ollama breaks off a generation that says the same token more often than this


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text as it comes, usually one token."""

    text: str
    logprobs: tuple[Json, ...] = ()


@dataclass(frozen=True, kw_only=True)
class End:
    """The last thing of a generation that ended by itself. Times are in nanoseconds."""

    reason: str  # "stop" | "length"
    prompt_count: int  # tokens, whether they came from the cache or not
    prompt_time: int
    count: int  # tokens of the answer, the one that ended it included
    time: int


Pieces = AsyncGenerator[Piece | End, None]


async def generate(
    engine: Engine,
    tokens: Sequence[int],
    adapters: Sequence[Path],
    options: Options,
    manner: Manner,
) -> Pieces:
    """Pieces of the answer, then one End.

    Like Ollama it breaks off without an End when one token comes more than 30 times in a row, as
    broken fine-tunes do. Raises RuntimeRefused for errors of the engine.
    """
    body = {
        **options.sampling(),
        **grammar(manner.format),
        "prompt": list(tokens),
        "n_predict": options.predict,
        "n_probs": max(1, manner.top_logprobs) if manner.logprobs else 0,
        # Tokens read one by one and in a batch differ in the last bits; greedy answers must not
        # depend on what was asked before.
        "cache_prompt": not options.is_greedy,
        "lora": engine.scales(adapters),
    }
    last, repeats = "", 0
    async with aclosing(engine.complete(body)) as chunks:
        async for chunk in chunks:
            text = str(chunk.get("content", ""))
            if text:
                yield Piece(text=text, logprobs=_logprobs(chunk, manner))
            if chunk.get("stop"):
                yield _end(chunk)
                return
            repeats = repeats + 1 if text.strip() == last else 0
            last = text.strip()
            if repeats > _MOST_REPEATS:
                return


def grammar(wish: object) -> dict[str, object]:
    """The field for a format. Raises RuntimeRefused (500) for an unknown one."""
    if wish is None:
        return {}
    if wish == "json":
        return {"json_schema": {"type": "object"}}
    if isinstance(wish, dict):
        return {"json_schema": wish}
    raise RuntimeRefused(
        f"invalid format: {json.dumps(json.dumps(wish))}; "
        'expected "json" or a valid JSON Schema object',
        status=500,
    )


def _logprobs(chunk: Json, manner: Manner) -> tuple[Json, ...]:
    found = chunk.get("completion_probabilities")
    if not manner.logprobs or not isinstance(found, list):
        return ()
    return tuple(_logprob(row, manner.top_logprobs) for row in found)


def _logprob(row: Json, top: int) -> Json:
    shown = _bare(row)
    others = row.get("top_logprobs")
    if top and isinstance(others, list):
        shown["top_logprobs"] = [_bare(other) for other in others[:top]]
    return shown


def _bare(row: Json) -> dict[str, object]:
    return {"token": row["token"], "logprob": row["logprob"], "bytes": row["bytes"]}


def _end(chunk: Json) -> End:
    timings = chunk.get("timings")
    times = timings if isinstance(timings, dict) else {}
    return End(
        reason="length" if chunk.get("stop_type") == "limit" else "stop",
        prompt_count=_whole(chunk.get("tokens_evaluated")),
        prompt_time=_nanoseconds(times.get("prompt_ms")),
        count=_whole(chunk.get("tokens_predicted")),
        time=_nanoseconds(times.get("predicted_ms")),
    )


def _whole(number: object) -> int:
    return number if isinstance(number, int) else 0


def _nanoseconds(milliseconds: object) -> int:
    return round(milliseconds * 1e6) if isinstance(milliseconds, int | float) else 0
