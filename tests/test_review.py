"""Review and logs at a terminal: keys, ends, and texts that a terminal would obey."""

import pytest

from ollama_ft.cli.tables import harmless
from ollama_ft.core.exchange import Heard, Turn, Verdict
from ollama_ft.core.logbook import Pen, open_log

HOSTILE = "red \x1b[31m\x1b]0;title\x07\r\x9b2J and 红"


@pytest.fixture
def asked(home):
    """Three questions, the newest of them hostile."""
    log = open_log(home.log)
    for number, text in enumerate(("One?", "Two?", HOSTILE)):
        opinion = Verdict(rating="down", by=HOSTILE) if text == HOSTILE else None
        Pen(log).write(
            [
                Heard(
                    uid=f"{number:016d}",
                    at="2026-11-25T10:00:00+00:00",
                    client=text,
                    turns=(Turn(role="user", content=text, extra={"name": text}),),
                    reply=Turn(role="assistant", content=text),
                    thinking=text,
                    verdict=opinion,
                )
            ]
        )
    yield log
    log.close()


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt, ""])
def test_review_ends_well_where_the_keys_end(ft, asked, monkeypatch, end):
    keys = iter(["u", end])

    def getchar():
        key = next(keys)
        if isinstance(key, type):
            raise key
        return key

    monkeypatch.setattr("click.getchar", getchar)
    assert "1 rated." in ft("review")


def test_review_without_a_terminal_says_what_to_do_instead(ft, asked, monkeypatch):
    def getchar():
        raise OSError(6, "No such device or address: '/dev/tty'")

    monkeypatch.setattr("click.getchar", getchar)
    assert "ollama-ft review --list" in ft("review", code=2)


@pytest.mark.parametrize("command", ["review", "logs"])
def test_a_family_that_is_not_there_is_said_not_to_be(ft, asked, command):
    assert "There is no family 'nosuch'" in ft(command, "--family", "nosuch", code=1)


@pytest.mark.parametrize("arguments", [("review", "-n", "0"), ("logs", "-n", "-1")])
def test_a_count_that_makes_no_sense_is_refused(ft, asked, arguments):
    ft(*arguments, code=2)


@pytest.mark.parametrize(
    "command",
    [("logs",), ("logs", "show", "last"), ("review", "--list"), ("review",)],
    ids=" ".join,
)
def test_a_logged_text_cannot_move_the_cursor_or_name_the_window(ft, asked, command):
    told = ft(*command, keys="q")
    assert "red" in told and "红" in told
    assert [c for c in told if c in "\x1b\x07\r\x9b"] == []


def test_lines_of_every_system_stay_lines():
    assert harmless("a\r\nb\tc\x00") == "a\nb\tc"


def test_a_client_in_another_encoding_is_refused_and_no_crash(ft, asked):
    assert "is not UTF-8 text" in ft("logs", "--client", "\udcff", code=2)
