"""Which template renders a model's prompt: Ollama's order of choice since 0.30."""

from dataclasses import dataclass
from typing import Literal

from ollama_ft.runtime.templates.infer import (
    capabilities,
    is_harmony,
    jinja_capabilities,
    jinja_tool_round_trip,
    tool_round_trip,
)
from ollama_ft.runtime.templates.render import Template, parse_template

Kind = Literal["go", "jinja", "raw", "renderer"]
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What renders the prompt, and why.

    "go": the Go template; "jinja": the GGUF's own, through llama.cpp; "raw": the prompt as it is;
    "renderer": code inside Ollama, which no template shows.
    """

    kind: Kind
    reason: str


def choose(
    go_template: str | None,
    jinja: str | None,
    *,
    renderer: str | None,
    family: str = "",
    go_template_env: str | None = None,
) -> Choice:
    """Return what Ollama would render with.

    `renderer` is the renderer or parser that the model's config names; `family` its model family;
    `go_template_env` the value of OLLAMA_GO_TEMPLATE on the server. Raises BadInput if the Go
    template does not parse, as such a model does not load.
    """
    if renderer:
        return Choice(kind="renderer", reason=f"the model names the renderer or parser {renderer}")
    template = parse_template(go_template) if go_template else None
    if family in ("gptoss", "gpt-oss") and template is not None and is_harmony(template):
        return Choice(kind="renderer", reason="the template is in OpenAI's harmony format")
    forced = _forced(go_template_env)
    if template is None:
        return _without_go(jinja)
    if forced is True or (forced is None and not jinja):
        reason = "the model has a Go template and no Jinja"
        return Choice(kind="go", reason="OLLAMA_GO_TEMPLATE is on" if forced else reason)
    if forced is False:
        kind: Kind = "jinja" if jinja else "raw"
        return Choice(kind=kind, reason="OLLAMA_GO_TEMPLATE is off")
    assert jinja is not None
    return _vote(template, jinja)


def _forced(value: str | None) -> bool | None:
    """The switch as Ollama reads it: unset or empty is no opinion, nonsense is on."""
    bare = (value or "").strip().strip("\"'")
    return None if not bare else bare not in _FALSE


def _without_go(jinja: str | None) -> Choice:
    if jinja:
        return Choice(kind="jinja", reason="the model has no Go template")
    return Choice(kind="raw", reason="the model has neither a Go template nor a Jinja one")


def _vote(template: Template, jinja: str) -> Choice:
    """The Jinja wins with more capabilities, or with a tool round trip that the Go template lacks.

    More capabilities do not win if that would lose the round trip.
    """
    theirs = jinja_capabilities(jinja)
    ours = [one for one in capabilities(template) if one != "completion"]
    more = len(theirs) > len(ours)
    if more and tool_round_trip(template) and not jinja_tool_round_trip(jinja):
        return Choice(kind="go", reason="only the Go template renders calls of tools and answers")
    if more:
        extra = ", ".join(one for one in theirs if one not in ours) or "more"
        return Choice(kind="jinja", reason=f"the Jinja offers what the Go template lacks: {extra}")
    same = sorted(theirs) == sorted(ours) and "tools" in ours
    if same and jinja_tool_round_trip(jinja) and not tool_round_trip(template):
        return Choice(kind="jinja", reason="only the Jinja renders calls of tools and answers")
    return Choice(kind="go", reason="the Jinja offers nothing that the Go template lacks")
