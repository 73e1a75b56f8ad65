"""Retrieval: what is found by words, by meaning, and by both; the index as a cache; the prompt."""

import dataclasses
import threading

import pytest

from ollama_ft.core.catalog import every
from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.core.events import silent
from ollama_ft.core.shelf_records import Chunk
from ollama_ft.kinds.context import Passage, with_context
from ollama_ft.serve import knowledge, shelf_index
from ollama_ft.serve.knowledge import fused, lexical, retrieve
from ollama_ft.stages import knowledge as stage
from tests.test_knowledge import MODEL, Runtime

FACTS = [
    "We open at nine on Sundays.",
    "Returns are taken within thirty days.",
    "听泉小铺星期天上午九点开门。",
    "水壶保修两年。",
    "The battery lasts thirty-one hours.",
]


@pytest.fixture(autouse=True)
def nothing_open():
    shelf_index._open.clear()


@pytest.fixture
def facts(tmp_path):
    path = tmp_path / "facts.md"
    path.write_text("\n\n---\n\n".join(FACTS))
    return path


@pytest.fixture
def shelf(db, home, facts):
    """The facts on everybody's shelf, embedded."""
    stage.add(db, home, [facts], silent)
    stage.embed(db, Runtime(), stage.register(db, MODEL), silent)
    return db


def texts(passages):
    return [passage.text for passage in passages]


def test_words_find_english_and_two_character_chinese(shelf, home):
    assert texts(retrieve(shelf, home, None, "bot", "battery hours", 1)) == [FACTS[4]]
    assert texts(retrieve(shelf, home, None, "bot", "保修多久？", 1)) == [FACTS[3]]


