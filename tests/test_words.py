"""Words for the full-text index: what is found, in English and in Chinese."""

import sqlite3

import pytest

from ollama_ft.core.words import TOKENIZER, is_unspaced, match_any, to_ask, to_index

TEXTS = [
    "We open at nine on Sundays.",
    "听泉小铺星期天上午九点开门，水壶保修两年。",
    "Café Ｗｒｅｎ 3000 costs €40",
    "東京タワーは夜も開いています",
]


@pytest.fixture
def index():
    db = sqlite3.connect(":memory:")
    db.execute(f"create virtual table words using fts5(text, content='', tokenize='{TOKENIZER}')")
    for number, text in enumerate(TEXTS):
        db.execute("insert into words(rowid, text) values (?, ?)", [number, to_index(text)])
    yield db
    db.close()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Sunday", {0}),
        ("opening", {0}),
        ("开门", {1}),
        ("你们几点开门？", {1}),
        ("壶", {1}),
        ("保修", {1}),
        ("开业", {1}),  # one character in common
        ("wren", {2}),
        ("WREN 3000", {2}),
        ("cafe", {2}),
        ("タワー", {3}),
        ('"NEAR(" OR *', set()),
    ],
)
def test_what_a_question_finds(index, asked, found):
    terms = to_ask(asked)
    rows = index.execute("select rowid from words where words match ?", [match_any(terms)])
    assert {row[0] for row in rows} == found


def test_a_pair_counts_for_more_than_its_characters_apart(index):
    index.execute("insert into words(rowid, text) values (9, ?)", [to_index("开业时，门口")])
    sql = "select rowid from words where words match ? order by rank"
    rows = index.execute(sql, [match_any(to_ask("开门"))])
    assert [row[0] for row in rows] == [1, 9]


def test_a_question_without_a_word_asks_for_nothing():
    assert to_ask("?! 。。。") == []


def test_each_term_is_asked_once():
    assert to_ask("open open 开门开门") == ["open", "开门", "门开", "开", "门"]


@pytest.mark.parametrize(
    ("text", "unspaced"), [("几点开门 at 9", True), ("the 壶 shop", False), ("", False)]
)
def test_the_script_of_most_letters_decides(text, unspaced):
    assert is_unspaced(text) is unspaced
