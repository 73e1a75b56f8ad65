"""Model names are read as Ollama reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.names import Name

PARTS = st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("smol", "registry.ollama.ai/library/smol:latest", "smol:latest"),
        ("smol:v1", "registry.ollama.ai/library/smol:v1", "smol:v1"),
        ("me/smol", "registry.ollama.ai/me/smol:latest", "me/smol:latest"),
        ("hf.co/me/Smol-GGUF:Q4_K_M", "hf.co/me/Smol-GGUF:Q4_K_M", "hf.co/me/Smol-GGUF:Q4_K_M"),
        ("127.0.0.1:5000/library/m:1", "127.0.0.1:5000/library/m:1", "127.0.0.1:5000/library/m:1"),
        ("localhost:5000/library/m", "localhost:5000/library/m:latest", "localhost:5000/library/m:latest"),
        ("http://h:80/n/m:t", "h:80/n/m:t", "h:80/n/m:t"),
        ("qwen2.5:0.5b", "registry.ollama.ai/library/qwen2.5:0.5b", "qwen2.5:0.5b"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_filled_in(text: str, full: str, short: str) -> None:
    name = Name.parse(text)
    assert (name.full, name.short) == (full, short)
    assert Name.parse(name.full) == name


@pytest.mark.parametrize(
    "text",
    ["", ":", "m:", "/m", "a//m", "h/a/b/m", "bad name!", "m@sha256:12", "é", "n.s/m", "-m", ".m", "m:-t",
     "a" * 81, "m:" + "t" * 81, "http://x/y"],
)  # fmt: skip
def test_what_ollama_refuses_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        Name.parse(text)
    assert caught.value.mend


def test_the_scheme_is_kept_and_not_compared() -> None:
    assert Name.parse("http://h/n/m").scheme == "http"
    assert Name.parse("http://h/n/m") == Name.parse("h/n/m")


@pytest.mark.parametrize(
    "text", ["Smol", "smol:V1", "Me/smol", "m:local", "m:cloud", "m:120b-cloud"]
)
def test_names_that_we_make_are_lower_case_and_not_reserved(text: str) -> None:
    with pytest.raises(BadInput):
        Name.for_publishing(text)
    assert Name.for_publishing("smol:v1").short == "smol:v1"


@given(host=PARTS, namespace=PARTS, model=PARTS, tag=PARTS)
def test_every_name_reads_back(host: str, namespace: str, model: str, tag: str) -> None:
    name = Name(host=host, namespace=namespace, model=model, tag=tag)
    assert Name.parse(name.full) == name == Name.parse(name.short)
    assert name.lower() == name
    assert name.with_tag("x").tag == "x"
