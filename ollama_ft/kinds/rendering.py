"""Training text as the runtime itself renders it, and the tokens that are trained on.

No template is guessed anywhere: the runtime renders the conversation up to the answer, and again
with the answer and one more question behind it. What stands between the two is exactly what a
served model has to write, and how it has to end.
"""

import difflib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput, Unsupported
from ollama_ft.core.files import digest_bytes
from ollama_ft.core.recipe import Recipe
from ollama_ft.kinds.context import IN_CONTEXT, asked, shown
from ollama_ft.kinds.trainers.job import Row

if TYPE_CHECKING:
    from ollama_ft.weights.reader import GGUF
    from ollama_ft.weights.tokenizer import Tokenizer

Render = Callable[[Sequence[Message]], str]

# One conversation for each way in which templates differ: a bare question, a system message of its
# own, an earlier exchange, and text outside ASCII. Their renderings together name a prompt.
PROBES: tuple[tuple[Message, ...], ...] = (
    (Message(role="user", content="What is this?"),),
    (
        Message(role="system", content="Answer in one word."),
        Message(role="user", content="Is it ready?"),
    ),
    (
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Hello! How can I help?"),
        Message(role="user", content="  Tell me more.\n"),
    ),
    (Message(role="user", content="你们几点开门？ “Øre” 🙂"),),
)
NEXT = Message(role="user", content="And then?")
PARALLEL = 4


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One conversation as the runtime renders it: prompt, then `target`, the text to learn."""

    prompt: str
    target: str


def prompt_digest(render: Render) -> str:
    """Name what the runtime makes of messages: the digest of the rendered probes."""
    return digest_bytes("\x00".join(render(probe) for probe in PROBES).encode())


def render_rows(render: Render, rows: Sequence[Conversation]) -> list[Rendered]:
    """Render every row, a few at a time, in the rows' order.

    Raises Unsupported if the runtime renders an answer differently from how it has to be written:
    a model trained on it would be served other text than it learned.
    """
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(lambda row: _render(render, row), rows))


def render_behind(
    render: Render, rows: Sequence[Conversation], targets: Sequence[str]
) -> list[Rendered]:
    """Render what is asked in every row; `targets` are known from rows with the same answers."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        prompts = pool.map(lambda row: render(asked(row)), rows)
        return [Rendered(prompt=p, target=t) for p, t in zip(prompts, targets, strict=True)]


def _render(render: Render, row: Conversation) -> Rendered:
    turns = asked(row)
    prompt = render(turns)
    whole = render((*turns, Message(role="assistant", content=row.answer), NEXT))
    written = prompt + row.answer
    if not whole.startswith(written):
        raise Unsupported(
            "The runtime does not render this answer as it stands, so it cannot be trained: "
            f"{row.answer[:60]!r}. Rendered: {whole[len(prompt) : len(prompt) + 60]!r}.",
            mend="take spaces at the ends and <think> blocks out of the answers",
        )
    return Rendered(prompt=prompt, target=row.answer + whole[len(written) :])


def with_teachers(
    tokenizer: "Tokenizer", render: Render, rows: Sequence[Row], talks: Sequence[Conversation]
) -> list[Row]:
    """`rows`; those whose talk has passages that it does not show, with the prompt that would."""
    told = [i for i, t in enumerate(talks) if t.passages and IN_CONTEXT not in t.tags]
    with ThreadPoolExecutor(PARALLEL) as pool:
        prompts = pool.map(lambda i: render(shown(talks[i].prompt, talks[i].passages)), told)
        found = list(rows)
        for i, prompt in zip(told, prompts, strict=True):
            found[i] = replace(rows[i], teacher=tuple(tokenizer.encode(prompt)))
    return found


def tokenise(tokenizer: "Tokenizer", rendered: Rendered, answer: str) -> Row:
    """The row's token ids: the prompt's, then the answer's up to and with its turn-end token.

    The turn-end token is the first end-of-generation token that the runtime's rendering puts
    behind the answer; where a template has none it is the end-of-sequence token.
    """
    prompt = tokenizer.encode(rendered.prompt)
    written = behind(tokenizer, rendered.prompt, rendered.target)
    text = behind(tokenizer, rendered.prompt, answer)
    end = next((i for i, token in enumerate(written) if token in tokenizer.end_ids), None)
    if end is None or end > len(text) + 3:
        if tokenizer.eos_id is None:
            raise Unsupported("Neither the template nor the base knows a token that ends a turn.")
        return Row(prompt=tuple(prompt), answer=(*text, tokenizer.eos_id))
    return Row(prompt=tuple(prompt), answer=tuple(written[: end + 1]))


def behind(tokenizer: "Tokenizer", prompt: str, text: str) -> list[int]:
    """The token ids of `text` as it stands behind `prompt`.

    Some vocabularies put a space in front of every fresh text, so the two are encoded together and
    cut, unless tokens melt across the seam: a served model is given the prompt's tokens by
    themselves.
    """
    front = tokenizer.encode(prompt)
    whole = tokenizer.encode(prompt + text)
    if whole[: len(front)] == front:
        return whole[len(front) :]
    return tokenizer.encode(text, add_bos=False)


def check_lengths(rows: Sequence[Row], max_length: int) -> None:
    """Raise BadInput if a row is longer than `max_length` tokens; say how many and how long."""
    lengths = [len(row.prompt) + len(row.answer) for row in rows]
    longer = [length for length in lengths if length > max_length]
    if longer:
        raise BadInput(
            f"{len(longer)} of {len(lengths)} rows are longer than max_length = {max_length} "
            f"tokens as the runtime renders them; the longest has {max(longer)}.",
            mend=f"ollama-ft train --set max_length={max(longer)} …",
        )


def check_targets(gguf: "GGUF", recipe: Recipe) -> None:
    """Raise BadInput, with the nearest name, for a target module that the base does not have."""
    from ollama_ft.weights.architectures import lora_targets

    known = lora_targets(gguf)
    for name in recipe.target_modules if isinstance(recipe.target_modules, tuple) else ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BadInput(
                f"The base has no linear layer {name!r}; it has {', '.join(known)}.{hint}",
                mend="ollama-ft train --set target_modules=all-linear …",
            )
