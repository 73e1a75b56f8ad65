"""Go templates render byte for byte as Ollama rendered them, and fail with its words."""

import json
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates import (
    Template,
    Values,
    capabilities,
    functions,
    parse_template,
    thinking_tags,
    tool_round_trip,
)
from ollama_ft.runtime.templates.infer import is_harmony

CARRIED = Path(__file__).parent / "data" / "renderings"
SHARED = Path(__file__).parents[2] / "shared" / "reference" / "template-renderings"
RECORDED = 2365

ELSEWHERE = [
    "codestral-51707752a87c",
    "gemma3-270m-4b19ac7dd2fb",
    "gemma3-e0a42594d802",
    "llama3.1-948af2743fc7",
    "llama3.1-storm-1970553b62f4",
    "llama3.2-966de95ca8a6",
    "mistral-small-6db27cd4e277",
    "nemotron-4863fe3335f3",
    "yi-62fbfd9ed093",
]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


CONVERSATIONS = read(CARRIED / "values.json")
NAMES = sorted(path.stem for path in CARRIED.glob("[a-z]*.json") if path.stem != "values")


def implied(template: Template) -> dict[str, object]:
    opening, closing = thinking_tags(template)
    return {
        "capabilities": capabilities(template),
        "thinking_open_tag": opening,
        "thinking_close_tag": closing,
        "tool_round_trip": tool_round_trip(template),
        "contains_start_and_end_harmony": is_harmony(template),
        "messages_mode": template.messages_mode,
        "response_appended": template.response_appended,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_carried_template_renders_every_conversation_as_ollama_did(name: str) -> None:
    golden = read(CARRIED / f"{name}.json")
    template = parse_template(golden["template"])
    assert (template.vars(), implied(template)) == (golden["vars"], golden["implies"])
    wanted = {case: golden[f"case {case}"] for case in CONVERSATIONS}
    assert len(wanted) == 55
    assert {
        case: template.render(Values(**values)) for case, values in CONVERSATIONS.items()
    } == wanted


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_template_with_another_licence_renders_as_ollama_did(name: str) -> None:
    path = SHARED / f"lib-{name}.json"
    if not path.exists():
        pytest.skip("this template's licence keeps it out of the repository")
    golden = read(path)
    template = parse_template(golden["template"])
    assert (template.vars(), implied(template)) == (golden["vars"], golden["implies"])
    for case in golden["cases"]:
        assert template.render(Values(**case["values"])) == case["output"], case["case"]


def test_carried_and_other_templates_are_all_that_were_recorded() -> None:
    assert 55 * (len(NAMES) + len(ELSEWHERE)) == RECORDED
    if SHARED.exists():
        recorded = {path.stem for path in SHARED.glob("[a-z]*.json")}
        assert recorded == {*NAMES, *(f"lib-{name}" for name in ELSEWHERE)}


SYNTHETIC = read(CARRIED / "_synthetic.json")


@pytest.mark.parametrize("name", [key[9:] for key in SYNTHETIC if key.startswith("template ")])
def test_the_language_does_what_go_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromisoformat(SYNTHETIC["generated_on"] + "T12:00")

    monkeypatch.setattr(functions, "datetime", Then)
    golden = SYNTHETIC[f"template {name}"]
    if "parse_error" in golden:
        with pytest.raises(BadInput) as failed:
            parse_template(golden["template"])
        assert str(failed.value) == golden["parse_error"]
        return
    template = parse_template(golden["template"])
    assert (template.vars(), implied(template)) == (golden["vars"], golden["implies"])
    for case in golden["cases"]:
        values = Values(**SYNTHETIC[f"values {case['case']}"])
        try:
            outcome = {"output": template.render(values)}
        except BadInput as error:
            outcome = {"error": str(error)}
        assert outcome == {key: case[key] for key in case if key != "case"}, case["case"]


def show(pipeline: str, **values: object) -> str:
    template = parse_template("{{ range .Messages }}{{ end }}" + pipeline)
    return template.render(Values(**values))


CALL = {
    "role": "assistant",
    "tool_calls": [{"function": {"name": "f", "arguments": {"b": [1, None, "x"], "a": 2.5}}}],
}
IN_CALL = "{{ range .Messages }}{{ range .ToolCalls }}{{ with .Function.Arguments }}%s{{ end }}{{ end }}{{ end }}"


@pytest.mark.parametrize(
    ("pipeline", "wanted"),
    [
        # package fmt, its documentation and examples
        ('{{ printf "%5d|%-5d|%05d|%+d|% d|%x|%X|%#x|%o|%O|%b" 42 42 42 42 42 42 42 42 8 8 5 }}',
         "   42|42   |00042|+42| 42|2a|2A|0x2a|10|0o10|101"),
        ('{{ printf "%c|%q|%U|%#U" 0x4E16 0x4E16 0x4E16 0x4E16 }}', "世|'世'|U+4E16|U+4E16 '世'"),
        ('{{ printf "%e|%.2f|%8.2f|%g|%G|%v" 1234.5678 3.14159 3.14159 1e21 1e-7 100000.0 }}',
         "1.234568e+03|3.14|    3.14|1e+21|1E-07|100000"),
        ("{{ 1000000.0 }} {{ 123456789.0 }} {{ 0.0001 }} {{ 0.00001 }} {{ 2.50 }} {{ -0.0 }}",
         "1e+06 1.23456789e+08 0.0001 1e-05 2.5 -0"),
        ('{{ printf "%s|%.2s|%q|%x|% X|%#q" "héy" "héy" "a\\"b\\n" "hi" "hi" "x" }}',
         'héy|hé|"a\\"b\\n"|6869|68 69|`x`'),
        ('{{ printf "%t|%v|%5t" true false true }}', "true|false| true"),
        ('{{ printf "%z|%d" 1 }}', "%!z(int=1)|%!d(MISSING)"),
        ('{{ printf "%d %s" "x" 1 }}', "%!d(string=x) %!s(int=1)"),
        ('{{ printf "%d" 1 2 "x" }}', "1%!(EXTRA int=2, string=x)"),
        ('{{ printf "%[2]d %[1]d" 1 2 }} {{ printf "%[3]d" 1 }}', "2 1 %!d(BADINDEX)"),
        ('{{ printf "%*d|%-*d|%.*f" 5 42 5 42 2 3.14159 }}', "   42|42   |3.14"),
        ('{{ printf "100%%" }}{{ printf "%" }}', "100%%!(NOVERB)"),
        ('{{ printf "%v %T" nil nil }}', "<nil> <nil>"),
        ('{{ printf "%T %T %T %T" 1 "x" 1.5 $ }}', "int string float64 map[string]interface {}"),
        ('{{ printf "%v|%+v|%#v" .System "x" "x" }}', '|x|"x"'),
        # literals
        ("{{ 0b101 }} {{ 0o17 }} {{ 017 }} {{ 0x1p4 }} {{ 1_0.5 }} {{ '\\n' }} {{ 1+2i }}",
         "5 15 15 16 10.5 10 (1+2i)"),
        ('{{ "\\x41\\101\\u00e9\\U0001F600" }}{{ "\\xe4\\xb8\\xad" }}', "AAé😀中"),
        # functions
        ('{{ len "中文" }} {{ index "abc" 1 }} {{ slice "abcdef" 1 3 }} {{ slice "abc" 1 }}', "6 98 bc bc"),
        ('{{ html "<a href=\'x\'>&\\"" }}', "&lt;a href=&#39;x&#39;&gt;&amp;&#34;"),
        ('{{ js "\'a\'=<b>\\n中" }}', "\\'a\\'\\u003D\\u003Cb\\u003E\\u000A中"),
        ('{{ urlquery "a b&c/中" }}', "a+b%26c%2F%E4%B8%AD"),
        ('{{ and 1 0 2 }} {{ or 0 "" "x" }} {{ or 0 "" }}| {{ and nil }} {{ not 0.0 }}', "0 x | <no value> true"),
        ('{{ lt "a" "b" }} {{ ge 2.5 2.5 }} {{ eq 1 2 3 1 }} {{ eq nil nil }}', "true true true true"),
        ('{{ eq (index "a" 0) 97 }} {{ html .Nope }}', "true &lt;no value&gt;"),
        ("{{ json 1e20 }} {{ json 1e21 }} {{ json 0.000001 }} {{ json 0.0000001 }} {{ json 1i }}|",
         "100000000000000000000 1e+21 0.000001 1e-7 |"),
        # control
        ("{{ range $i, $c := .Nope }}x{{ else }}empty{{ end }}", "empty"),
        ("{{ range 3 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ . }}{{ end }}", "02"),
        ("{{ $x := 1 }}{{ range $x = 3 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ with $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
        ('{{ define "t" }}{{ . }}{{ $ }}{{ end }}{{ template "t" 5 }}', "55"),
        ('{{ block "b" "x" }}[{{ . }}]{{ end }}{{ template "b" "y" }}', "[x][y]"),
        ("{{ (printf \"%d\" 3) | printf \"%s%s\" \"a\" }}", "a3"),
    ],
)  # fmt: skip
def test_values_print_as_in_go(pipeline: str, wanted: str) -> None:
    assert show(pipeline) == wanted


@pytest.mark.parametrize(
    ("inside", "wanted"),
    [
        ("{{ . }}|{{ .a }}|{{ .b }}|{{ .c }}", '{"a":2.5,"b":[1,null,"x"]}|2.5|[1 <nil> x]|<no value>'),
        ('{{ index . "b" 2 }} {{ index . "c" }} {{ len . }}', "x <no value> 2"),
        ("{{ range $k, $v := . }}{{ $k }}={{ $v }};{{ end }}", "a=2.5;b=[1 <nil> x];"),
        ('{{ printf "%#v" .b }}', '[]interface {}{1, <nil>, "x"}'),
        ("{{ range .b }}<{{ . }}>{{ end }}", "<1><<no value>><x>"),
    ],
)  # fmt: skip
def test_arguments_of_a_call_are_a_map_of_anything(inside: str, wanted: str) -> None:
    assert show(IN_CALL % inside, messages=[CALL]) == wanted


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ .Messages.X }}", "can't evaluate field X in type interface {}"),
        ("{{ range .Messages }}{{ .Role.X }}{{ end }}", "can't evaluate field X in type string"),
        ("{{ .System 1 }}{{ .Messages }}", "System is not a method but has arguments"),
        ("{{ len .Messages 1 }}", "wrong number of args for len: want 1 got 2"),
        ("{{ eq }}{{ .Messages }}", "wrong number of args for eq: want at least 1 got 0"),
        ("{{ len 3 }}{{ .Messages }}", "error calling len: len of type int"),
        ("{{ index .Messages 1 }}", "error calling index: reflect: slice index out of range"),
        ("{{ index .Messages 2 }}", "error calling index: index out of range: 2"),
        ("{{ slice .Messages 1 0 }}", "error calling slice: invalid slice index: 1 > 0"),
        ("{{ lt 1 true }}{{ .Messages }}", "error calling lt: incompatible types for comparison"),
        ("{{ printf 3 }}{{ .Messages }}", "expected string; found 3"),
        ("{{ printf .Messages }}", "wrong type for value; expected string; got []*template.templateMessage"),
        ("{{ 1 | .Messages }}", "Messages is not a method but has arguments"),
        ("{{ $x = 1 }}{{ .Messages }}", "undefined variable: $x"),
        ("{{ range $i, $x := 3 }}{{ end }}{{ .Messages }}", "can't use 3 to iterate over more than one variable"),
        ("{{ (nil).X }}{{ .Messages }}", "nil is not a command"),
    ],
)  # fmt: skip
def test_a_run_fails_with_gos_words(template: str, error: str) -> None:
    with pytest.raises(BadInput) as failed:
        parse_template(template).render(Values(messages=[{"role": "user", "content": "x"}]))
    assert str(failed.value).startswith("template: :1:")
    assert str(failed.value).endswith(f">: {error}")


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("a\n{{ if }}", ":2: missing value for if"),
        ("{{ if\n .X", ":2: unclosed action started at :1"),
        ("{{ 1 | 2 }}", ":1: non executable command in pipeline stage 2"),
        ("{{ break }}", ":1: {{break}} outside {{range}}"),
        ("{{ (1 }}", ":1: unclosed left paren"),
        ("{{ 1) }}", ":1: unexpected right paren"),
        ("{{ 'ab' }}", ":1: malformed character constant: 'ab'"),
        ('{{ "\\q" }}', ":1: invalid syntax"),
        ("{{ 089 }}", ':1: integer overflow: "089"'),
        ("{{ 3x }}", ':1: bad number syntax: "3x"'),
        ("{{ true.X }}", ':1: unexpected . after term "true"'),
        ("{{ $x, $y := 1 }}", ":1: too many declarations in command"),
        ('{{ define "a" }}x{{ end }}{{ define "a" }}y{{ end }}', ':1: template: multiple definition of template "a"'),
        ("{{/* a }}", ":1: unclosed comment"),
        ("{{ if .X }}{{ else with .Y }}{{ end }}", ":1: unexpected <with> in input"),
        ("{{ template .X }}", ':1: unexpected ".X" in template clause'),
        ("{{ é@ }}", ":1: bad character U+0040 '@'"),
        ('{{ "a', ":1: unterminated quoted string"),
    ],
)  # fmt: skip
def test_a_template_that_does_not_parse_is_refused_with_gos_words(
    template: str, error: str
) -> None:
    with pytest.raises(BadInput) as failed:
        parse_template(template)
    assert str(failed.value) == f"template: {error}"


