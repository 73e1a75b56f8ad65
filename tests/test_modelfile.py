"""Modelfiles are read as Ollama's parser reads them, and printed so that it reads them back."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.modelfile import ROLES, Modelfile, Turn, parse_modelfile, quoted, unprintable

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
QUOTED_TEXTS = st.text(alphabet='a"\n\r\t #é', max_size=12)
MODELFILES = st.builds(
    Modelfile,
    sources=st.tuples(st.just("smol")),
    adapters=st.tuples() | st.tuples(TEXTS),
    template=st.none() | TEXTS | QUOTED_TEXTS,
    system=st.none() | TEXTS | QUOTED_TEXTS,
    parameters=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "num_ctx": st.integers(1, 1 << 20),
            "use_mmap": st.booleans(),
            "stop": st.lists(TEXTS, min_size=1, max_size=3),
        },
    ),
    licenses=st.lists(TEXTS, max_size=2).map(tuple),
    messages=st.lists(
        st.builds(Turn, role=st.sampled_from(ROLES), content=TEXTS | QUOTED_TEXTS), max_size=3
    ).map(tuple),
)


def test_every_instruction_is_read() -> None:
    text = '''
# a comment
from smol:v1
PARAMETER temperature 0.5
PARAMETER stop <|im_start|>
parameter stop "<|im_end|>"
PARAMETER num_ctx 4096
PARAMETER use_mmap false
TEMPLATE """{{ .System }}
"quoted" {{ .Prompt }}"""
SYSTEM You are # not a comment
ADAPTER ./one.gguf
ADAPTER ./two.gguf
LICENSE MIT
LICENSE "two
lines"
MESSAGE user Hi
MESSAGE assistant """said "Hi" """
REQUIRES 0.14.0
RENDERER qwen3-coder
PARSER qwen3-coder
DRAFT ./draft.gguf
'''
    read = parse_modelfile(text)
    assert read == Modelfile(
        sources=("smol:v1",),
        adapters=("./one.gguf", "./two.gguf"),
        template='{{ .System }}\n"quoted" {{ .Prompt }}',
        system="You are # not a comment",
        parameters={
            "temperature": 0.5,
            "stop": ["<|im_start|>", "<|im_end|>"],
            "num_ctx": 4096,
            "use_mmap": False,
        },
        licenses=("MIT", "two\nlines"),
        messages=(Turn(role="user", content="Hi"), Turn(role="assistant", content='said "Hi" ')),
        draft="./draft.gguf",
        renderer="qwen3-coder",
        parser="qwen3-coder",
        requires="0.14.0",
    )
    assert parse_modelfile(read.text()) == read
    assert read.losses() == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no FROM line"),
        ("SYSTEM hi\n", "no FROM line"),
        ("FROM smol\nNOSUCH x\n", "(line 2): command must be one of"),
        ("FROM smol\nSYSTEM\n", "(line 2): command must be one of"),
        ('FROM smol\nSYSTEM "open\n', "unexpected EOF"),
        ("FROM smol\nMESSAGE wizard hi\n", "message role must be one of"),
        ("FROM smol\nPARAMETER nosuch 1\n", "There is no PARAMETER 'nosuch'"),
        ("FROM smol\nPARAMETER num_ctx many\n", "must be a whole number"),
        ("FROM smol\nPARAMETER use_mmap maybe\n", "must be true or false"),
        ("FROM smol\nREQUIRES soon\n", "REQUIRES must be a version"),
    ],
)
def test_what_ollama_refuses_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("(", r"\(").replace(")", r"\)")):
        parse_modelfile(text)


def test_line_ends_and_a_byte_order_mark_do_not_matter() -> None:
    assert parse_modelfile("\ufeffFROM smol\r\nSYSTEM hi\r\n") == parse_modelfile(
        "FROM smol\nSYSTEM hi"
    )


def test_a_deprecated_parameter_is_passed_over() -> None:
    assert parse_modelfile("FROM smol\nPARAMETER mirostat 1\n").parameters == {}


def test_characters_that_ollama_drops_are_named() -> None:
    assert unprintable("plain, 中文, é, emoji 🙂\n\t") == ()
    notes = unprintable("a\u00a0b\u3000c\u3000")
    assert "NO-BREAK SPACE (1×)" in notes[0]
    assert "IDEOGRAPHIC SPACE (2×)" in notes[1]
    assert Modelfile(sources=("m",), system="a\u200bb").losses()


def test_text_that_no_quotes_can_hold_is_reported() -> None:
    bad = Modelfile(sources=("smol",), system='one """\ntwo "\nthree')
    assert "SYSTEM" in bad.losses()[0]
    assert quoted("plain") == "plain"
    assert quoted(" edge") == '" edge"'
    assert quoted('"starts') == '""starts"'


@given(MODELFILES)
@example(Modelfile(sources=("smol",), system='"'))
@example(Modelfile(sources=("smol",), system='""'))
@example(Modelfile(sources=("smol",), system=""))
@example(Modelfile(sources=("smol",), system="\r"))
def test_what_loses_nothing_reads_back(made: Modelfile) -> None:
    if not any("would be cut" in loss for loss in made.losses()):
        assert parse_modelfile(made.text()) == made


@given(TEXTS)
def test_text_without_quotes_always_reads_back(text: str) -> None:
    made = Modelfile(sources=("smol",), system=text.replace('"', ""))
    assert parse_modelfile(made.text()) == made


def test_a_long_file_is_read_in_the_time_that_its_length_takes() -> None:
    started = time.perf_counter()
    turns = "MESSAGE user 你好\n" * 20_000
    licence = 'LICENSE """' + 'a line of a licence that says "yes"\n' * 20_000 + '"""\n'
    read = parse_modelfile(f"FROM smol\n{turns}{licence}")
    assert (len(read.messages), read.licenses[0].count("\n")) == (20_000, 20_000)
    assert time.perf_counter() - started < 20  # it took minutes when each line was counted anew


@pytest.mark.parametrize("value", ["nan", "inf", "1_000", "１２", "9" * 5000, "1e400", "0x10", ""])
def test_a_number_that_ollama_would_not_read_is_refused(value: str) -> None:
    for name in ("num_ctx", "temperature"):
        with pytest.raises(BadInput, match=r"a whole number|a number|needs a name|must be one of"):
            if value == "9" * 5000 and name == "temperature":
                value = "9" * 500  # a float beyond all
            parse_modelfile(f"FROM smol\nPARAMETER {name} {value}\n")


def test_deprecated_parameters_are_told_by_name() -> None:
    read = parse_modelfile("FROM smol\nPARAMETER mirostat 1\nPARAMETER mirostat 2\n")
    assert read.passed_over == ("mirostat",)


def test_the_printed_file_says_at_its_head_what_ollama_would_lose() -> None:
    made = Modelfile(sources=("smol",), system="你好\u3000世界")
    first, second, *_ = made.text("bot:v1").splitlines()
    assert first == "# bot:v1"
    assert second.startswith("# Ollama's own parser would change this. SYSTEM: U+3000")
    assert parse_modelfile(made.text("bot:v1")) == made
    assert "#" not in Modelfile(sources=("smol",), system="你好").text()
