"""The commands as people type them, where no runtime and no training is needed."""

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ollama_ft.cli.app import ALIASES, SECTIONS, cli
from ollama_ft.stages.promote import promote
from tests.rows import a_family, a_version, an_evaluation


@pytest.fixture
def ft(home):
    def run(*arguments, code=0):
        result = CliRunner().invoke(cli, ["--home", str(home.path), *arguments])
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def bot(db):
    """bot: v0, v1 (retired), v2 (live), with scores."""
    family = a_family(db)
    for number, right in ((0, 0), (1, 7), (2, 9)):
        version = a_version(db, family, number)
        promote(db, version, lambda v: "d" * 64, f"{right} of 10 right")
        an_evaluation(db, version, right)
    return family


def commands(group, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands(cli)),
    ids=lambda x: " ".join(x) if isinstance(x, tuple) else "",
)
def test_every_command_has_a_short_help_that_is_not_cut(path, command):
    assert command.help
    assert not command.get_short_help_str(76).endswith("..."), path


def test_every_command_stands_in_the_docs():
    text = (Path(__file__).parent.parent / "docs" / "commands.md").read_text()
    for path, _ in commands(cli):
        assert f"`ollama-ft {' '.join(path)}`" in text


def test_help_shows_sections_and_aliases(ft):
    text = ft("--help")
    for title in (*SECTIONS, "Aliases"):
        assert f"\n{title}:\n" in text
    for alias in ALIASES:
        assert re.search(rf"^  {alias} +{ALIASES[alias]}$", text, re.MULTILINE)


def test_list_looks_like_ollama_list(ft, bot):
    head, *rows = ft("list").splitlines()
    assert head.split() == [
        "NAME",
        "STATUS",
        "ID",
        "RIGHT",
        "PERPLEXITY",
        "ROWS",
        "SIZE",
        "CREATED",
    ]
    assert [row.split()[:2] for row in rows] == [
        ["bot:v2", "live"],
        ["bot:v1", "previous"],
        ["bot:v0", "base"],
    ]
    assert "9/10 90%" in rows[0]
    assert "9.8 MB" in rows[0]
    assert "98 MB" in rows[2]


def test_list_in_json_is_a_documented_form(ft, bot):
    body = json.loads(ft("ls", "--json"))
    assert body["schema"] == 1
    assert body["current"] == "bot"
    assert [v["number"] for v in body["versions"]] == [2, 1, 0]


def test_an_empty_list_says_how_to_start(ft):
    assert "ollama-ft new --from" in ft("list")


def test_history_tells_what_became_live_and_why(ft, bot):
    lines = ft("history").splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["3", "2", "1"]
    assert "9 of 10 right" in lines[1]
    assert json.loads(ft("history", "--json"))["history"][0]["version"] == "bot:v2"


def test_show_traces_a_version_to_its_digests(ft, bot):
    body = json.loads(ft("show", "v2", "--json"))
    assert body["base"]["blob"].startswith("sha256:")
    assert body["training"]["run"].startswith("sha256:")
    assert body["dataset"]["digest"].startswith("sha256:")
    assert body["bot:v2"]["status"] == "live"


def test_a_dry_rollback_says_where_it_would_go_and_moves_nothing(ft, bot, db):
    before = list(db.table("promotions").rows)
    assert ft("rollback", "--dry-run") == "bot:latest would move: bot:v2 → bot:v1\n"
    assert ft("rollback", "bot:v0", "--dry-run") == "bot:latest would move: bot:v2 → bot:v0\n"
    assert list(db.table("promotions").rows) == before


def test_promoting_what_is_live_says_so(ft, bot):
    assert ft("promote", "v2", "--dry-run") == "bot:v2 is live already.\n"


def test_use_changes_the_family_that_is_meant(ft, bot, db):
    a_family(db, "shop")
    assert ft("use") == "shop\n"
    assert ft("use", "bot") == "bot\n"
    assert ft("use") == "bot\n"


def test_the_schema_of_a_recipe_explains_each_key(ft):
    schema = json.loads(ft("config", "schema"))
    assert all("description" in key for key in schema["properties"].values())


def test_completion_prints_a_script(ft):
    assert "_OLLAMA_FT_COMPLETE" in ft("completion", "bash")


def test_an_alias_is_the_command(ft, bot):
    assert ft("log") == ft("history")


def test_a_table_with_chinese_stays_aligned(capsys):
    from ollama_ft.cli.tables import table

    table(["A", "B"], [["茶馆", "x"], ["tea house", "y"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("茶馆        x")  # four columns wide, as a terminal shows it
    assert lines[2].startswith("tea house   y")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (9_800_000, "9.8 MB"),
        (98_362_432, "98 MB"),
        (None, "-"),
    ],
)
def test_sizes_are_written_as_ollama_writes_them(count, text):
    from ollama_ft.cli.tables import size

    assert size(count) == text


def test_progress_in_json_is_one_object_a_line(capsys):
    from ollama_ft.cli.progress import Progress
    from ollama_ft.core.events import Count, Note
    from ollama_ft.kinds.trainers.job import Step

    with Progress("json") as emit:
        emit(Note(text="hello"))
        emit(Count(name="bot:v1", done=1, total=2, unit="questions"))
        emit(
            Step(step=1, steps=9, epoch=0.1, loss=2.5, learning_rate=1e-3, tokens_per_second=300, rss_bytes=1, eta_seconds=8)
        )  # fmt: skip
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["event"] for event in events] == ["note", "count", "step"]
    assert events[2]["loss"] == 2.5


def test_progress_goes_to_stderr_and_is_silent_on_request(capsys):
    from ollama_ft.cli.progress import Progress
    from ollama_ft.core.events import Note

    for mode in ("plain", "none"):
        with Progress(mode) as emit:
            emit(Note(text="hello"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("hello") == 1


def test_a_question_in_another_encoding_is_refused_with_the_way_to_change_it(home, bot):
    asked = "几点开门？".encode("gb18030")
    result = CliRunner().invoke(cli, ["--home", str(home.path), "run"], input=asked)
    assert result.exit_code == 2, result.output
    assert "not in UTF-8" in result.output and "iconv -f gb18030" in result.output
