"""Render prompts as Ollama does: Go templates, their recognition, and which template is used."""

from ollama_ft.runtime.templates.choose import Choice, choose
from ollama_ft.runtime.templates.infer import (
    capabilities,
    jinja_capabilities,
    thinking_tags,
    tool_round_trip,
)
from ollama_ft.runtime.templates.recognise import BuiltIn, built_ins, nearest, recognise
from ollama_ft.runtime.templates.render import Template, parse_template
from ollama_ft.runtime.templates.values import Values

__all__ = [
    "BuiltIn",
    "Choice",
    "Template",
    "Values",
    "built_ins",
    "capabilities",
    "choose",
    "jinja_capabilities",
    "nearest",
    "parse_template",
    "recognise",
    "thinking_tags",
    "tool_round_trip",
]
