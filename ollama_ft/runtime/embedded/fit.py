"""From messages to a prompt that fits, and from the prompt to tokens, cut as Ollama cuts."""

import json
from collections.abc import Awaitable, Callable, Sequence

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.engine import Engine
from ollama_ft.runtime.embedded.options import Options
from ollama_ft.runtime.embedded.replies import Json

Render = Callable[[Sequence[Json]], Awaitable[str]]
Count = Callable[[str], Awaitable[int]]


async def fitting_prompt(
    messages: Sequence[Json], context: int, render: Render, count: Count
) -> str:
    """The prompt of as many of the last messages as fit the context; the last one stays in any
    case, and so do system messages, wherever they stood."""
    prompts: dict[int, str] = {}

    async def fits(start: int) -> bool:
        system = [message for message in messages[:start] if message.get("role") == "system"]
        prompts[start] = await render([*system, *messages[start:]])
        # A token has one byte at least, and BOS may come on top.
        if len(prompts[start].encode("utf-8", "replace")) < context:
            return True
        return await count(prompts[start]) <= context

    last = len(messages) - 1
    if await fits(0) or last == 0:
        return prompts[0]
    low, high = 1, last  # fewer messages never make a longer prompt
    while low < high:
        middle = (low + high) // 2
        if await fits(middle):
            high = middle
        else:
            low = middle + 1
    if low not in prompts:
        await fits(low)
    return prompts[low]


async def prompt_tokens(engine: Engine, text: str, leading: str) -> list[int]:
    """The prompt's token ids. Where the tokenizer puts BOS in front, one written there is not
    doubled."""
    if leading and text.startswith(leading):
        text = text.removeprefix(leading)
    return await engine.tokenize(text)


def cut_tokens(tokens: list[int], options: Options, *, truncate: bool, limit: int) -> list[int]:
    """The tokens that go into a context of `limit`: all, or the first `num_keep` and as many of the
    last as half of the rest has room for, as Ollama cuts.

    Raises RuntimeRefused (400), in llama.cpp's words, where cutting is not allowed.
    """
    if len(tokens) < limit:
        return tokens
    if not truncate:
        raise _too_long(len(tokens), limit)
    keep = min(options.keep, limit // 2)
    return tokens[:keep] + tokens[-((limit - keep) // 2) :]


def _too_long(count: int, limit: int) -> RuntimeRefused:
    error = {
        "code": 400,
        "message": f"request ({count} tokens) exceeds the available context size ({limit} tokens), "
        "try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": count,
        "n_ctx": limit,
    }
    return RuntimeRefused(json.dumps({"error": error}, separators=(",", ":")), status=400)
