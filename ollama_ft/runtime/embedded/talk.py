"""/api/generate and /api/chat: from a request to its lines of answer."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.answer import End, Piece, generate, grammar
from ollama_ft.runtime.embedded.asks import ChatAsk, GenerateAsk, Manner
from ollama_ft.runtime.embedded.engine import Engine
from ollama_ft.runtime.embedded.fit import cut_tokens, fitting_prompt, prompt_tokens
from ollama_ft.runtime.embedded.library import Library, Model
from ollama_ft.runtime.embedded.options import Options, merged
from ollama_ft.runtime.embedded.pool import Pool
from ollama_ft.runtime.embedded.prompt import (
    Style,
    capabilities,
    style_of,
    without_old_thinking,
    written_style,
)
from ollama_ft.runtime.embedded.replies import Json, now
from ollama_ft.runtime.embedded.thinking import ThinkingSplitter

Lines = AsyncGenerator[Json, None]

_NO_IMAGES = {
    "error": {
        "code": 400,
        "message": "Multimodal data provided, but model does not support multimodal requests.",
        "type": "invalid_request_error",
    }
}


@dataclass(frozen=True, kw_only=True)
class Room:
    """What every route works on."""

    library: Library
    pool: Pool


@dataclass(frozen=True, kw_only=True)
class Talk:
    """One request, checked against its model. `shape` makes the lines: generate's or chat's."""

    room: Room
    model: Model
    manner: Manner
    options: Options
    style: Style
    think: bool | str | None
    started: int  # nanoseconds

    @property
    def context(self) -> int:
        """Tokens of prompt and answer, as asked for and as the model was trained for."""
        trained = self.model.facts.context_length
        return min(self.options.context, trained) if trained else self.options.context


def find_model(room: Room, called: str) -> Model:
    """The model. Raises RuntimeRefused (404) in the words of generate and chat."""
    model = room.library.find(called)
    if model is None:
        raise RuntimeRefused(f"model '{called}' not found", status=404)
    return model


async def only_load(room: Room, model: Model, manner: Manner) -> str:
    """Load the model, or unload it where keep_alive is 0; the done_reason that says which."""
    if manner.keep_alive == 0:
        await room.pool.unload(model)
        return "unload"
    options = merged(model.parameters, manner.options)
    async with room.pool.engine(model, options.context, manner.keep_alive):
        return "load"


async def chat_lines(room: Room, ask: ChatAsk) -> Lines:
    """The lines of a chat. Raises RuntimeRefused where Ollama refuses."""
    model = find_model(room, ask.manner.model)
    if not ask.messages:
        reason = await only_load(room, model, ask.manner)
        yield _head(ask.manner) | {"message": _said(""), "done": True, "done_reason": reason}
        return
    talk = _begin(room, model, ask.manner, "chat")
    if ask.tools is not None and "tools" not in capabilities(model):
        raise RuntimeRefused(f"{model.name.full} does not support tools", status=400)
    _refuse_images(ask.images)
    messages = without_old_thinking(model, _conversation(model, ask.messages))
    async with aclosing(_answer(talk, messages, ask)) as lines:
        async for line in lines:
            yield line


async def generate_lines(room: Room, ask: GenerateAsk) -> Lines:
    """The lines of a completion. Raises RuntimeRefused where Ollama refuses."""
    model = find_model(room, ask.manner.model)
    if not ask.prompt and not ask.suffix:
        reason = await only_load(room, model, ask.manner)
        yield _head(ask.manner) | {"response": "", "done": True, "done_reason": reason}
        return
    talk = _begin(room, model, ask.manner, "generate")
    if ask.suffix and "insert" not in capabilities(model):
        raise RuntimeRefused(f"{model.name.full} does not support insert", status=400)
    if ask.raw and (ask.template or ask.system or ask.context):
        raise RuntimeRefused("raw mode does not support template, system, or context", status=400)
    _refuse_images(ask.images)
    async with aclosing(_answer(talk, _single(model, ask), ask)) as lines:
        async for line in lines:
            yield line


# The way from a request to its answer


def _begin(room: Room, model: Model, manner: Manner, verb: str) -> Talk:
    able = capabilities(model)
    if "completion" not in able:
        raise RuntimeRefused(f'"{manner.model}" does not support {verb}', status=400)
    think = manner.think
    if think and "thinking" not in able:
        raise RuntimeRefused(f'"{manner.model}" does not support thinking', status=400)
    if think is None and "thinking" in able:
        think = True  # as Ollama does since 0.12.4
    grammar(manner.format)
    return Talk(
        room=room,
        model=model,
        manner=manner,
        options=merged(model.parameters, manner.options),
        style=style_of(model),
        think=think,
        started=time.monotonic_ns(),
    )


async def _answer(talk: Talk, messages: Sequence[Json], ask: ChatAsk | GenerateAsk) -> Lines:
    manner = talk.manner
    style = (
        written_style(ask.template) if isinstance(ask, GenerateAsk) and ask.template else talk.style
    )
    if manner.debug and not style.needs_engine:
        text = await _quick_prompt(talk, style, messages, ask)
        if text is not None:
            yield _debug_line(manner, ask, text)
            return
    async with talk.room.pool.engine(talk.model, talk.context, manner.keep_alive) as engine:
        loaded = time.monotonic_ns()
        text = await _prompt(talk, style, messages, ask, engine)
        if manner.debug:
            yield _debug_line(manner, ask, text)
            return
        async with aclosing(_generated(talk, style, ask, engine, text, loaded)) as lines:
            async for line in lines:
                yield line


async def _quick_prompt(
    talk: Talk, style: Style, messages: Sequence[Json], ask: ChatAsk | GenerateAsk
) -> str | None:
    """The prompt, where it is plain without counting tokens that it fits; so rendering alone loads
    nothing."""
    text = await asyncio.to_thread(_rendered, talk, style, messages, ask)
    fits = len(text.encode("utf-8", "replace")) < talk.context
    return text if fits or not talk.manner.truncate or isinstance(ask, GenerateAsk) else None


async def _prompt(
    talk: Talk,
    style: Style,
    messages: Sequence[Json],
    ask: ChatAsk | GenerateAsk,
    engine: Engine,
) -> str:
    async def render(some: Sequence[Json]) -> str:
        if style.needs_engine:
            extra = style.engine_extra(_tools(ask), talk.think)
            return await engine.apply_template(style.engine_messages(some), extra)
        return await asyncio.to_thread(_rendered, talk, style, some, ask)

    async def count(text: str) -> int:
        return len(await prompt_tokens(engine, text, talk.model.facts.leading_token))

    if isinstance(ask, GenerateAsk) or not talk.manner.truncate:
        if isinstance(ask, GenerateAsk) and (ask.raw or ask.suffix):
            return await asyncio.to_thread(_rendered, talk, style, messages, ask)
        return await render(messages)
    return await fitting_prompt(messages, talk.context, render, count)


def _rendered(
    talk: Talk, style: Style, messages: Sequence[Json], ask: ChatAsk | GenerateAsk
) -> str:
    if isinstance(ask, GenerateAsk):
        if ask.raw:
            return ask.prompt
        if ask.suffix:
            return style.insert(ask.prompt, ask.suffix, talk.think)
    return style.render(messages, _tools(ask), talk.think)


async def _generated(
    talk: Talk, style: Style, ask: ChatAsk | GenerateAsk, engine: Engine, text: str, loaded: int
) -> Lines:
    tokens = await _tokens(talk, ask, engine, text)
    splitter = style.splitter(text) if talk.think else None
    spoken = ""
    pieces = generate(engine, tokens, talk.model.adapter_paths, talk.options, talk.manner)
    async with aclosing(pieces):
        async for piece in pieces:
            parts = _parted(splitter, piece)
            if any(parts) or (isinstance(piece, Piece) and piece.logprobs):
                yield _piece_line(talk, ask, parts, piece)
            if isinstance(piece, Piece):
                spoken += piece.text
            else:
                context = await _context(ask, engine, tokens, spoken)
                yield _last_line(talk, ask, piece, loaded) | context


def _parted(splitter: ThinkingSplitter | None, piece: Piece | End) -> tuple[str, str]:
    """Thinking and content that are sure by now."""
    if isinstance(piece, End):
        return splitter.finish() if splitter else ("", "")
    return splitter.feed(piece.text) if splitter else ("", piece.text)


def _piece_line(
    talk: Talk, ask: ChatAsk | GenerateAsk, parts: tuple[str, str], piece: Piece | End
) -> dict[str, object]:
    thinking, content = parts
    line = _head(talk.manner) | _spoken(ask, content, thinking) | {"done": False}
    rows = piece.logprobs if isinstance(piece, Piece) else ()
    return line | ({"logprobs": list(rows)} if rows else {})


async def _tokens(talk: Talk, ask: ChatAsk | GenerateAsk, engine: Engine, text: str) -> list[int]:
    if isinstance(ask, GenerateAsk) and ask.context:
        tokens = [*ask.context, *await engine.tokenize(text, special=False)]
    else:
        tokens = await prompt_tokens(engine, text, talk.model.facts.leading_token)
    limit = min(talk.context, engine.plan.context)
    return cut_tokens(tokens, talk.options, truncate=talk.manner.truncate, limit=limit)


# Shapes


def _conversation(model: Model, messages: Sequence[Json]) -> list[Json]:
    """The model's own turns first; its system message, unless the request begins with one."""
    whole = [*model.messages, *messages]
    if model.system and messages[0].get("role") != "system":
        return [{"role": "system", "content": model.system}, *whole]
    return whole


