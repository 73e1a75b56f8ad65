"""Embeddings: /api/embed and the older /api/embeddings."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.asks import Json, optional, seconds, value
from ollama_ft.runtime.embedded.engine import Engine
from ollama_ft.runtime.embedded.library import Model
from ollama_ft.runtime.embedded.options import merged
from ollama_ft.runtime.embedded.talk import Room

_NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"


@dataclass(frozen=True, kw_only=True)
class EmbedAsk:
    """A request for embeddings of one or more texts."""

    model: str
    texts: tuple[str, ...]
    truncate: bool = True
    dimensions: int = 0  # 0: all
    options: Json = field(default_factory=dict)
    keep_alive: float | None = None


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Vectors of length one, (texts, dimensions), and the tokens that were read. Times in
    nanoseconds."""

    vectors: tuple[tuple[float, ...], ...]
    tokens: int
    total: int
    load: int


def embed_ask(body: Json) -> EmbedAsk:
    """Read a request to /api/embed. Raises RuntimeRefused (400)."""
    return EmbedAsk(
        model=value(body, "model", str, ""),
        texts=_texts(body.get("input")),
        truncate=value(body, "truncate", bool, True),
        dimensions=max(value(body, "dimensions", int, 0), 0),
        options=value(body, "options", dict, {}),
        keep_alive=seconds(body.get("keep_alive")),
    )


async def embed(room: Room, ask: EmbedAsk) -> Embedded:
    """The texts' embeddings.

    Raises RuntimeRefused: 404 for an unknown model, 501 for one that only writes, 400 for a text
    that is too long where cutting it is not allowed.
    """
    started = time.monotonic_ns()
    model = room.library.find(ask.model)
    if model is None:
        raise RuntimeRefused(f'model "{ask.model}" not found, try pulling it first', status=404)
    options = merged(model.parameters, ask.options)
    if not ask.texts:
        return Embedded(vectors=(), tokens=0, total=0, load=0)
    if not model.facts.is_encoder:
        raise RuntimeRefused(_NO_EMBEDDINGS, status=501)
    async with room.pool.engine(model, options.context, ask.keep_alive) as engine:
        loaded = time.monotonic_ns()
        tokens = [await _tokens(engine, model, text, ask.truncate) for text in ask.texts]
        found = await engine.post("/embedding", {"content": tokens})
    vectors = tuple(_unit(vector, ask.dimensions) for vector in _vectors(found, len(tokens)))
    return Embedded(
        vectors=vectors,
        tokens=sum(map(len, tokens)),
        total=time.monotonic_ns() - started,
        load=loaded - started,
    )


def embed_reply(ask: EmbedAsk, done: Embedded) -> Json:
    """/api/embed's answer; what is zero is left out, as Go does."""
    counts = {
        "total_duration": done.total,
        "load_duration": done.load,
        "prompt_eval_count": done.tokens,
    }
    shown = {key: count for key, count in counts.items() if count}
    return {"model": ask.model, "embeddings": [single(vector) for vector in done.vectors]} | shown


def legacy_ask(body: Json) -> EmbedAsk:
    """Read a request to /api/embeddings. Raises RuntimeRefused (400)."""
    prompt = optional(body, "prompt", str)
    return EmbedAsk(
        model=value(body, "model", str, ""),
        texts=(prompt,) if prompt else (),
        options=value(body, "options", dict, {}),
        keep_alive=seconds(body.get("keep_alive")),
    )


def single(vector: Sequence[float]) -> list[float]:
    """The numbers with the few digits that name a float32."""
    return [float(str(np.float32(number))) for number in vector]


async def _tokens(engine: Engine, model: Model, text: str, truncate: bool) -> list[int]:
    tokens = await engine.tokenize(text)
    limit = min(engine.plan.context, model.facts.context_length or engine.plan.context)
    if len(tokens) <= limit:
        return tokens
    if not truncate:
        raise RuntimeRefused("the input length exceeds the context length", status=400)
    return [*tokens[: limit - 1], tokens[-1]]  # the last one ends the text, as SEP does


def _vectors(found: object, count: int) -> list[list[float]]:
    """llama.cpp answers a list of {"index", "embedding": [[…]]}."""
    assert isinstance(found, list) and len(found) == count
    rows = sorted(found, key=lambda row: row["index"])
    return [row["embedding"][0] for row in rows]


def _unit(vector: Sequence[float], dimensions: int) -> tuple[float, ...]:
    kept = vector[:dimensions] if dimensions else vector
    length = math.sqrt(sum(number * number for number in kept)) or 1.0
    return tuple(number / length for number in kept)


def _texts(wish: object) -> tuple[str, ...]:
    if wish is None or wish == "":
        return ()
    if isinstance(wish, str):
        return (wish,)
    if isinstance(wish, list) and all(isinstance(text, str) for text in wish):
        return tuple(wish)
    raise RuntimeRefused("invalid input type", status=400)
