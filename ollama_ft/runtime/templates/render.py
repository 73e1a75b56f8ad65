"""A parsed template and how Ollama renders a request with it.

Messages of one role in a row become one. Then one of three ways: a prompt with a suffix fills in
the middle; a template that names `.Messages` runs once over all of them; any other runs once for
each pair of prompt and response, the last time only up to `.Response`, where the model takes over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ollama_ft.core.errors import BadInput
from ollama_ft.core.words import without_halves
from ollama_ft.runtime.templates import nodes
from ollama_ft.runtime.templates.cutting import cut_after_response
from ollama_ft.runtime.templates.evaluate import Evaluator
from ollama_ft.runtime.templates.execute import execute
from ollama_ft.runtime.templates.functions import BUILT_IN, OLLAMA
from ollama_ft.runtime.templates.gotypes import Map, Value
from ollama_ft.runtime.templates.limits import Budget
from ollama_ft.runtime.templates.literals import as_text
from ollama_ft.runtime.templates.names import names_in
from ollama_ft.runtime.templates.parser import parse
from ollama_ft.runtime.templates.values import ROOT, Values, text, to_messages, to_tools


@dataclass(frozen=True, kw_only=True)
class Template:
    """A parsed template: `text` as written, one tree for each defined name, "" for the whole."""

    text: str
    trees: Mapping[str, nodes.Block] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    response_appended: bool = False

    def vars(self) -> list[str]:
        """Return the fields and variables it names, lower case and sorted, as Ollama lists them."""
        return list(self.names)

    @property
    def messages_mode(self) -> bool:
        """Whether it renders all messages at once rather than pair by pair."""
        return "messages" in self.names

    def render(self, values: Values) -> str:
        """Return the prompt. Raises BadInput with Go's message where the template fails."""
        try:
            return as_text(self._rendered(values, Budget()))
        except RecursionError as error:
            raise BadInput("template: messages or tools are nested too deeply") from error

    def _rendered(self, values: Values, budget: Budget) -> str:
        system, messages = collate(values.messages or ())
        thinking: dict[str, Value] = {
            "Think": values.think,
            "ThinkLevel": without_halves(values.think_level),
            "IsThinkSet": values.is_think_set,
        }
        if values.prompt and values.suffix:
            prompt, suffix = without_halves(values.prompt), without_halves(values.suffix)
            root = thinking | {"Prompt": prompt, "Suffix": suffix, "Response": ""}
            return self._execute(root, budget)
        if self.messages_mode:
            root = thinking | {
                "System": system,
                "Messages": to_messages(messages),
                "Tools": to_tools(values.tools),
                "Response": "",
            }
            return self._execute(root, budget)
        return self._pairwise(messages, thinking, budget)

    def _execute(self, root: dict[str, Value], budget: Budget) -> str:
        state = Evaluator(text=self.text, functions=OLLAMA, budget=budget, missing_is_zero=True)
        return execute(self.trees, Map(ROOT, root), state)

    def _pairwise(
        self, messages: Sequence[Mapping[str, object]], thinking: dict[str, Value], budget: Budget
    ) -> str:
        """Run once for each pair; a message that finds its place taken starts the next pair."""
        parts: list[str] = []
        pair = _empty_pair()
        for message in messages:
            key = _PLACES.get(text(message, "role"))
            if key is None:
                continue
            if any(pair[taken] for taken in _FLUSHED_BY[key]):
                parts.append(self._execute(thinking | pair, budget))
                pair = _empty_pair()
            pair[key] = text(message, "content")
        parts.append(self._up_to_response(thinking | pair, budget))
        return "".join(parts)

    def _up_to_response(self, root: dict[str, Value], budget: Budget) -> str:
        # Ollama runs the cut tree as a template of its own, without its functions and definitions.
        trees = {"": cut_after_response(self.trees[""])}
        state = Evaluator(text=self.text, functions=BUILT_IN, budget=budget, missing_is_zero=False)
        return execute(trees, Map(ROOT, root), state)


_PLACES = {"system": "System", "user": "Prompt", "assistant": "Response"}
_FLUSHED_BY = {"System": ("Prompt", "Response"), "Prompt": ("Response",), "Response": ()}


def _empty_pair() -> dict[str, Value]:
    return {"System": "", "Prompt": "", "Response": ""}


def parse_template(text: str) -> Template:
    """Parse a template; one that names neither messages nor response gets `{{ .Response }}` added.

    Raises BadInput with the message of Go's parser.
    """
    text = without_halves(text)
    trees = parse(text, OLLAMA)
    names = names_in(trees.values())
    appended = "messages" not in names and "response" not in names
    if appended:
        field_ = nodes.Field(0, ("Response",))
        action = nodes.Action(0, nodes.Pipe(0, commands=[nodes.Command(0, [field_])]))
        trees[""].nodes.append(action)
        names = names_in(trees.values())
    return Template(text=text, trees=trees, names=names, response_appended=appended)


def collate(
    messages: Sequence[Mapping[str, object]],
) -> tuple[str, list[Mapping[str, object]]]:
    """Join messages of one role in a row, tools' apart, and all system texts, by blank lines.

    What the later ones carry besides their content (thinking, tool calls) is lost, as in Ollama.
    Raises BadInput where a role or content is no string.
    """
    system: list[str] = []
    joined: list[dict[str, object]] = []
    parts: list[list[str]] = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise BadInput("json: a message is not an object")
        role, content = text(message, "role").lower(), text(message, "content")
        if role == "system":
            system.append(content)
        if joined and joined[-1]["role"] == role and role != "tool":
            parts[-1].append(content)
        else:
            joined.append({**message, "role": role})
            parts.append([content])
    for message_, contents in zip(joined, parts, strict=True):
        message_["content"] = "\n\n".join(contents)
    return "\n\n".join(system), list(joined)
