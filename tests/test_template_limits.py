"""A template is code from outside: whatever it says, rendering ends, soon and in bounds."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates import Values, capabilities, limits, parse_template

TOOLS = [{
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": ["string", "null"], "enum": [1, "x"]}},
        },
    },
}]  # fmt: skip
MESSAGES = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "中\n<x>", "images": ["AQID"]},
    {"role": "assistant", "content": "", "thinking": "t", "tool_calls": [
        {"function": {"name": "f", "arguments": {"a": [1, {"b": None}]}}}]},
    {"role": "tool", "content": "1", "tool_name": "f"},
]  # fmt: skip
VALUES = [
    Values(messages=MESSAGES, tools=TOOLS, think=True, think_level="low", is_think_set=True),
    Values(messages=MESSAGES),
    Values(),
    Values(prompt="p", suffix="s"),
]
LOOPS = "{{ range .Messages }}{{ end }}"
DOUBLING = LOOPS + '{{ $x := "ab" }}{{ range 40 }}{{ $x = printf "%s%s" $x $x }}{{ end }}'


def outcome(text: str) -> str:
    """The error of a template that runs over MESSAGES."""
    with pytest.raises(BadInput) as failed:
        parse_template(text).render(VALUES[0])
    return str(failed.value)


@pytest.mark.parametrize(
    "text",
    [
        LOOPS + "{{ range 1000000000 }}{{ end }}",
        LOOPS + "{{ range 1000000000 }}{{ if and true (not false) }}{{ end }}{{ end }}",
        LOOPS + "{{ range 100000 }}{{ range 100000 }}{{ break }}{{ end }}{{ end }}",
        LOOPS + "{{ range 1000000 }}{{ range $k, $v := $ }}{{ break }}{{ end }}{{ end }}",
        LOOPS + '{{ define "0" }}{{ end }}' + "".join(
            f'{{{{ define "{n}" }}}}' + f'{{{{ template "{n - 1}" . }}}}' * 2 + "{{ end }}"
            for n in range(1, 60)) + '{{ template "59" . }}',
    ],
)  # fmt: skip
def test_a_loop_without_end_is_stopped(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_STEPS", 20_000)
    assert outcome(text) == "template: more than 20000 steps in one rendering"


@pytest.mark.parametrize(
    "text",
    [
        DOUBLING,
        LOOPS + '{{ range 1000000 }}{{ printf "%999999d" 1 }}{{ end }}',
        LOOPS + '{{ range 1000000 }}{{ printf "%*s" 999999 "x" }}{{ end }}',
        LOOPS + "{{ range 1000000 }}{{ print $ $ $ $ $ $ $ $ }}{{ end }}",
        LOOPS + "{{ range 1000000 }}{{ json $ }}{{ end }}",
        LOOPS + "{{ range 1000000 }}{{ $.Tools }}{{ end }}",
        LOOPS + '{{ range 1000000 }}{{ len (js "' + "<" * 100 + '") }}{{ end }}',
        LOOPS + '{{ range 1000000 }}{{ $x := eq "' + "a" * 99 + 'b" "' + "a" * 99 + 'c" }}{{ end }}',
        LOOPS + "{{ range 1000000 }}" + "x" * 1000 + "{{ end }}",
    ],
)  # fmt: skip
def test_text_without_bound_is_stopped(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CHARACTERS", 1_000_000)
    assert outcome(text) == "template: more than 1000000 characters in one rendering"


def test_growing_text_is_stopped_at_the_real_limit() -> None:
    assert outcome(DOUBLING) == "template: more than 32000000 characters in one rendering"


@pytest.mark.parametrize(
    "text",
    ["{{ if true }}" * 2000, "{{ range 1 }}" * 2000, "{{ with 1 }}" * 2000, "{{" + "(" * 2000],
)
def test_deep_nesting_is_refused(text: str) -> None:
    assert "nested more than 100 levels deep" in outcome(text)


def test_a_chain_of_else_ifs_is_refused_when_it_is_too_long() -> None:
    chain = "{{ if false }}" + "{{ else if false }}" * 2000 + "{{ end }}"
    assert "nested more than 100 levels deep" in outcome(chain)


def test_ninety_levels_of_anything_are_fine() -> None:
    nested = "{{ if true }}{{ with 1 }}{{ range 1 }}" * 30 + "x" + "{{ end }}" * 90
    assert parse_template(LOOPS + nested).render(Values(messages=MESSAGES)) == "x"
    nested = "{{ " + "(" * 90 + "len .Messages" + ")" * 90 + " }}"
    assert parse_template(nested).render(Values(messages=MESSAGES)) == "4"


def test_a_template_that_calls_itself_is_stopped() -> None:
    text = LOOPS + '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}'
    assert outcome(text).endswith("exceeded maximum template depth (100)")


def test_too_many_variables_and_too_long_a_text_are_refused() -> None:
    assert "more than 200 variables" in outcome(LOOPS + "{{ $x := 1 }}" * 201)
    assert "longer than" in outcome("x" * 300_000)


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"k": inner}])
def test_deep_json_from_a_client_is_refused(make: Callable[[object], object]) -> None:
    deep: object = 1
    for _ in range(5000):
        deep = make(deep)
    call = {"function": {"name": "f", "arguments": {"deep": deep}}}
    tool = {"type": "function", "function": {"parameters": {"properties": {"p": {"items": deep}}}}}
    template = parse_template("{{ json .Messages }}{{ json .Tools }}")
    for values in (
        Values(messages=[{"role": "assistant", "tool_calls": [call]}]),
        Values(messages=MESSAGES, tools=[tool]),
    ):
        with pytest.raises(BadInput, match="nested more than 48 levels deep"):
            template.render(values)


def run(text: str) -> None:
    """Parse, look into and render `text` in each way; only BadInput may come out."""
    try:
        template = parse_template(text)
    except BadInput:
        return
    capabilities(template)
    for values in VALUES:
        try:
            shown = template.render(values)
        except BadInput:
            continue
        shown.encode()


WORDS = [".", "$", ".Messages", ".Tools", ".Role", ".Content", ".Thinking", ".Images", ".ToolCalls", ".Function", ".Arguments", ".Nope", ".Nope.Sub", ".System", ".Response", ".Prompt", ".Function.Parameters.Properties", ".String", ".Properties.ToMap", "$x", "$i", "$x.Role", "0", "1", "-1", "2", "99", "1.5", "1e3", "'a'", "1i", "true", "false", "nil", '""', '"a"', '"%s%d%v"', '"%[2]*.3q%!"', "`r`", "(", ")", "|", ",", ":=", "=", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery", "json", "currentDate", "toTypeScriptType", "call", "(index", ".Messages", "1).Content", "(len", ".Content)", "if", "range", "with", "else", "end", "define", "block", "template", "break", "continue"]  # fmt: skip
PIECES = [
    "{{", "}}", "{{- ", " -}}", " ", "\n", "x", "<think>", "中", "{{ end }}", "{{ else }}", "{{ else if .X }}",
    "{{ range .Messages }}", "{{ range $i, $x := .Messages }}", "{{ range .ToolCalls }}", "{{ range .Tools }}",
    "{{ range $k, $v := .Function.Parameters.Properties }}", "{{ range 3 }}", "{{ if .Content }}", "{{ with .Function }}",
    "{{ $x := . }}", '{{ define "t" }}', '{{ template "t" . }}', '{{ block "b" . }}', "{{/* c */}}", "{{ . }}", "{{ json . }}",
    '{{ printf "%#v %+v %T" . . . }}', "{{ .Response }}", "{{ break }}", "{{ continue }}",
]  # fmt: skip
ACTION = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(
    lambda words: "{{ " + " ".join(words) + " }}"
)
SLACK = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@SLACK
@given(st.text(max_size=200))
@example("{{" + "\\" * 50)
@example('{{ "\\ud800" }}')
@example("{{ 1e999999999 }}{{ 0x1p99999 }}{{ 1e-400i }}")
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    run(text)
    run("{{" + text + "}}")


@SLACK
@given(st.lists(ACTION | st.sampled_from(PIECES), max_size=12).map("".join))
def test_nothing_made_of_the_languages_words_crashes(text: str) -> None:
    run(text)


@SLACK
@given(st.lists(ACTION | st.sampled_from(PIECES[7:]), max_size=6).map("".join))
def test_nothing_inside_a_loop_over_messages_crashes(inside: str) -> None:
    run("{{ range $i, $x := .Messages }}" + inside + "{{ end }}" * (1 + inside.count("{{ range")))


FORMATS = st.text(alphabet="%+-# 0123456789.*[]vTtbcdoOqxXUeEfFgGsp!z", max_size=12)
OPERANDS = st.lists(
    st.sampled_from(["1", "-5", '"a中"', "nil", "1.5", "1i", "true", "$", ".Messages"]), max_size=3
)


@SLACK
@given(FORMATS, OPERANDS)
def test_no_layout_crashes_printf(layout: str, operands: list[str]) -> None:
    run(LOOPS + f'{{{{ printf "{layout}" {" ".join(operands)} }}}}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
KEYS = ["role", "content", "thinking", "images", "tool_calls", "tool_name", "type", "function", "name",
        "arguments", "parameters", "properties", "required", "enum", "anyOf", "items", "$defs"]  # fmt: skip
OBJECT = st.dictionaries(
    st.sampled_from(KEYS), JSON | st.dictionaries(st.sampled_from(KEYS), JSON), max_size=4
)
EVERYTHING = parse_template("{{ . }}{{ json . }}{{ range .Messages }}{{ . }}{{ end }}{{ .Tools }}")


@settings(SLACK, max_examples=100)
@given(st.lists(OBJECT, max_size=3), st.lists(OBJECT, max_size=3))
def test_no_messages_or_tools_crash(messages: list[dict], tools: list[dict]) -> None:
    try:
        EVERYTHING.render(Values(messages=messages, tools=tools)).encode()
    except BadInput:
        return
