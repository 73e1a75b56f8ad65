"""The logs of the llm program come in: those of its older versions and of today's."""

import sqlite3

import pytest

from tests.elsewhere import CHINESE, llm_log, rows, said, show


def test_a_log_that_llm_0_27_wrote_is_read_with_what_was_said_before(ft, tmp_path):
    output = ft("logs", "import", llm_log(tmp_path, "0.27"))
    assert output.endswith("logs.db: 7 new, 0 known already, 1 without an answer (llm)\n")
    first, second, chinese, *_ = rows(ft)
    assert (first["question"], first["answer"]) == ("When do you open?", "At nine.")
    assert (first["model"], first["client"], first["source"]) == ("bot", "llm", "llm")
    assert first["place"] == "logs.db#01m8q0d3jdc71pz1pnazbq4n5h"
    assert first["at"] == "2026-11-30T19:55:11+00:00"
    assert first["options"] == {"temperature": 0.5}
    assert (first["prompt_tokens"], first["answer_tokens"]) == (10, 3)
    assert (chinese["question"], chinese["answer"]) == CHINESE
    assert said(ft, second["uid"]) == [
        ("system", "Be kind."),
        ("user", "When do you open?"),
        ("assistant", "At nine."),
        ("user", "And on Sundays?"),
        ("assistant", "We are closed."),
    ]


@pytest.mark.parametrize("version", ["0.27", "0.36"])
def test_fragments_tools_and_files_of_llm_stand_in_the_conversation(ft, tmp_path, version):
    ft("logs", "import", llm_log(tmp_path, version))
    by_answer = {row["answer"]: row for row in rows(ft)}
    assert said(ft, by_answer["Two days."]["uid"]) == [
        ("system", "Answer from the text."),
        ("user", "Delivery to Köln takes two days.\n\nHow long does it take?"),
        ("assistant", "Two days."),
    ]
    turns = show(ft, by_answer[f"It is {version}."]["uid"])["messages"][-4:]
    assert [(t["role"], t["content"]) for t in turns] == [
        ("user", "Which version?"),
        ("assistant", ""),
        ("tool", version),
        ("assistant", f"It is {version}."),
    ]
    function = {"name": "llm_version", "arguments": {}}
    assert turns[1]["tool_calls"] == [{"id": "c1", "function": function}]
    assert (turns[2]["tool_name"], turns[2]["tool_call_id"]) == ("llm_version", "c1")
    (picture,) = show(ft, by_answer["A picture."]["uid"])["messages"][0]["attachments"]
    assert picture["sha256"].startswith("4c4b6a3b")


def test_a_log_that_llm_0_36_went_on_with_has_both_forms_and_adds_only_what_is_new(ft, tmp_path):
    ft("logs", "import", llm_log(tmp_path, "0.27"))
    output = ft("logs", "import", llm_log(tmp_path, "0.36"))
    assert "logs.db: 7 new, 7 known already, 2 without an answer" in output
    newer = {row["answer"]: row for row in rows(ft)[7:]}
    assert said(ft, newer["At ten."]["uid"])[-3:] == [
        ("assistant", "We are closed."),
        ("user", "And on Mondays?"),
        ("assistant", "At ten."),
    ]
    assert newer[CHINESE[1]]["question"] == CHINESE[0]
    assert newer["Fine."]["thinking"] == "Hm."
    assert newer["At ten."]["place"] == "logs.db#01m8q0d5d88x8r155230ej0kn9"


@pytest.mark.parametrize(
    "spoil",
    [
        "update messages set parent_hash = hash",
        "delete from messages where role = 'user'",
        "update turns set parent_message_hash = null",
        "update turns set parent_message_hash = tip_message_hash",
        "update parts set text = null, payload = '[['",
        "update parts set text = x'ff00', payload = 5",
        "update messages set role = 'tool'",
    ],
)
def test_a_turn_of_llm_whose_messages_are_damaged_is_passed_over(ft, tmp_path, spoil):
    path = llm_log(tmp_path, "0.36")
    db = sqlite3.connect(path)
    db.executescript(f"delete from responses; {spoil}")
    db.close()
    assert ": 0 new, 0 known already, 8 without" in ft("logs", "import", path)


@pytest.mark.parametrize(
    "spoil",
    [
        "update responses set response = x'00ff'",
        "update responses set response = null",
        "update responses set prompt = x'07', conversation_id = null",
    ],
)
def test_a_response_of_llm_with_odd_values_is_passed_over(ft, tmp_path, spoil):
    path = llm_log(tmp_path, "0.27")
    db = sqlite3.connect(path)
    db.executescript(
        "delete from prompt_fragments; delete from prompt_attachments; delete from tool_calls;"
        f"delete from tool_results; {spoil}"
    )
    db.close()
    assert ": 0 new, 0 known already, 8 without" in ft("logs", "import", path)


@pytest.mark.parametrize(
    "script", ["create table responses (id, said)", "create table turns (id)", "create table x (y)"]
)
def test_a_database_of_something_else_is_refused_by_its_name(ft, tmp_path, script):
    path = tmp_path / "webui.db"
    db = sqlite3.connect(path)
    db.executescript(script)
    db.close()
    assert "webui.db is a SQLite file, but no log of llm." in ft("logs", "import", path, code=2)


def test_a_damaged_database_is_refused(ft, tmp_path):
    path = llm_log(tmp_path, "0.36")
    path.write_bytes(path.read_bytes()[:5000])
    assert "logs.db cannot be read as a log of llm" in ft("logs", "import", path, code=2)


def test_a_log_of_llm_is_found_under_any_name_and_left_as_it_was(ft, tmp_path):
    path = llm_log(tmp_path, "0.36").rename(tmp_path / "my logs?mode=rw#50%.db")
    before = path.read_bytes()
    assert ": 14 new" in ft("logs", "import", path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [path.name]
