"""Logs of elsewhere: what people have already comes into the log, and says where it came from.

What is so for one source alone stands in `test_sources_<source>.py`.
"""

import json
import sqlite3
from pathlib import Path

import pytest

from ollama_ft.core import plugins
from ollama_ft.core.catalog import append
from ollama_ft.core.exchange import Heard, Turn, uid_for
from ollama_ft.core.plugins import collect, hookimpl
from ollama_ft.core.records import Intent, Promotion
from ollama_ft.kinds.sources import Source
from ollama_ft.kinds.sources.fields import moment
from tests.elsewhere import (
    CHINESE,
    OPEN,
    a_chat,
    an_answer,
    answered,
    asked,
    importer,
    lines,
    llm_log,
    message,
    rows,
    show,
)
from tests.rows import a_family, a_version


@pytest.fixture
def bring(ft, tmp_path):
    return importer(ft, tmp_path)


def every_source(tmp_path):
    chats = tmp_path / "export.json"
    chats.write_text(json.dumps([a_chat({**OPEN, **an_answer(content=CHINESE[1])})]))
    old = tmp_path / "old.jsonl"
    old.write_text(lines({"request": asked(CHINESE[0]), "response": answered(CHINESE[1])}))
    return [llm_log(tmp_path, "0.36"), chats, old]


def test_importing_twice_adds_nothing_new(ft, tmp_path):
    files = every_source(tmp_path)
    first = json.loads(ft("logs", "import", *files, "--json"))["imported"]
    assert [came["source"] for came in first] == ["llm", "open-webui", "jsonl"]
    assert [came["new"] for came in first] == [14, 1, 1]
    before = rows(ft)
    again = json.loads(ft("logs", "import", *files, "--json"))["imported"]
    assert [(came["new"], came["known"]) for came in again] == [(0, 14), (0, 1), (0, 1)]
    assert rows(ft) == before


def test_each_row_shows_where_it_came_from(ft, tmp_path):
    ft("logs", "import", *every_source(tmp_path))
    places = {row["source"]: row["place"] for row in rows(ft)}
    assert places == {
        "llm": "logs.db#01m8q0d5f0s6gwp6abnjt4654e",
        "open-webui": "export.json#chat-1/a1",
        "jsonl": "old.jsonl#1",
    }
    for row in rows(ft):
        assert f"from         {row['source']} {row['place']}" in ft("logs", "show", row["uid"])
        assert show(ft, row["uid"])["place"] == row["place"]


def test_chinese_of_every_source_is_found(ft, tmp_path):
    ft("logs", "import", *every_source(tmp_path))
    found = rows(ft, "-q", "七天内")
    assert {row["source"] for row in found} == {"llm", "open-webui", "jsonl"}
    assert {row["answer"] for row in found} == {CHINESE[1]}
    assert {row["question"] for row in rows(ft, "-q", "退货")} == {CHINESE[0]}


MAIL = "Write to ada@example.org"


def test_what_is_personal_is_taken_out_of_every_source(ft, bring, tmp_path, home):
    path = llm_log(tmp_path, "0.36")
    db = sqlite3.connect(path)
    db.executescript(f"update parts set text = '{MAIL}' where text is not null")
    db.executescript(f"update responses set response = '{MAIL}', prompt = '{MAIL}'")
    db.close()
    ft("logs", "import", path)
    bring("export.json", [a_chat({**message("u1", None, "user", MAIL), **an_answer(content=MAIL)})])
    row = {"request": asked(MAIL, user="ada@example.org"), "response": answered(MAIL)}
    bring("old.jsonl", lines({**row, "correction": MAIL}))
    assert all(row["redacted"] for row in rows(ft) if "EMAIL" in row["answer"])
    last = rows(ft)[-1]
    assert last["question"] == last["answer"] == last["correction"] == "Write to [EMAIL_1]"
    for file in home.log.parent.iterdir():
        assert b"ada@example" not in file.read_bytes()


def test_what_is_personal_stays_only_if_that_is_asked_for(ft, bring):
    bring("old.jsonl", lines({"request": asked(MAIL), "response": answered()}), "--no-redact")
    assert rows(ft)[0]["question"] == MAIL


@pytest.fixture
def families(db):
    """bot, with a live version, and shop, with none."""
    version = a_version(db, a_family(db, "bot"), 1)
    move = {"family": "bot", "version": version.key, "action": "promote", "parent": None}
    intent = append(db, Intent(**move, reason=""))
    append(db, Promotion(**move, reason="", intent=intent.key, outcome="done", digest=""))
    a_family(db, "shop")