def test_a_chinese_word_is_found_across_the_end_of_a_line(db, home, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("本店所售水壶一律保\n修两年。")
    stage.add(db, home, [path], silent)
    rows = db.execute("select rowid from words where words match '\"保修\"'").fetchall()
    assert len(rows) == 1


def test_both_rankings_are_fused_and_said(shelf, home):
    found = retrieve(shelf, home, Runtime(), "bot", FACTS[1], 2)
    assert found[0].text == FACTS[1]
    assert found[0].found_by == ("words", "meaning")
    assert found[0].score == pytest.approx(2 / 61)
    assert found[0].place == "facts.md"


def test_meaning_finds_what_shares_no_word(shelf, home):
    (found,) = retrieve(shelf, home, Runtime(), "bot", "eee nnn ooo", 1)
    assert found.found_by == ("meaning",)


def test_reciprocal_rank_fusion_as_in_the_paper():
    scores = fused([[1, 2, 3], [3, 1]])
    assert scores == {1: 1 / 61 + 1 / 62, 2: 1 / 62, 3: 1 / 63 + 1 / 61}


def test_without_an_embedding_model_words_must_do_and_it_is_said(db, home, facts):
    stage.add(db, home, [facts], silent)
    told = []
    found = retrieve(db, home, Runtime(), "bot", "battery", 1, emit=told.append)
    assert found[0].found_by == ("words",)
    assert "words alone" in told[0].text


def test_a_runtime_without_the_model_is_the_same(shelf, home):
    class Without(Runtime):
        def embed(self, name, texts):
            raise RuntimeRefused("model not found", status=404)

    told = []
    assert texts(retrieve(shelf, home, Without(), "bot", "battery", 1, emit=told.append)) == [
        FACTS[4]
    ]
    assert "words alone" in told[0].text


def test_what_is_no_more_on_the_shelf_is_not_found(shelf, home, facts):
    facts.write_text("\n\n---\n\n".join(FACTS[:4]))
    stage.add(shelf, home, [facts], silent)
    assert FACTS[4] not in texts(retrieve(shelf, home, Runtime(), "bot", "battery hours", 5))
    stage.remove(shelf, [facts])
    assert retrieve(shelf, home, Runtime(), "bot", "battery hours", 5) == []


def test_chunks_of_many_removed_documents_do_not_crowd_out_the_rest(db, home, tmp_path):
    path = tmp_path / "a.md"
    for n in range(8):
        path.write_text("\n\n---\n\n".join(f"battery {n} {m}" for m in range(30)))
        stage.add(db, home, [path], silent)
    found = lexical(db, "", "battery", 50)
    assert len(found) == 30


def test_a_family_sees_its_own_documents_and_everybodys(shelf, home, tmp_path):
    own = tmp_path / "own.md"
    own.write_text("The secret word is swordfish.")
    stage.add(shelf, home, [own], silent, family="bot")
    assert texts(retrieve(shelf, home, None, "bot", "swordfish", 1)) == [own.read_text()]
    assert retrieve(shelf, home, None, "other", "swordfish", 1) == []
    assert texts(retrieve(shelf, home, None, "other", "battery", 1)) == [FACTS[4]]


def test_common_words_are_passed_over_where_rarer_ones_are_asked(db, home, tmp_path, monkeypatch):
    monkeypatch.setattr(knowledge, "_MANY", 10)
    path = tmp_path / "a.md"
    path.write_text("\n\n---\n\n".join([*(f"the thing {n}" for n in range(30)), "the zebra"]))
    stage.add(db, home, [path], silent)
    assert knowledge._telling(db, ["the", "zebra"]) == ["zebra"]
    assert knowledge._telling(db, ["the", "thing"]) == ["the", "thing"]


@pytest.mark.parametrize("many", [10, 1000])
def test_what_is_asked_at_the_end_of_a_long_question_is_looked_for(
    db, home, tmp_path, monkeypatch, many
):
    monkeypatch.setattr(knowledge, "_MANY", many)
    path = tmp_path / "a.md"
    path.write_text("\n\n---\n\n".join([*(f"甲乙 {n}" for n in range(40)), "水壶保修两年。"]))
    stage.add(db, home, [path], silent)
    story = "".join(chr(0x5000 + n) for n in range(150))
    assert lexical(db, "", f"{story}。保修多久？", 5) == [41]


# The index


def files(home):
    return sorted(home.data("knowledge").glob("*.usearch"))


def test_the_index_is_kept_and_opened_again_by_another_process(shelf, home, monkeypatch):
    retrieve(shelf, home, Runtime(), "bot", "x", 1)
    (path,) = files(home)
    before = path.stat().st_mtime_ns
    shelf_index._open.clear()
    monkeypatch.setattr(shelf_index, "_built", None)  # must not be needed
    assert retrieve(shelf, home, Runtime(), "bot", FACTS[0], 1)[0].text == FACTS[0]
    assert path.stat().st_mtime_ns == before


def test_a_changed_shelf_gets_a_new_index_and_the_old_file_goes(shelf, home, facts):
    retrieve(shelf, home, Runtime(), "bot", "x", 1)
    (old,) = files(home)
    facts.write_text("\n\n---\n\n".join([*FACTS, "A sixth fact, about snow."]))
    stage.add(shelf, home, [facts], silent)
    stage.embed(shelf, Runtime(), stage.register(shelf, MODEL), silent)
    found = retrieve(shelf, home, Runtime(), "bot", "A sixth fact, about snow.", 1)
    assert "meaning" in found[0].found_by
    (new,) = files(home)
    assert new != old


@pytest.mark.parametrize("damage", ["removed", "truncated", "halved", "garbage"])
def test_an_index_that_is_lost_is_built_again(shelf, home, damage):
    retrieve(shelf, home, Runtime(), "bot", "x", 1)
    (path,) = files(home)
    content = path.read_bytes()
    path.unlink()
    left = {"truncated": content[:100], "halved": content[: len(content) // 2]}
    if damage != "removed":
        path.write_bytes(left.get(damage, b"garbage" * 99))
    shelf_index._open.clear()
    found = retrieve(shelf, home, Runtime(), "bot", FACTS[2], 1)
    assert (found[0].text, found[0].found_by) == (FACTS[2], ("words", "meaning"))
    assert files(home) == [path]


def test_an_index_of_another_catalog_is_never_taken_for_ones_own(shelf, home, tmp_path):
    from ollama_ft.core.catalog import open_catalog

    retrieve(shelf, home, Runtime(), "bot", "x", 1)
    other, path = open_catalog(tmp_path / "other.sqlite"), tmp_path / "new.md"
    path.write_text("\n\n---\n\n".join(f"{'aeionrst'[n] * 9} new" for n in range(len(FACTS))))
    stage.add(other, home, [path], silent)
    stage.embed(other, Runtime(), stage.register(other, MODEL), silent)
    shelf_index._open.clear()
    for n, letter in enumerate("aeion"):
        found = knowledge.semantic(other, home, Runtime(), "bot", letter * 9 + " new", 1)
        assert found == [n + 1]
    other.close()


def test_an_index_that_cannot_be_kept_is_used_all_the_same(shelf, home, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shelf_index, "write_bytes", refused)
    found = retrieve(shelf, home, Runtime(), "bot", FACTS[2], 1)
    assert found[0].found_by == ("words", "meaning")


def test_half_a_character_in_a_question_costs_nothing(shelf, home):
    class Sending(Runtime):
        def embed(self, name, texts):
            return super().embed(name, [text.encode().decode() for text in texts])

    found = retrieve(shelf, home, Sending(), "bot", FACTS[1] + "\ud83d", 1)
    assert (found[0].text, found[0].found_by) == (FACTS[1], ("words", "meaning"))


def test_a_model_that_gives_vectors_of_another_size_is_not_used(shelf, home):
    class Other(Runtime):
        def embed(self, name, texts):
            return [[1.0, 0.0] for _ in texts]

    told = []
    found = retrieve(shelf, home, Other(), "bot", "battery", 1, emit=told.append)
    assert found[0].found_by == ("words",)
    assert "words alone" in told[0].text


def test_an_index_that_is_brought_up_to_date_finds_what_a_new_one_finds(db, home, tmp_path):
    import numpy as np

    path, row = tmp_path / "a.md", stage.register(db, MODEL)
    lines = [f"{'aeionrst'[n % 8] * (n + 1)} {n}" for n in range(60)]

    def shelve(some):
        path.write_text("\n\n---\n\n".join(some))
        stage.add(db, home, [path], silent)
        stage.embed(db, Runtime(), row, silent)
        return shelf_index.open_index(db, home, "", row)

    shelve(lines)
    updated = shelve([*lines[4:], "snow on the line", "and rain"])
    shelf_index._open.clear()
    files(home)[0].unlink()
    built = shelf_index.open_index(db, home, "", row)
    assert len(updated.index) == len(built.index) == 58
    (vector,) = Runtime().embed("", ["snow on the line"])
    both = [index.search(np.asarray(vector, np.float32), 5) for index in (updated, built)]
    assert set(both[0]) == set(both[1])


def test_several_threads_search_at_once(shelf, home):
    import numpy as np

    index = shelf_index.open_index(shelf, home, "", stage.register(shelf, MODEL))
    found, vector = [], np.ones(8, np.float32)
    threads = [
        threading.Thread(target=lambda: found.append(index.search(vector, 5))) for _ in range(8)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 8
    assert len({tuple(ids) for ids in found}) == 1


# The prompt


def passage(**changes):
    plain = Passage(
        chunk=1,
        path="/x/guide.pdf",
        title="Guide",
        heading="Hours",
        page=3,
        text="We open at {question} nine.",
        score=1.0,
        found_by=("words",),
    )
    return dataclasses.replace(plain, **changes)


def test_passages_stand_behind_the_last_question():
    turns = [
        Message(role="system", content="Be kind."),
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Hi"),
        Message(role="user", content="When {passages} do you open?"),
    ]
    made = with_context(turns, [passage(), passage(heading="", text="Closed on Monday.")])
    assert made[:3] == turns[:3]
    assert made[3].content == (
        "When {passages} do you open?\n\n"
        "Use this information, and say that you do not know if the answer is not in it:\n\n"
        "Hours\nWe open at {question} nine.\n\nClosed on Monday."
    )


def test_a_chinese_question_is_put_in_chinese():
    made = with_context([Message(role="user", content="几点开门？")], [passage()])
    assert made[0].content.startswith("几点开门？\n\n请根据下列资料回答")


def test_without_passages_nothing_is_changed():
    turns = [Message(role="user", content="Hello")]
    assert with_context(turns, []) == turns


def test_a_source_is_named_by_file_page_and_heading():
    assert passage().place == "guide.pdf, page 3, Hours"
    assert passage(path="C:\\x\\a.md", page=None, heading="").place == "a.md"


def test_the_words_index_has_each_chunk_once(shelf):
    (count,) = shelf.execute("select count(*) from words").fetchone()
    assert count == len(every(shelf, Chunk))
