"""Requests are checked in the words of Go's decoder."""

import json
import math

import pytest

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.asks import chat_ask, generate_ask, manner_of, parse_body, seconds
from ollama_ft.runtime.embedded.options import merged


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [(None, None), (0, 0.0), (90, 90.0), (-1, math.inf), ("30s", 30.0), ("1h30m", 5400.0),
     ("500ms", 0.5), ("0", 0.0), ("-1m", math.inf), ("1.5h", 5400.0)],
)  # fmt: skip
def test_keep_alive_is_a_number_of_seconds_or_a_go_duration(
    wish: object, wanted: float | None
) -> None:
    assert seconds(wish) == wanted


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("10", 'time: missing unit in duration "10"'),
        ("soon", 'time: invalid duration "soon"'),
        ([], "Unsupported"),
    ],
)
def test_a_duration_that_go_refuses_is_refused(wish: object, said: str) -> None:
    with pytest.raises(RuntimeRefused, match=said) as caught:
        seconds(wish)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "missing request body"),
        (b"  ", "missing request body"),
        (b'{"model":', "unexpected EOF"),
        (b'{"model": "a', "unexpected EOF"),
        (b"{model: 1}", "invalid character 'm' looking for beginning of value"),
        (b'{"a": NaN}', "invalid character"),
        (b"[]", "json: cannot unmarshal array into Go value"),
        (b"[" * 100_000, "exceeded max depth"),
    ],
)
def test_a_body_that_is_no_object_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(RuntimeRefused) as caught:
        parse_body(content)
    assert said in str(caught.value)
    assert caught.value.status == 400


def test_half_a_surrogate_becomes_the_replacement_character() -> None:
    body = parse_body(b'{"a": ["\\ud83d\\ude00", {"\\ud83d": "x\\ude00y"}]}')
    assert body == {"a": ["😀", {"\ufffd": "x\ufffdy"}]}
    json.dumps(body, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model": 5}, "json: cannot unmarshal number into Go struct field .model of type string"),
        ({"options": []}, "json: cannot unmarshal array"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"think": "hard"}, 'invalid think value: "hard"'),
        ({"think": 3}, "think must be a boolean or string"),
        ({"messages": [1]}, "json: cannot unmarshal number"),
        ({"messages": [{"role": 1}]}, "json: cannot unmarshal number"),
    ],
)
def test_a_field_of_another_type_is_refused(body: dict[str, object], said: str) -> None:
    with pytest.raises(RuntimeRefused) as caught:
        chat_ask(body)
    assert said in str(caught.value)
    assert caught.value.status == 400


def test_what_is_left_out_has_ollamas_defaults() -> None:
    manner = manner_of({"model": "m"})
    assert (manner.stream, manner.truncate, manner.keep_alive, manner.think) == (
        True,
        True,
        None,
        None,
    )
    assert generate_ask({"system": ""}).system == ""
    assert generate_ask({}).system is None


def test_options_are_the_models_with_the_requests_on_top() -> None:
    options = merged(
        {"temperature": 0, "num_ctx": 1024, "stop": ["a"]}, {"num_ctx": 2048.0, "nosuch": 1}
    )
    assert (options.context, options.is_greedy) == (2048, True)
    sampling = options.sampling()
    assert sampling["stop"] == ["a"]
    assert sampling["top_p"] == 0.9
    assert merged({}).predict == 10 * 4096
    assert merged({"num_predict": 0}).predict == 0


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("temperature", "hot", "float32"), ("num_ctx", "many", "integer"), ("use_mmap", 1, "boolean"),
     ("stop", "x", "array"), ("num_ctx", True, "integer")],
)  # fmt: skip
def test_an_option_of_another_type_is_refused_in_ollamas_words(
    name: str, value: object, kind: str
) -> None:
    with pytest.raises(RuntimeRefused, match=f'option "{name}" must be of type {kind}') as caught:
        merged({name: value})
    assert caught.value.status == 500


@pytest.mark.parametrize("value", [1e300, -1e300, 10**40])
def test_a_number_beyond_every_machine_is_cut_to_what_llama_cpp_reads(value: float) -> None:
    options = merged({"num_ctx": value, "num_predict": value, "seed": value, "top_k": value})
    assert 4 <= options.context < 2**31
    assert 0 <= options.predict < 2**31
    assert all(abs(int(str(options.sampling()[key]))) < 2**32 for key in ("seed", "top_k"))