def _single(model: Model, ask: GenerateAsk) -> list[Json]:
    system = model.system if ask.system is None else ask.system
    turns: list[Json] = [{"role": "system", "content": system}] if system else []
    if not ask.context:
        turns += model.messages
    return [*turns, {"role": "user", "content": ask.prompt}]


def _tools(ask: ChatAsk | GenerateAsk) -> Sequence[Json] | None:
    return ask.tools if isinstance(ask, ChatAsk) else ()


def _head(manner: Manner) -> dict[str, object]:
    return {"model": manner.model, "created_at": now()}


def _said(content: str, thinking: str = "") -> dict[str, object]:
    said: dict[str, object] = {"role": "assistant", "content": content}
    return said | ({"thinking": thinking} if thinking else {})


def _spoken(ask: ChatAsk | GenerateAsk, content: str, thinking: str) -> dict[str, object]:
    if isinstance(ask, ChatAsk):
        return {"message": _said(content, thinking)}
    said: dict[str, object] = {"response": content}
    return said | ({"thinking": thinking} if thinking else {})


def _debug_line(manner: Manner, ask: ChatAsk | GenerateAsk, text: str) -> dict[str, object]:
    empty: dict[str, object] = (
        {"message": {"role": "", "content": ""}} if isinstance(ask, ChatAsk) else {"response": ""}
    )
    return _head(manner) | empty | {"done": False, "_debug_info": {"rendered_template": text}}


def _last_line(talk: Talk, ask: ChatAsk | GenerateAsk, end: End, loaded: int) -> dict[str, object]:
    times = {
        "total_duration": time.monotonic_ns() - talk.started,
        "load_duration": loaded - talk.started,
        "prompt_eval_count": end.prompt_count,
        "prompt_eval_duration": end.prompt_time,
        "eval_count": end.count,
        "eval_duration": end.time,
    }
    head = _head(talk.manner) | _spoken(ask, "", "")
    return head | {"done": True, "done_reason": end.reason} | times


async def _context(
    ask: ChatAsk | GenerateAsk, engine: Engine, tokens: list[int], spoken: str
) -> dict[str, object]:
    """generate gives back the tokens so far, which a next request may start from."""
    if not isinstance(ask, GenerateAsk) or ask.raw:
        return {}
    return {"context": [*tokens, *await engine.tokenize(spoken, special=False)]}


def _refuse_images(count: int) -> None:
    if count:
        raise RuntimeRefused(json.dumps(_NO_IMAGES, separators=(",", ":")), status=400)