@pytest.mark.parametrize(
    ("model", "family", "version"),
    [
        ("bot", "bot", ""),
        ("bot:latest", "bot", ""),
        ("BOT:v1", "bot", "bot:v1"),
        ("bot:7b", "", ""),
        ("shop", "shop", ""),
        ("gpt-4o", "", ""),
        ("no name at all!", "", ""),
    ],
)
def test_a_model_name_that_belongs_to_a_family_gets_that_family(
    ft, bring, families, model, family, version
):
    bring("old.jsonl", lines({"request": asked(model=model), "response": answered()}))
    (row,) = rows(ft)
    assert (row["family"], row["version"].lower(), row["model"]) == (family, version, model)
    assert bool(row["version_digest"]) == bool(version)


def test_the_family_that_is_told_counts_where_the_name_tells_none(ft, bring, families):
    found = [{"request": asked(model=m), "response": answered(m)} for m in ("gpt-4o", "bot")]
    bring("old.jsonl", lines(*found), "--family", "shop")
    assert [row["family"] for row in rows(ft)] == ["shop", "bot"]
    assert "nobody" in ft("logs", "import", "x.jsonl", "--family", "nobody", code=1)


def test_an_unknown_file_is_refused_with_the_command_that_mends_it(ft, tmp_path):
    path = tmp_path / "my notes.txt"
    path.write_text("Dear diary")
    output = " ".join(ft("logs", "import", path, code=2).split())
    assert "my notes.txt is none of: llm, open-webui, jsonl." in output
    assert f"ollama-ft logs import '{path}' --source NAME" in output
    path.write_text("")
    assert "is none of" in ft("logs", "import", path, code=2)
    assert "There is no file" in ft("logs", "import", tmp_path / "missing.json", code=1)
    assert "There is no file" in ft("logs", "import", tmp_path, code=1)


def test_a_file_that_may_not_be_read_is_refused(ft, tmp_path, monkeypatch):
    path = tmp_path / "old.jsonl"
    path.write_text("{}")

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read: Permission denied" in ft("logs", "import", path, code=2)


def test_a_wrong_source_lists_those_that_exist(ft, tmp_path):
    path = tmp_path / "old.jsonl"
    path.write_text("{}")
    output = ft("logs", "import", path, "--source", "slack", code=2)
    assert "There is no source 'slack'. There are: llm, open-webui, jsonl." in output


@pytest.mark.parametrize("source", ["llm", "open-webui"])
def test_a_file_of_another_source_is_refused_by_the_one_that_was_named(ft, tmp_path, source):
    path = tmp_path / "old.jsonl"
    path.write_text(lines({"request": asked(), "response": answered()}))
    assert "old.jsonl" in ft("logs", "import", path, "--source", source, code=2)
    assert rows(ft) == []


def test_sources_come_in_by_the_door_for_plugins(ft, tmp_path, monkeypatch):
    assert {loaded.origin for loaded in collect("sources").values()} == {"ollama_ft.kinds.sources"}

    class Plugin:
        @hookimpl
        def register_sources(self, register):
            register("diary", Source(fits=lambda path: path.suffix == ".diary", read=read))

    def read(path):
        yield Heard(
            uid=uid_for("diary", "1"),
            at="2026-01-01T00:00:00+00:00",
            turns=(Turn(role="user", content="Dear diary?"),),
            reply=Turn(role="assistant", content=path.read_text()),
            source="diary",
            place=f"{path.name}#1",
        )

    class Entry:
        name, value, dist = "mine", "diaries", None
        load = staticmethod(Plugin)

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry])
    collect.cache_clear()
    try:
        path = tmp_path / "2026.diary"
        path.write_text("Dear you.")
        assert ": 1 new, 0 known already, 0 without an answer (diary)" in ft("logs", "import", path)
        assert rows(ft)[0]["place"] == "2026.diary#1"
        output = ft("logs", "import", path, "--source", "slack", code=2)
        assert "There are: llm, open-webui, jsonl, diary." in output
    finally:
        collect.cache_clear()


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        (1_760_000_000, "2025-10-09T08:53:20+00:00"),
        ("1760000000", "2025-10-09T08:53:20+00:00"),
        (1_760_000_000_123, "2025-10-09T08:53:20+00:00"),
        (1_760_000_000_123_456_789, "2025-10-09T08:53:20+00:00"),
        ("2025-10-09T10:53:20+02:00", "2025-10-09T08:53:20+00:00"),
        ("2025-10-09 08:53:20", "2025-10-09T08:53:20+00:00"),
    ],
)
def test_times_of_every_kind_are_one_time(value, iso):
    assert moment(value) == moment(None, "soon", float("nan"), value) == iso
