"""`new --modelfile`: what a family takes from a Modelfile, what it refuses, and what it tells."""

import codecs
import json

import pytest
from click.testing import CliRunner

from ollama_ft.cli.app import cli
from ollama_ft.core.catalog import newest
from ollama_ft.core.errors import BadInput, NotFound, Unsupported
from ollama_ft.core.home import shipped
from ollama_ft.core.records import Base, Family
from ollama_ft.kinds.imports import recognise
from ollama_ft.kinds.modelfiles import read_start
from tests.loras import peft_folder
from tests.tiny import tiny_model, write_gguf

TEXT = """FROM ./tiny.gguf
TEMPLATE "{{ .System }} {{ .Prompt }}"
SYSTEM 你好\u3000世界
PARAMETER num_ctx 256
PARAMETER stop "</s>"
LICENSE MIT
PARAMETER mirostat 1
"""


@pytest.fixture
def folder(tmp_path):
    write_gguf(tiny_model("llama"), "llama", tmp_path / "tiny.gguf")
    (tmp_path / "Modelfile").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def ft(home, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "embedded")

    def run(*arguments, code=0):
        result = CliRunner().invoke(cli, ["--home", str(home.path), *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_a_family_begins_with_what_its_modelfile_says_and_hears_what_would_be_lost(ft, db, folder):
    said = ft("new", "bot", "--modelfile", folder / "Modelfile", "--parameter", "num_ctx=512")
    bot = newest(db, Family, name="bot")
    assert (bot.system, bot.template) == ("你好\u3000世界", "{{ .System }} {{ .Prompt }}")
    parameters = json.loads(bot.parameters_json)
    assert parameters == {"temperature": 0, "num_ctx": 512, "stop": ["</s>"]}
    assert newest(db, Base).name == "tiny:latest"
    assert "SYSTEM: U+3000 IDEOGRAPHIC SPACE" in said.stderr
    assert "LICENSE stays as the base has it" in said.stderr
    assert "Ollama ignores PARAMETER mirostat" in said.stderr
    exported = ft("export", "bot:v0", "--as", "modelfile", "-o", folder / "out")
    assert "`ollama create` would lose something" in exported.stderr
    assert "U+3000" in ft("show", "bot:v0", "--modelfile").stdout.splitlines()[1]
    shown = ft("show", "bot:v0").stdout
    assert "template     {{ .System }} {{ .Prompt }}" in shown


def test_diff_tells_another_template_and_another_system_text(ft, folder):
    ft("new", "one", "--modelfile", folder / "Modelfile")
    ft("new", "two", "--from", folder / "tiny.gguf")
    parts = json.loads(ft("diff", "one:v0", "two:v0", "--json").stdout)["parts"]
    assert set(parts) == {"system", "template", "parameters"}
    assert parts["template"] == ["{{ .System }} {{ .Prompt }}", ""]


def test_from_wins_over_the_placeholder_and_without_it_the_base_is_asked_for(ft):
    path = shipped() / "modelfiles" / "kefu-zh.Modelfile"
    said = ft("new", "kefu", "--modelfile", path, code=2)
    assert "leaves the base open" in said.stderr and "--from MODEL" in said.stderr
    assert "No base is named" in ft("new", "kefu", code=2).stderr


@pytest.mark.parametrize("path", sorted((shipped() / "modelfiles").glob("*")), ids=lambda p: p.stem)
def test_each_shipped_modelfile_can_begin_a_family(path):
    start = read_start(path)
    assert start.system and start.base == "" and start.notes == ()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("FROM a\nMESSAGE user hi\n", Unsupported, "MESSAGE lines"),
        ("FROM a\nDRAFT ./d.gguf\n", Unsupported, "DRAFT lines"),
        ("FROM a\nADAPTER ./a.gguf\n", BadInput, "makes a version, not a family"),
        ("FROM a\nFROM b\n", BadInput, "2 FROM lines"),
        ("SYSTEM a\n", BadInput, "Modelfile: The Modelfile has no FROM"),
    ],
)
def test_what_a_family_cannot_keep_is_refused_by_name(tmp_path, text, error, said):
    (tmp_path / "Modelfile").write_text(text)
    with pytest.raises(error, match=said):
        read_start(tmp_path / "Modelfile")


def test_it_is_read_in_the_encodings_that_ollama_reads(tmp_path):
    path = tmp_path / "Modelfile"
    with pytest.raises(NotFound):
        read_start(path)
    for content in (
        codecs.BOM_UTF16_LE + "FROM a\nSYSTEM 你好\n".encode("utf-16-le"),
        "\ufeffFROM a\r\nSYSTEM 你好\r\n".encode(),
    ):
        path.write_bytes(content)
        assert read_start(path).system == "你好"
    path.write_bytes("FROM a\nSYSTEM 你好\n".encode("gb18030"))
    with pytest.raises(BadInput, match="not text in UTF-8") as caught:
        read_start(path)
    assert caught.value.mend.startswith("iconv -f gb18030")


def test_an_imported_modelfile_loses_no_line_in_silence(folder):
    peft_folder(folder / "peft", folder / "tiny.gguf")
    path = folder / "Modelfile"
    path.write_text("FROM ./tiny.gguf\nADAPTER ./peft\nLICENSE MIT\n")
    offer = recognise(path, folder / "work")
    assert offer.base == str(folder / "tiny.gguf")
    assert offer.notes == ("LICENSE stays as the base has it.",)
    path.write_text("FROM ./tiny.gguf\nADAPTER ./peft\nMESSAGE user hi\n")
    with pytest.raises(Unsupported, match="MESSAGE"):
        recognise(path, folder / "work")


def test_a_parameter_that_ollama_does_not_know_is_refused_before_anything_is_made(ft, db):
    said = ft("new", "bot", "--from", "x", "--parameter", "temprature=1", code=2)
    assert "There is no PARAMETER 'temprature'" in said.stderr
    assert newest(db, Family) is None
