"""Prompts are made to fit as Ollama makes them."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.fit import cut_tokens, fitting_prompt
from ollama_ft.runtime.embedded.options import merged
from ollama_ft.runtime.embedded.replies import Json


def turns(*contents: str) -> list[Json]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]


async def render(messages: Sequence[Json]) -> str:
    return "".join(f"<{message['content']}>" for message in messages)


async def count(text: str) -> int:
    return len(text)


def fitted(messages: Sequence[Json], context: int) -> str:
    return asyncio.run(fitting_prompt(messages, context, render, count))


def test_what_fits_is_whole() -> None:
    assert fitted(turns("a", "b", "c"), 100) == "<a><b><c>"


def test_the_oldest_messages_go_first() -> None:
    assert fitted(turns("aaaa", "bbbb", "cccc"), 12) == "<bbbb><cccc>"
    assert fitted(turns("aaaa", "bbbb", "cccc"), 6) == "<cccc>"


def test_the_last_message_stays_even_if_it_is_too_long() -> None:
    assert fitted(turns("a", "b", "cccccccccc"), 4) == "<cccccccccc>"
    assert fitted(turns("cccccccccc"), 4) == "<cccccccccc>"


def test_system_messages_stay_wherever_they_stood() -> None:
    messages: list[Json] = [
        *turns("aaaa"),
        {"role": "system", "content": "S"},
        *turns("bbbb", "cccc"),
    ]
    assert fitted(messages, 10) == "<S><cccc>"


@pytest.mark.parametrize("length", range(1, 40))
def test_as_many_messages_stay_as_one_by_one_removal_would_leave(length: int) -> None:
    messages = turns(*("x" * (n % 5) for n in range(8)))
    wanted = next(
        (
            asyncio.run(render(messages[n:]))
            for n in range(8)
            if len(asyncio.run(render(messages[n:]))) <= length
        ),
        asyncio.run(render(messages[-1:])),
    )
    assert fitted(messages, length) == wanted


def test_a_long_prompt_keeps_its_start_and_half_of_the_rest() -> None:
    # 3010 tokens in a context of 512 became 258 in a real Ollama: 4 kept, and half of what is left.
    cut = cut_tokens(list(range(3010)), merged({}), truncate=True, limit=512)
    assert len(cut) == 258
    assert cut[:5] == [0, 1, 2, 3, 2756]
    assert cut[-1] == 3009


def test_a_long_prompt_is_refused_in_llama_cpps_words_where_it_may_not_be_cut() -> None:
    with pytest.raises(RuntimeRefused) as caught:
        cut_tokens(list(range(3010)), merged({}), truncate=False, limit=512)
    assert caught.value.status == 400
    error = json.loads(str(caught.value))["error"]
    assert (error["n_prompt_tokens"], error["n_ctx"], error["code"]) == (3010, 512, 400)
