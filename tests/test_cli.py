"""The commands as people type them, where no runtime and no training is needed."""

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from ollama_ft import loop
from ollama_ft.cli import describe, look, tables
from ollama_ft.cli.app import ALIASES, SECTIONS, cli
from ollama_ft.cli.tables import print_json
from ollama_ft.core.catalog import append
from ollama_ft.core.errors import BadInput, Conflict, GateFailed
from ollama_ft.core.records import Intent
from ollama_ft.core.refs import live
from ollama_ft.runtime import find
from ollama_ft.stages.family import check_name, derive_name
from ollama_ft.stages.promote import promote
from ollama_ft.stages.publish import check_free
from tests.rows import a_family, a_version, an_evaluation


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


def test_a_dry_promotion_says_that_the_gate_is_asked(ft, bot, db):
    a_version(db, bot, 3)
    told = "bot:latest would move, if the gate lets it: bot:v2 → bot:v3\n"
    assert ft("promote", "v3", "--dry-run") == told
    assert ft("promote", "v3", "--force", "--dry-run") == (
        "bot:latest would move: bot:v2 → bot:v3\n"
    )


def test_a_dry_rollback_refuses_what_a_rollback_refuses(ft, bot, db):
    a_version(db, bot, 3)
    assert "bot:v3 was not live before" in ft("rollback", "v3", "--dry-run", code=1)
    assert ft("rollback", "v2", "--dry-run") == "bot:v2 is live already.\n"


def test_rollback_tells_where_it_went_and_not_where_it_was_going_to_go(ft, bot, db, monkeypatch):
    three = a_version(db, bot, 3)
    reason = {"family": "bot", "version": three.key, "action": "promote", "reason": ""}
    append(db, Intent(parent=live(db, "bot").promotion.key, **reason))
    monkeypatch.setattr(loop, "pointer", lambda shop: lambda version: "d" * 64)
    monkeypatch.setattr(find, "connect", lambda *_, **__: nullcontext())
    assert ft("rollback", "--json", "--dry-run").startswith("{")
    moved = json.loads(ft("--progress", "none", "rollback", "--json"))
    assert (moved["was"], moved["live"]) == ("bot:v3", "bot:v2")


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


def test_a_narrow_terminal_gets_names_in_one_piece(capsys, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(tables, "console", lambda: Console(width=30, soft_wrap=False))
    tables.table(["NAME", "STATUS", "REASON"], [["茶馆助手:v12", "previous", "因为" * 40]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("茶馆助手:v12   previous   因为因为")
    assert "".join(line.split()[-1] for line in lines[1:]) == "因为" * 40


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


def error_of(text, code):
    error = json.loads(text)["error"]
    assert error["exit_code"] == code
    return error


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["show", "v99", "--json"], 1, "NotFound"),
        (["show", "bot:v", "--json"], 2, "BadInput"),
        (["list", "--nope", "--json"], 2, "Usage"),
        (["rolback", "--json"], 2, "Usage"),
        (["promote", "--json"], 2, "Usage"),
        (["show", "--json", "\udcff"], 2, "BadInput"),
    ],
)
def test_an_error_under_json_is_one_json_document_on_stdout(home, bot, arguments, code, kind):
    result = CliRunner().invoke(cli, ["--home", str(home.path), *arguments])
    assert result.exit_code == code
    error = error_of(result.stdout, code)
    assert error["kind"] == kind
    assert error["message"] in result.stderr


def test_without_json_an_error_leaves_stdout_empty(home, bot):
    result = CliRunner().invoke(cli, ["--home", str(home.path), "show", "v99"])
    assert result.stdout == ""


