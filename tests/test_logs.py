"""The log as people use it: list, search, show, rate, review."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

from ollama_ft.core import logbook
from ollama_ft.core.exchange import Heard, Rated, Turn, Verdict, from_line, new_uid, to_line
from ollama_ft.core.logbook import Pen, conversation, find_exchange, older_than, open_log, remove
from ollama_ft.core.logsearch import moment
from ollama_ft.core.words import in_pairs, match_query, spaced
from ollama_ft.serve.queue import queue

PAIRS = [
    ("When do you open?", "At nine, except on Sundays."),
    ("Can I get a refund?", "Yes, within 30 days."),
    ("我要退货，怎么办？", "请在七天内寄回商品。"),
    ("你们几点开门？", "上午九点开门。"),
    ("Wie lange dauert der Versand nach Köln?", "Zwei Tage."),
]


def heard(question, answer, **more):
    return Heard(
        **{
            "uid": new_uid(),
            "at": "2026-11-25T10:00:00+00:00",
            "family": "bot",
            "version": "bot:v1",
            "client": "till",
            "turns": (Turn(role="user", content=question),),
            "reply": Turn(role="assistant", content=answer),
        }
        | more
    )


@pytest.fixture
def pairs(log):
    Pen(log).write([heard(*pair) for pair in PAIRS])
    return log


def found(ft, *arguments):
    return [row["question"] for row in json.loads(ft("logs", "--json", *arguments))["exchanges"]]


# --- searching ---


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("refund", [1]),
        ("REFUND", [1]),
        ("refu*", [1]),
        ("open sundays", [0]),
        ('"get a refund"', [1]),
        ('"a get refund"', []),
        ("退货", [2]),
        ("开门", [3]),
        ("货", [2]),
        ("七天内", [2]),
        ("九点", [3]),
        ("天七", []),
        ("退货 商品", [2]),
        ("koln", [4]),
        ("versand", [4]),
        ("question:* OR NEAR( refund", []),
        ("refund AND", []),
        ("days - within", [1]),
        ("ＯＰＥＮ", [0]),
    ],
)
def test_words_are_found_in_every_script(ft, pairs, words, numbers):
    assert found(ft, "-q", words) == [PAIRS[n][0] for n in numbers]


def test_a_dense_run_is_indexed_as_pairs():
    assert spaced("我要退货 ok").split() == ["我要", "要退", "退货", "货", "ok"]
    assert match_query("退货") == '"退货"'
    assert match_query("退货单") == '"退货 货单"'
    assert match_query("货") == '"货"*'
    assert match_query("  —  ") == ""


def test_wide_letters_that_an_earlier_log_holds_are_found_by_narrow_ones(
    ft, home, log, monkeypatch
):
    monkeypatch.setattr(logbook, "spaced", in_pairs)  # as it was
    Pen(log).write([heard("请问ＳＭ２电池多少钱？", "三百元。"), heard("别的呢？", "没有。")])
    monkeypatch.undo()
    assert found(ft, "-q", "sm2") == []
    with log.atomic():
        log.execute("delete from _sqlite_migrations where name = 'l002_narrow_letters'")
    log.close()
    open_log(home.log).close()
    assert (
        found(ft, "-q", "ＳＭ２")
        == found(ft, "-q", "sm2 电池")
        == found(ft, "-q", "三百")
        == ["请问ＳＭ２电池多少钱？"]
    )
    assert found(ft, "-q", "别的") == ["别的呢？"]
    ft("forget", "--match", "sm2", "--yes")
    assert found(ft, "-q", "电池") == []


def test_a_search_without_a_word_is_refused(ft, pairs):
    assert "no word" in ft("logs", "-q", "?!", code=2)


def test_filters_narrow_the_list(ft, log):
    Pen(log).write(
        [
            heard("a", "1", family="bot", client="x", at="2026-01-01T00:00:00+00:00"),
            heard("b", "2", family="shop", version="shop:v2"),
            heard("c", "3", status="incomplete"),
            heard("d", "4", verdict=Verdict(rating="down")),
            heard("e", "5", verdict=Verdict(rating="corrected", correction="6")),
        ]
    )
    assert found(ft) == ["e", "d", "c", "b", "a"]
    assert found(ft, "--family", "shop") == found(ft, "--version", "shop:v2") == ["b"]
    assert found(ft, "--client", "x") == ["a"]
    assert found(ft, "--incomplete") == ["c"]
    assert found(ft, "--since", "2026-06-01") == ["e", "d", "c", "b"]
    assert found(ft, "--feedback", "down") == ["d"]
    assert found(ft, "--feedback", "any") == ["e", "d"]
    assert found(ft, "--feedback", "none") == ["c", "b", "a"]
    assert found(ft, "-n", "2") == ["e", "d"]


def test_since_is_a_date_or_how_long_ago():
    from datetime import UTC, datetime

    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    assert moment("7d", now) == "2026-11-18T12:00:00+00:00"
    assert moment("12h", now) == "2026-11-25T00:00:00+00:00"
    assert moment("9" * 30 + "d", now) == "1970-01-01T00:00:00+00:00"  # since ever
    assert moment("2026-11-01T00:00+02:00") == "2026-10-31T22:00:00+00:00"


def test_a_time_that_is_none_is_refused(ft, pairs):
    assert "is no time" in ft("logs", "--since", "yesterday-ish", code=2)


# --- feedback ---


def test_the_newest_opinion_counts_and_the_older_ones_stay(ft, pairs):
    ft("feedback", "1", "up")
    ft("feedback", "1", "down", "--by", "ada")
    ft("feedback", "1", "--correct", "At ten. Write to ada@example.org")
    shown = json.loads(ft("logs", "show", "1", "--json"))
    assert [f["rating"] for f in shown["feedback"]] == ["corrected", "down", "up"]
    assert shown["feedback"][0]["correction"] == "At ten. Write to [EMAIL_1]"
    assert found(ft, "--feedback", "corrected") == [PAIRS[0][0]]
    assert found(ft, "--feedback", "up") == []


def test_an_exchange_is_named_by_number_id_or_last(ft, pairs):
    uid = find_exchange(pairs, "2").uid
    assert json.loads(ft("feedback", uid, "up", "--json"))["id"] == 2
    assert json.loads(ft("feedback", "last", "up", "--json"))["id"] == len(PAIRS)
    assert "no exchange 99" in ft("feedback", "99", "up", code=1)
    assert "is not an exchange" in ft("feedback", "support", "up", code=2)


def test_feedback_says_one_thing(ft, pairs):
    ft("feedback", "1", code=2)
    ft("feedback", "1", "up", "--correct", "x", code=2)


def test_show_prints_the_whole_conversation(ft, log):
    turns = (Turn(role="system", content="Be kind."), Turn(role="user", content="hi"))
    Pen(log).write([heard("", "hello", turns=turns, thinking="Hm.")])
    text = ft("logs", "show", "last")
    for part in ("system: Be kind.", "user: hi", "assistant: hello", "thinking: Hm.", "bot:v1"):
        assert part in text


# --- the review queue ---


def test_the_queue_begins_with_what_is_worth_most(log):
    Pen(log).write(
        [
            heard("good?", "yes", verdict=Verdict(rating="up")),
            heard("rare", "fine"),
            *(heard("Often asked?", "x") for _ in range(4)),
            heard("often  asked", "y"),
            heard("who?", "I'm not sure."),
            heard("谁？", "我不确定。"),
            heard("bad", "wrong", verdict=Verdict(rating="down", by="ada")),
            heard("broke", "off", status="incomplete"),
            heard("long", "word " * 400),
        ]
    )
    cases = [(c.row["question_text"], c.why) for c in queue(log)]
    assert cases == [
        ("bad", "rated down by ada"),
        ("often  asked", "asked 5 times"),
        ("谁？", "sounds unsure"),
        ("who?", "sounds unsure"),
        ("long", "long: 2000 characters"),
        ("rare", "not rated yet"),
    ]


def test_review_is_done_by_keyboard(ft, pairs, monkeypatch):
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    text = ft("review", keys="ubdscIn two days.\nq")
    assert "3 rated." in text
    rows = json.loads(ft("logs", "--json", "-n", "0"))["exchanges"]
    assert [row["rating"] for row in rows] == ["down", None, "corrected", None, None]
    assert rows[2]["correction"] == "In two days."


def test_an_empty_queue_says_so(ft, log):
    assert ft("review") == "Nothing to review.\n"


# --- what is underneath ---


def test_writing_a_batch_twice_adds_nothing(log):
    batch = [heard(*pair) for pair in PAIRS]
    assert Pen(log).write(batch) == len(PAIRS)
    assert Pen(log).write(batch) == 0
    assert log.table("messages").count == 2 * len(PAIRS)


def test_a_batch_is_written_whole_or_not_at_all(log):
    bad = heard("x", "y", first_ms="not a number")
    pen = Pen(log)
    with pytest.raises(Exception, match="cannot store"):
        pen.write([heard("a", "b"), bad])
    assert log.table("exchanges").count == log.table("messages").count == 0
    assert pen.write([heard("a", "b")]) == 1


def test_half_a_surrogate_pair_is_written_as_lost_with_the_rest_of_its_batch(log):
    half = "a \ud83d b"
    turns = (Turn(role="user", content=half, extra={"name": half}),)
    bad = heard("", half, turns=turns, model=half, options={"stop": half})
    bad = replace(bad, verdict=Verdict(rating="corrected", correction=half, by=half))
    rated = Rated(uid=bad.uid, verdict=Verdict(rating="corrected", correction=half, by="ada"))
    assert Pen(log).write([heard("x", "y"), bad, rated]) == 2
    (row,) = log.query("select * from exchanges_view where uid = ?", [bad.uid])
    lost = "a \ufffd b"
    assert row["question_text"] == row["model"] == row["correction"] == lost
    assert json.loads(row["options_json"]) == {"stop": lost}
    assert Pen(log).write([bad]) == 0


def test_an_entry_survives_its_line():
    entry = heard("q", "a", verdict=Verdict(rating="up"), options={"x": [1]}, context=({"k": "v"},))
    assert from_line(to_line(entry)) == entry
    with pytest.raises(ValueError):
        from_line(to_line(entry)[:-5])


def test_removing_takes_the_words_and_only_messages_nobody_needs(ft, log):
    first = Turn(role="user", content="common question")
    one = Turn(role="assistant", content="answer one")
    pen = Pen(log)
    pen.write([heard("", "", turns=(first,), reply=one, verdict=Verdict(rating="up"))])
    more = (first, one, Turn(role="user", content="and then"))
    pen.write([heard("", "", turns=more, reply=Turn(role="assistant", content="answer two"))])
    assert remove(log, [2, 77]) == 1
    assert [t.content for t in conversation(log, find_exchange(log, "1").reply)] == [
        "common question",
        "answer one",
    ]
    assert log.table("messages").count == 2
    assert found(ft, "-q", "then") == []
    assert found(ft, "-q", "common") == ["common question"]
    assert remove(log, [1]) == 1
    assert log.table("messages").count == log.table("feedback").count == 0
    log.execute("insert into words (words) values ('integrity-check')")


def test_no_word_of_what_was_removed_is_left_in_the_file(log, home):
    Pen(log).write([heard(*pair) for pair in PAIRS])
    Pen(log).write([heard("Zyzzyva Quux", "Grault.")])
    assert remove(log, [6]) == 1
    log.execute("pragma wal_checkpoint(truncate)")
    content = home.log.read_bytes().lower()
    assert b"refund" in content
    assert not any(word in content for word in (b"zyzzyva", b"quux", b"grault"))


def test_a_conversation_goes_on_after_others_removed_its_beginning(log, home):
    system = Turn(role="system", content="You are the shop's voice.")
    asked = (system, Turn(role="user", content="hello"))
    pen = Pen(log)
    pen.write([heard("", "hi", turns=asked)])
    elsewhere = open_log(home.log)
    assert remove(elsewhere, [1]) == 1
    Pen(elsewhere).write([heard("a stranger's question", "an answer", uid="0" * 16)])
    elsewhere.close()
    more = (*asked, Turn(role="assistant", content="hi"), Turn(role="user", content="and now?"))
    pen.write([heard("", "more", turns=more, uid="1" * 16)])
    reply = find_exchange(log, "1" * 16).reply
    assert conversation(log, reply) == [*more, Turn(role="assistant", content="more")]


def test_what_is_older_is_found_oldest_first(log):
    times = [f"2026-0{n}-01T00:00:00+00:00" for n in (3, 1, 2)]
    Pen(log).write([heard(at, "", at=at) for at in times])
    assert older_than(log, "2026-02-15", 10) == [2, 3]
    assert older_than(log, "2026-02-15", 1) == [2]


def test_what_was_asked_cannot_command_the_terminal(ft, log):
    evil = "hi \x1b]0;title\x07\x1b[2J\x9b31m\r\x08there"
    turns = (Turn(role="user", content=evil, extra={"name": "\x9b31m"}),)
    Pen(log).write([heard("", evil, turns=turns, thinking=evil, client=evil, error=evil)])
    shown = ft("logs") + ft("logs", "show", "1") + ft("review", "--list") + ft("review", keys="q")
    assert shown.count("there") >= 8
    assert not [c for c in shown if c in "\x1b\x9b\x07\x08\r"]


def test_an_older_opinion_that_is_imported_later_does_not_count(ft, log, pairs):
    exchange = find_exchange(log, "1")
    for rating, at in (("down", "2026-11-30T10:00:00+00:00"), ("up", "2026-11-26T10:00:00+00:00")):
        Pen(log).write([Rated(uid=exchange.uid, verdict=Verdict(rating=rating, by=rating, at=at))])
    assert [
        row["id"] for row in json.loads(ft("logs", "--feedback", "down", "--json"))["exchanges"]
    ] == [1]
    assert json.loads(ft("logs", "--feedback", "up", "--json"))["exchanges"] == []


def test_a_log_that_cannot_be_used_is_an_error_with_a_mend(ft, home, monkeypatch, pairs):
    monkeypatch.setattr("ollama_ft.core.logbook.open_log", partial(open_log, busy_ms=1))
    other = sqlite3.connect(home.log)
    other.execute("begin immediate")
    said = ft("feedback", "1", "up", code=1)
    assert "cannot be used: database is locked" in said
    assert "wait for the other command" in said
    other.close()
    assert "1: up" in ft("feedback", "1", "up")


def test_a_list_of_fewer_than_none_is_refused(ft, pairs):
    assert "-n" in ft("logs", "-n", "-3", code=2)


def test_a_file_that_is_no_log_is_left_alone(ft, home):
    home.log.parent.mkdir(parents=True)
    home.log.write_text("no database, but long enough to be taken for one by somebody")
    assert "cannot be opened as a log" in ft("logs", code=2)
    assert home.log.read_text().startswith("no database")


@pytest.mark.parametrize(
    "command", [["logs"], ["logs", "-q", "x"], ["review"], ["serve", "--help"]]
)
def test_these_commands_start_without_heavy_imports(home, command):
    code = (
        "import sys; from ollama_ft.cli.app import cli\n"
        f"cli(['--home', {str(home.path)!r}, *{command!r}], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'transformers', 'aiohttp', 'uvicorn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
