"""A GGUF's Jinja is recognised as Ollama recognises it, and the template is chosen in its order."""

import hashlib
from pathlib import Path

import pytest

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates import (
    built_ins,
    choose,
    jinja_capabilities,
    nearest,
    parse_template,
    recognise,
)
from ollama_ft.runtime.templates.gojson import marshal
from ollama_ft.runtime.templates.values import to_any
from ollama_ft.weights.reader import open_gguf

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)


def test_chatml_is_recognised() -> None:
    found = recognise(CHATML)
    assert found is not None
    assert found.name == "chatml"
    assert found.parameters == {"stop": ["<|im_start|>", "<|im_end|>"]}


@pytest.mark.parametrize(
    "changed",
    [
        CHATML + "{# a note of fifty characters at the very end #}",
        "{{ bos_token }}" + CHATML.replace("'content'", "'text'"),
        CHATML.replace("message", "turn"),
    ],
)
def test_a_slightly_changed_template_is_still_recognised(changed: str) -> None:
    found = nearest(changed)
    assert found is not None
    assert (found[0], 0 < found[1] < 100) == ("chatml", True)


@pytest.mark.parametrize("jinja", [CHATML + "x " * 50, "{{ messages }}" * 40, "x" * 1_000_000])
def test_another_template_is_not_recognised(jinja: str) -> None:
    assert nearest(jinja) is None
    assert recognise(jinja) is None


@pytest.mark.slow
def test_a_real_models_template_is_recognised_as_a_real_server_did(smollm2_gguf: Path) -> None:
    with open_gguf(smollm2_gguf) as gguf:
        jinja = gguf.text("tokenizer.chat_template")
    assert nearest(jinja) == ("chatml", 41)


def test_layers_of_a_recognised_template_have_the_digests_a_real_server_wrote() -> None:
    found = recognise(CHATML)
    assert found is not None
    template = hashlib.sha256(found.template.encode()).hexdigest()
    parameters = marshal(to_any(dict(found.parameters))) + "\n"
    assert template.startswith("e3b2721cec51")
    assert hashlib.sha256(parameters.encode()).hexdigest().startswith("f02dd72bb242")


def test_every_built_in_template_parses_and_has_stops() -> None:
    assert len(built_ins()) == 17
    for one in built_ins():
        assert parse_template(one.template).messages_mode
        assert one.parameters["stop"]


PLAIN = "{{ range .Messages }}{{ .Content }}{{ end }}"
TOOLS = PLAIN + "{{ .Tools }}"
ROUND = TOOLS + '{{ range .Messages }}{{ .ToolCalls }}{{ if eq .Role "tool" }}{{ end }}{{ end }}'
THINKS = "{{ range .Messages }}<think>{{ .Thinking }}</think>{{ end }}"
JINJA = "{{ messages }}"
JINJA_TOOLS = "{{ tools }}"
JINJA_ROUND = "{{ tools }}{{ message.tool_calls }}{% if message.role == 'tool' %}"
JINJA_THINKS = JINJA_TOOLS + "<think></think>"


@pytest.mark.parametrize(
    ("go", "jinja", "kind"),
    [
        (None, None, "raw"),
        ("", "", "raw"),
        (None, JINJA, "jinja"),
        (PLAIN, None, "go"),
        (PLAIN, JINJA, "go"),
        (PLAIN, JINJA_TOOLS, "jinja"),
        (TOOLS, JINJA_TOOLS, "go"),
        (TOOLS, JINJA_ROUND, "jinja"),
        (ROUND, JINJA_ROUND, "go"),
        (ROUND, JINJA_TOOLS, "go"),
        (ROUND, JINJA_THINKS, "go"),
        (ROUND, JINJA_ROUND + JINJA_THINKS, "jinja"),
        (THINKS, JINJA_TOOLS, "go"),
        (THINKS, JINJA_ROUND, "go"),
        (THINKS, JINJA_THINKS, "jinja"),
        ("{{ .Prompt }}{{ .Suffix }}", JINJA_TOOLS, "go"),
    ],
)
def test_the_jinja_wins_only_with_more_to_offer(
    go: str | None, jinja: str | None, kind: str
) -> None:
    choice = choose(go, jinja, renderer=None)
    assert choice.kind == kind
    assert choice.reason


def test_a_renderer_comes_before_any_template() -> None:
    choice = choose(PLAIN, JINJA, renderer="qwen3-coder")
    assert choice.kind == "renderer"
    assert "qwen3-coder" in choice.reason


def test_harmony_is_only_for_its_family() -> None:
    text = "<|start|>{{ .Prompt }}<|end|>"
    assert choose(text, None, renderer=None, family="gptoss").kind == "renderer"
    assert choose(text, None, renderer=None, family="llama").kind == "go"


@pytest.mark.parametrize(
    ("env", "kind"),
    [("1", "go"), ("true", "go"), (' "1" ', "go"), ("yes", "go"), ("0", "jinja"), ("False", "jinja"),
     ("", "jinja"), (None, "jinja")],
)  # fmt: skip
def test_the_servers_switch_overrules_the_vote(env: str | None, kind: str) -> None:
    assert choose(PLAIN, JINJA_TOOLS, renderer=None, go_template_env=env).kind == kind


def test_the_switch_can_turn_a_go_template_off_that_would_win() -> None:
    assert choose(ROUND, JINJA, renderer=None, go_template_env="0").kind == "jinja"
    assert choose(ROUND, None, renderer=None, go_template_env="0").kind == "raw"


def test_a_go_template_that_does_not_parse_is_refused() -> None:
    with pytest.raises(BadInput, match="unclosed action"):
        choose("{{ .Prompt", JINJA, renderer=None)


@pytest.mark.parametrize(
    ("jinja", "found"),
    [
        ("content.split('</think>')", ["thinking"]),
        ("content.split('</think>') reasoning_content", []),
        ("tool_call", ["tools"]),
        ("<think></think> tools", ["tools", "thinking"]),
    ],
)
def test_capabilities_of_a_jinja_are_read_from_its_words(jinja: str, found: list[str]) -> None:
    assert jinja_capabilities(jinja) == found