def test_an_error_after_the_json_is_not_a_second_document(home, monkeypatch):
    def told(context):
        print_json({"verdict": "no"})
        raise GateFailed("It is no better.")

    monkeypatch.setattr(look, "_current", told)
    result = CliRunner().invoke(cli, ["--home", str(home.path), "list", "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"schema": 1, "verdict": "no"}


@pytest.mark.parametrize("arguments", [["use"], ["list"], ["show"], ["history"]])
def test_what_looks_can_say_it_in_json(ft, bot, arguments):
    assert json.loads(ft(*arguments, "--json"))["schema"] == 1


def test_a_home_that_is_a_file_is_told_without_a_traceback(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(cli, ["--home", str(tmp_path / "file"), "list"])
    assert result.exit_code == 2
    assert "file/registry cannot be used: Not a directory" in result.stderr


def test_a_home_with_spaces_and_chinese_letters_works(tmp_path):
    result = CliRunner().invoke(cli, ["--home", str(tmp_path / "茶 馆"), "list"])
    assert result.exit_code == 0
    assert (tmp_path / "茶 馆" / "registry" / "catalog.db").is_file()


def test_how_to_train_without_data_is_refused_and_starts_nothing(ft, home):
    assert "no --data" in ft("new", "--from", "tiny:1m", "--set", "epchs=3", code=2)
    assert not home.catalog.exists()


def test_an_encoding_without_the_letters_gets_valid_json_and_no_traceback(home, bot):
    import subprocess
    import sys

    command = [sys.executable, "-m", "ollama_ft", "--home", str(home.path)]
    env = os.environ | {"PYTHONIOENCODING": "gbk", "PYTHONUTF8": "0"}
    done = subprocess.run([*command, "use", "茶✓"], capture_output=True, env=env)
    assert done.returncode == 1
    assert r"茶\u2713" in done.stderr.decode("gbk")
    done = subprocess.run([*command, "use", "✓", "--json"], capture_output=True, env=env)
    assert "'✓'" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_honoured(home, bot, monkeypatch, env, coloured):
    flip = {"question": "Q", "expected": "A", "first": "A", "second": "B"}
    found = {"parts": {}, "questions": [flip | {"first_right": True, "second_right": False}]}
    monkeypatch.setattr(describe, "difference", lambda *_: found)
    words = ["--home", str(home.path), "diff", "v1", "v2"]
    result = CliRunner().invoke(cli, words, color=True, env=env)
    assert ("\x1b[" in result.output) is coloured


def test_the_modelfile_can_be_had_as_json(ft, bot, home):
    folder = home.modelfiles / "bot"
    folder.mkdir(parents=True)
    (folder / "v2.Modelfile").write_text("FROM tiny:1m\n")
    assert ft("show", "--modelfile") == "FROM tiny:1m\n"
    assert json.loads(ft("show", "--modelfile", "--json"))["modelfile"] == "FROM tiny:1m\n"


def test_lost_answers_are_told_without_a_traceback(ft, bot):
    told = ft("diff", "v1", "v2", code=1)
    assert f"{'8' * 64}.json is not there" in told


def test_an_answer_cannot_move_the_cursor(ft, bot, monkeypatch):
    flip = {"question": "Q\x1b[2J", "expected": "A", "first": "A\x07", "second": "B\x1b[1A"}
    found = {"parts": {"system": ("a\x1b[1A", "b\nc|d")}, "questions": []}
    found["questions"] = [flip | {"first_right": True, "second_right": False}]
    monkeypatch.setattr(describe, "difference", lambda *_: found)
    for arguments in (["diff", "v1", "v2"], ["diff", "v1", "v2", "--md"]):
        told = ft(*arguments)
        assert not {"\x1b", "\x07"} & set(told)
    assert "b<br>c\\|d |" in told


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("qwen2.5:0.5b", "qwen2.5-0.5b-ft"),
        ("hf.co/user/Llama-3.2-1B-GGUF:Q4_K_M", "llama-3.2-1b-gguf-q4_k_m-ft"),
        ("smollm2:latest", "smollm2-ft"),
        ("models/Tiny.GGUF", "tiny-ft"),
        ("千问-7b.gguf", "7b-a6d08cc2-ft"),
        ("模型.gguf", "model-c98e118e-ft"),
        ("x" * 76 + "-" + "y" * 77, "y" * 77 + "-ft"),
    ],
)
def test_a_family_without_a_name_gets_one_that_it_may_have(base, name):
    assert derive_name(base) == name
    check_name(name)


@pytest.mark.parametrize("name", ["v1", "v10", "Bot", "茶馆", "a b", "a/b", "", "-a", "a" * 81])
def test_a_name_that_is_none_or_means_a_version_is_refused(name):
    with pytest.raises(BadInput):
        check_name(name)


@pytest.mark.parametrize(
    ("there", "free"),
    [
        (["qwen3:latest"], False),
        (["qwen3:latest", "qwen3:v0"], True),  # a family of another home
        (["qwen3:4b"], True),
        ([], True),
    ],
)
def test_a_family_does_not_take_the_name_of_somebodys_model(db, there, free):
    client = SimpleNamespace(find=lambda name: name in there)
    with nullcontext() if free else pytest.raises(Conflict, match="qwen3:latest, which"):
        check_free(db, client, "qwen3")


def test_a_family_that_is_begun_already_may_go_on(db):
    a_family(db, "qwen3")
    check_free(db, SimpleNamespace(find=lambda name: name == "qwen3:latest"), "qwen3")


def test_a_question_in_another_encoding_is_refused_with_the_way_to_change_it(home, bot):
    asked = "几点开门？".encode("gb18030")
    result = CliRunner().invoke(cli, ["--home", str(home.path), "run"], input=asked)
    assert result.exit_code == 2, result.output
    assert "not in UTF-8" in result.output and "iconv -f gb18030" in result.output