@pytest.mark.parametrize(
    "message",
    [
        {"role": 1, "content": "x"},
        {"role": "user", "content": ["x"]},
        {"role": "user", "content": "x", "images": ["***"]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "x"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"arguments": {"n": 10**400}}}]},
        "x",
    ],
)
def test_a_message_of_another_shape_is_refused(message: object) -> None:
    with pytest.raises(BadInput):
        show("", messages=[message])


def test_text_that_is_no_unicode_becomes_the_replacement_character() -> None:
    shown = show(
        '{{ .System }}{{ slice "中" 0 1 }}', messages=[{"role": "system", "content": "\ud800"}]
    )
    assert shown == "\ufffd\ufffd"


def test_bytes_of_one_character_join_again() -> None:
    assert show('{{ slice "中" 0 1 }}{{ slice "中" 1 }}') == "中"


@pytest.mark.parametrize("image", ["\x80", "AQ", "AQ L"])
def test_an_image_that_is_not_base64_is_bad_input(image: str) -> None:
    with pytest.raises(BadInput, match="images: illegal base64 data"):
        show("{{ .Messages }}", messages=[{"role": "user", "images": [image]}])


def test_images_are_bytes() -> None:
    messages = [{"role": "user", "content": "", "images": ["AQL/"]}]
    shown = show("{{ range .Messages }}{{ .Images }}{{ json .Images }}{{ end }}", messages=messages)
    assert shown == '[[1 2 255]]["AQL/"]'
