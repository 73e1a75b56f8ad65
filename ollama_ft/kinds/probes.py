"""Probes: places in rendered text where trainer and runtime both say what comes next.

A probe is a prompt that the runtime rendered, with the first few tokens of the right answer behind
it (none for the first token). The trainer's model is asked once, right after training, with its
adapter and without; the runtime is asked whenever the version is proved.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.kinds.rendering import behind

if TYPE_CHECKING:
    from ollama_ft.weights.tokenizer import Tokenizer

PROBED_ROWS = 8
INTO_THE_ANSWER = (0, 4)  # answer tokens that are given before the next one is asked for
TOP = 64  # likeliest tokens that are kept of each distribution
GENERAL_TOKENS = 1024  # of general text, for the perplexity

Render = Callable[[Sequence[Message]], str]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a next token is asked for: rendered text, and its tokens."""

    messages: tuple[Message, ...]
    prefix: str  # the part of the answer that is given; "" for the first token
    text: str  # the rendered prompt and the prefix
    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A place, and what the trainer's model says there: piece of text → natural-log probability."""

    messages: tuple[Message, ...]
    prefix: str
    text: str
    token_count: int
    base: dict[str, float]
    tuned: dict[str, float]


def make_probes(blob: Path, rows: Sequence[Conversation], render: Render) -> list[Place]:
    """Choose rows by digest, validation rows first, and two places in each of them."""
    tokenizer = _tokenizer(blob)
    order = sorted(rows, key=lambda row: (row.split != "validation", row.digest))
    return [
        place
        for row in order[:PROBED_ROWS]
        for given in INTO_THE_ANSWER
        if (place := _place(tokenizer, row, render(row.prompt), given)) is not None
    ]


def _tokenizer(blob: Path) -> "Tokenizer":
    from ollama_ft.weights.reader import open_gguf
    from ollama_ft.weights.tokenizer import load_tokenizer

    with open_gguf(blob) as gguf:
        return load_tokenizer(gguf)


def _place(tokenizer: "Tokenizer", row: Conversation, prompt: str, given: int) -> Place | None:
    answer = behind(tokenizer, prompt, row.answer)
    if given >= len(answer):
        return None
    prefix = tokenizer.decode(answer[:given])
    tokens = tokenizer.encode(prompt + prefix)
    if tokens != [*tokenizer.encode(prompt), *answer[:given]]:
        return None  # the prefix's tokens melt into the prompt's: not the place that was trained
    return Place(messages=row.prompt, prefix=prefix, text=prompt + prefix, tokens=tuple(tokens))


def measure(
    blob: Path, adapter: Path, places: Sequence[Place], general: str
) -> tuple[list[Reference], dict[str, float]]:
    """Ask the trainer's model, with the adapter and without, at every place.

    Returns the references, and the perplexity of `general` text for "base" and "tuned":
    exp of the mean negative log-likelihood of its first GENERAL_TOKENS tokens.
    """
    from ollama_ft.kinds.trainers.machine import give_back_memory
    from ollama_ft.kinds.trainers.reference import open_reference

    tokenizer = _tokenizer(blob)
    text = tokenizer.encode(general)[:GENERAL_TOKENS]
    with open_reference(blob, adapter) as model:
        base = model.next_tokens([place.tokens for place in places], top=TOP, tuned=False)
        tuned = model.next_tokens([place.tokens for place in places], top=TOP, tuned=True)
        perplexity = {
            "base": math.exp(model.loss(text, tuned=False)),
            "tuned": math.exp(model.loss(text, tuned=True)),
        }
    del model
    give_back_memory()  # what comes now needs a runtime's memory, not ours
    references = [
        Reference(
            messages=place.messages,
            prefix=place.prefix,
            text=place.text,
            token_count=len(place.tokens),
            base=_pieces(tokenizer, base[i]),
            tuned=_pieces(tokenizer, tuned[i]),
        )
        for i, place in enumerate(places)
    ]
    return references, {name: round(value, 3) for name, value in perplexity.items()}


def _pieces(tokenizer: "Tokenizer", distribution: Sequence[tuple[int, float]]) -> dict[str, float]:
    # Two tokens may show as the same text; their chances add up.
    pieces: dict[str, float] = {}
    for token, logprob in distribution:
        piece = tokenizer.piece(token)
        known = pieces.get(piece)
        total = math.exp(logprob) + (math.exp(known) if known is not None else 0.0)
        pieces[piece] = round(math.log(max(total, 1e-30)), 5)
    return pieces
