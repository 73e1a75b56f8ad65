"""How a model's prompts are made, chosen as Ollama chooses.

The Go template of the model's layer, unless the GGUF's own Jinja can do more; the Jinja, inside
llama.cpp, where there is no such layer; the bare text where there is neither.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ollama_ft.core.errors import BadInput, RuntimeRefused
from ollama_ft.runtime.embedded.facts import Facts
from ollama_ft.runtime.embedded.library import Model
from ollama_ft.runtime.embedded.thinking import ThinkingSplitter
from ollama_ft.runtime.templates import (
    BuiltIn,
    Template,
    Values,
    choose,
    jinja_capabilities,
    parse_template,
    recognise,
    thinking_tags,
)
from ollama_ft.runtime.templates import capabilities as template_capabilities

Json = Mapping[str, object]
Think = bool | str | None

_BARE = "{{ .Prompt }}"
_JINJA_TAGS = ("<think>", "</think>")


@dataclass(frozen=True, kw_only=True)
class Style:
    """One way to make prompts: a Go template, or (None) the GGUF's Jinja, which the engine runs.

    `refusal` says why there is no way here: the model's prompts are made by code inside Ollama.
    """

    text: str
    template: Template | None
    able: tuple[str, ...]  # completion, tools, insert, thinking
    refusal: str = ""

    @property
    def needs_engine(self) -> bool:
        """Whether only the engine can render it."""
        return self.template is None and not self.refusal

    def render(self, messages: Sequence[Json], tools: Sequence[Json] | None, think: Think) -> str:
        """The prompt. Raises RuntimeRefused (500) where the template fails."""
        values = _thinking(think)
        return self._run(
            Values(
                messages=messages,
                tools=tools,
                think=values.think,
                think_level=values.think_level,
                is_think_set=values.is_think_set,
            )
        )

    def insert(self, prompt: str, suffix: str, think: Think) -> str:
        """The prompt for what stands between two texts. Raises RuntimeRefused (500)."""
        values = _thinking(think)
        return self._run(
            Values(
                prompt=prompt,
                suffix=suffix,
                think=values.think,
                think_level=values.think_level,
                is_think_set=values.is_think_set,
            )
        )

    def engine_messages(self, messages: Sequence[Json]) -> list[Json]:
        """Messages as llama.cpp's Jinja wants them, which is OpenAI's form."""
        return [_openai_message(message) for message in messages]

    def engine_extra(self, tools: Sequence[Json] | None, think: Think) -> Json:
        """What else the Jinja gets."""
        extra: dict[str, object] = {"tools": list(tools)} if tools else {}
        if think is not None:
            extra["chat_template_kwargs"] = {"enable_thinking": bool(think)}
        return extra

    def splitter(self, prompt: str) -> ThinkingSplitter | None:
        """What parts thinking from content in the answer to this prompt."""
        opening, closing = thinking_tags(self.template) if self.template else _JINJA_TAGS
        if not opening or not closing:
            return None
        inside = prompt.rstrip().endswith(opening)
        return ThinkingSplitter(opening=opening, closing=closing, inside=inside)

    def _run(self, values: Values) -> str:
        if self.template is None:
            raise RuntimeRefused(self.refusal, status=501)
        try:
            return self.template.render(values)
        except BadInput as error:
            status = 400 if str(error).startswith("json:") else 500
            raise RuntimeRefused(str(error), status=status) from error


def style_of(model: Model) -> Style:
    """The model's way. Raises RuntimeRefused for a template layer that Go would not parse."""
    template, config = model.template or "", model.config
    renderer = str(config.get("renderer") or config.get("parser") or "")
    return _chosen(
        template, model.facts.chat_template, renderer, str(config.get("model_family") or "")
    )


@lru_cache(maxsize=64)
def _chosen(template: str, jinja: str, renderer: str, family: str) -> Style:
    try:
        choice = choose(
            template or None,
            jinja or None,
            renderer=renderer or None,
            family=family,
            go_template_env=os.environ.get("OLLAMA_GO_TEMPLATE"),
        )
    except BadInput as error:
        raise RuntimeRefused(f"template error: {error}", status=500) from error
    if choice.kind in ("go", "raw"):
        return written_style(template if choice.kind == "go" else _BARE)
    able = ("completion", *jinja_capabilities(jinja))
    if choice.kind == "jinja":
        return Style(text=jinja, template=None, able=able)
    refusal = f"the embedded runtime cannot make this model's prompts: {choice.reason}"
    return Style(text=template or jinja, template=None, able=able, refusal=refusal)


@lru_cache(maxsize=64)
def written_style(text: str) -> Style:
    """The way of a Go template. Raises RuntimeRefused (400) in the words of Go's parser."""
    try:
        template = parse_template(text)
    except BadInput as error:
        raise RuntimeRefused(f"template error: {error}", status=400) from error
    return Style(text=text, template=template, able=tuple(template_capabilities(template)))


def template_text(model: Model) -> str:
    """What show.template tells: the text that is really used."""
    return style_of(model).text


def capabilities(model: Model) -> tuple[str, ...]:
    """What the model can do, in Ollama's words."""
    return ("embedding",) if model.facts.is_encoder else style_of(model).able


def recognised(facts: Facts) -> BuiltIn | None:
    """Ollama's own template for the GGUF's Jinja; None if it knows none."""
    return recognise(facts.chat_template) if facts.chat_template else None


def without_old_thinking(model: Model, messages: Sequence[Json]) -> list[Json]:
    """Messages without what the model thought before the last question, where Ollama cuts it."""
    if model.config.get("model_family") != "qwen3" and model.name.model != "deepseek-r1":
        return list(messages)
    asked = [n for n, message in enumerate(messages) if message.get("role") == "user"]
    last = asked[-1] if asked else -1
    return [
        _unthought(message) if message.get("role") == "assistant" and n < last else message
        for n, message in enumerate(messages)
    ]


def _unthought(message: Json) -> Json:
    opening, closing = _JINJA_TAGS
    splitter = ThinkingSplitter(opening=opening, closing=closing)
    _, content = splitter.feed(str(message.get("content") or ""))
    return {**message, "content": content}


def _thinking(think: Think) -> Values:
    level = think if isinstance(think, str) else "medium" if think else ""
    return Values(think=bool(think), think_level=level, is_think_set=think is not None)


def _openai_message(message: Json) -> Json:
    row: dict[str, object] = {
        "role": message.get("role", ""),
        "content": message.get("content") or "",
    }
    if message.get("thinking"):
        row["reasoning_content"] = message["thinking"]
    if message.get("tool_name"):
        row["name"] = message["tool_name"]
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        row["tool_calls"] = [_openai_call(call) for call in calls if isinstance(call, dict)]
    return row


def _openai_call(call: Json) -> Json:
    function = call.get("function")
    found = function if isinstance(function, dict) else {}
    arguments = json.dumps(found.get("arguments") or {}, ensure_ascii=False)
    return {"type": "function", "function": {"name": found.get("name", ""), "arguments": arguments}}
