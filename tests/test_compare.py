"""`compare`: from stored answers alone; who won is counted first."""

import json
from unicodedata import east_asian_width

import pytest
from click.testing import CliRunner

from ollama_ft import compare
from ollama_ft.cli.app import cli
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import silent
from ollama_ft.runtime.answers import Answer
from ollama_ft.stages import publish
from ollama_ft.workshop import Workshop
from tests.contest import ASKED, conversation, two_versions
from tests.rows import a_family, a_reply, a_version


@pytest.fixture
def ft(home):
    def run(*arguments, code=0, columns="100", typed=None):
        result = CliRunner(env={"COLUMNS": columns}).invoke(
            cli, ["--home", str(home.path), *arguments], input=typed
        )
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def versions(db, home):
    return two_versions(db, home)


def width(line):
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in line)


def test_counts_come_first_and_only_what_tells_the_two_apart_is_shown(ft, versions):
    said = ft("compare", "v1", "v2")
    lines = said.splitlines()
    assert lines[0] == "5 questions asked of both"
    assert [line.split()[:3] for line in lines[3:7]] == [
        ["bot:v1", "won", "1"],
        ["bot:v2", "won", "1"],
        ["both", "right", "2"],
        ["both", "wrong", "1"],
    ]
    assert said.count("\nQ  ") == 2
    assert "3 draws are not shown: --all" in said
    assert ft("compare", "v1", "v2", "--all").count("\nQ  ") == 5


@pytest.mark.parametrize("columns", ["100", "64", "40"])
def test_answers_stand_side_by_side_within_the_width_chinese_too(ft, versions, columns):
    said = ft("compare", "v1", "v2", columns=columns)
    grids = said.split("\nQ  ")[1:]
    assert max(width(line) for grid in grids for line in grid.splitlines()) <= int(columns)
    (chinese,) = [g for g in grids if g.startswith("你们")]
    beside = [
        line for line in chinese.splitlines() if "我不知道。" in line and "晚上八点关门。" in line
    ]
    assert len(beside) == (columns != "40")  # too narrow for two: one under the other
    if beside:
        # Both columns begin where their heads begin, counted in terminal columns.
        head = next(line for line in chinese.splitlines() if "✗ bot:v1" in line)
        assert width(head[: head.index("✓")]) == width(beside[0][: beside[0].index("晚")])


def test_the_winner_is_green_and_the_loser_red(ft, versions, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = CliRunner().invoke(cli, ["compare", "v1", "v2"], color=True)
    first = result.output.split("Q  When do you open?")[1]
    assert "\x1b[32mAt nine." in first
    assert "\x1b[31mAt ten." in first


def test_a_model_cannot_colour_or_move_the_screen(ft, versions):
    said = ft("compare", "v1", "v2", "--all")
    assert "\x1b" not in said
    assert "[31mA model | with a pipe" in said


def test_markdown_can_be_pasted_whatever_stands_in_an_answer(ft, versions):
    lines = ft("compare", "v1", "v2", "--md", "--all").splitlines()
    assert lines[2] == "| bot:v1 won | 1 |"
    rows = [line for line in lines if line.startswith("| Who are you?")]
    assert rows == [
        "| Who are you? | Wren | ❌ A shop. | ❌ [31mA model \\| with a pipe<br>and a line |"
    ]


def test_json_has_every_question_and_who_won_it(ft, versions):
    body = json.loads(ft("compare", "v1", "v2", "--json"))
    assert body["counts"] == {"first": 1, "second": 1, "both_right": 2, "both_wrong": 1}
    assert [p["winner"] for p in body["pairs"]] == ["first", "second", "tie", "tie", "tie"]
    assert body["judge"] is None


def test_turned_round_the_other_one_wins(ft, versions):
    body = json.loads(ft("compare", "v2", "v1", "--json"))
    assert [p["winner"] for p in body["pairs"]] == ["second", "first", "tie", "tie", "tie"]


def test_nothing_is_asked_on_request(ft, versions, db):
    db.execute("delete from evaluations where version = ?", [versions[0].key])
    db.conn.commit()
    said = ft("compare", "v1", "v2", "--stored", code=1)  # no runtime is looked for
    assert "never asked the same question" in said
    assert "--stored asks nothing" in ft("compare", "v1", "v2", "--stored", "--judge", "x", code=2)


def test_a_version_is_not_compared_with_itself(ft, versions):
    assert "the same version" in ft("compare", "v1", "bot:v1", code=2)


class Runtime:
    """Answers every question with the same words, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def ask_many(self, name, conversations, *, on_answer, **_):
        self.asked += [(name, messages[-1].content) for messages in conversations]
        said = [Answer(text="In Oslo.", done=True, done_reason="stop") for _ in conversations]
        for place, answer in enumerate(said):
            on_answer(place, answer)
        return said


@pytest.fixture
def shop(db, home, monkeypatch):
    monkeypatch.setattr(publish, "bring", lambda *_: None)
    return Workshop(db=db, home=home, client=Runtime(), emit=silent)


def test_only_what_a_version_was_never_asked_is_asked(db, home, versions, shop):
    v1, v2 = versions
    assert compare.lacking(db, home, v1, v2) == []
    family = a_version(db, a_family(db, "other"), 0)  # no data of its own
    v3 = a_version(db, a_family(db, "shop"), 3)
    for question in (conversation(*row[:2]) for row in ASKED[:2]):
        a_reply(db, v3, question, "At nine.")
    from ollama_ft.core.catalog import append, newest
    from ollama_ft.core.records import Dataset

    real = newest(db, Dataset, family="bot")
    append(db, Dataset(**{**real.__dict__, "id": None, "family": "shop"}))
    assert compare.lacking(db, home, v1, v3) == [v3]
    compare.catch_up(shop, v1, v3)
    assert shop.client.asked == [
        ("shop:v3", row[0])
        for row in sorted(ASKED[2:], key=lambda row: conversation(*row[:2]).digest)
    ]
    assert len(compare.pairs(db, home, v1, v3)) == 5
    assert compare.lacking(db, home, v1, v3) == []
    assert family.family == "other"


def test_without_a_common_question_it_says_how_to_ask(db, home):
    family = a_family(db)
    v1, v2 = a_version(db, family, 1), a_version(db, family, 2)
    with pytest.raises(NotFound, match="never asked the same question") as caught:
        compare.compare(db, home, v1, v2)
    assert caught.value.mend == "ollama-ft eval bot:v1, then ollama-ft eval bot:v2"
