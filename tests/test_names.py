"""Model names are read as Ollama reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.names import Name, file_stem, is_file

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


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("/models/Tiny.GGUF", "tiny"),
        ("my model (1).gguf", "my-model-1"),
        ("我的模型.gguf", "model-136192f0"),
        ("千问-7b.gguf", "7b-"),
        ("C:\\models\\a.gguf", "a"),
        (".gguf", "model-"),
    ],
)
def test_any_file_name_gives_a_name_that_a_model_may_have(path, stem):
    assert file_stem(path).startswith(stem)
    assert Name.parse(file_stem(path)).model == file_stem(path)
    assert file_stem("千问.gguf") != file_stem("通义.gguf")


def test_a_file_name_behind_a_repository_is_a_tag_and_no_path(tmp_path):
    assert not is_file("hf.co/user/Llama-GGUF:Llama-3.2-IQ3_M.gguf")
    assert is_file("here.gguf") and is_file("./folder/here.GGUF")
    blob = tmp_path / "sha256-00"
    assert not is_file(str(blob))
    blob.write_bytes(b"GGUF")
    assert is_file(str(blob))
    assert not is_file("qwen2.5:0.5b") and not is_file("user/model")
