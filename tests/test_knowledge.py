"""The shelf: what adding, changing and removing leave in the catalog."""

import re

import pytest

from ollama_ft.core.catalog import every
from ollama_ft.core.errors import BadInput, NotFound, RuntimeUnavailable, Unsupported
from ollama_ft.core.events import Count, silent
from ollama_ft.core.shelf_records import Chunk, Document, Embedder, Placement, Vector
from ollama_ft.kinds.embedding import Model
from ollama_ft.stages import knowledge as stage
from tests.documents import write_pdf

GUIDE = "# Guide\n\n## Hours\n\nWe open at nine.\n\n## Returns\n\nWithin 30 days.\n"
MODEL = Model(name="ollama-ft/base-0:latest", digest="sha256:" + "e" * 64, dimensions=8)


class Runtime:
    """Gives a vector for each text: how often some letters stand in it. Counts what it is asked."""

    def __init__(self, breaks_after: int = 10**9) -> None:
        self.texts: list[str] = []
        self.breaks_after = breaks_after

    def embed(self, name, texts):
        if len(self.texts) >= self.breaks_after:
            raise RuntimeUnavailable("gone")
        self.texts += texts
        return [unit([text.count(c) + 0.01 for c in "aeionrst"]) for text in texts]


def unit(numbers):
    length = sum(n * n for n in numbers) ** 0.5
    return [n / length for n in numbers]


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "guide.md").write_text(GUIDE)
    (folder / "sub" / "zh.txt").write_text("水壶保修两年。")
    (folder / "picture.png").write_bytes(b"x")
    (folder / ".hidden.md").write_text("no")
    return folder


def test_a_folder_is_read_with_all_that_can_be_read_in_it(db, home, docs):
    seen = []
    added = stage.add(db, home, [docs], seen.append)
    assert [row.path for row in added.added] == [
        str(docs / "guide.md"),
        str(docs / "sub" / "zh.txt"),
    ]
    assert (added.added[0].title, added.added[0].passages, added.chunks) == ("Guide", 2, 3)
    assert [event.done for event in seen if isinstance(event, Count)] == [1, 2]


def test_adding_the_same_again_writes_no_row(db, home, docs):
    stage.add(db, home, [docs], silent)
    before = [len(every(db, kind)) for kind in (Document, Chunk, Placement)]
    again = stage.add(db, home, [docs], silent)
    assert (again.added, again.unchanged) == ((), 2)
    assert [len(every(db, kind)) for kind in (Document, Chunk, Placement)] == before


def test_a_changed_file_replaces_just_its_chunks(db, home, docs):
    runtime = Runtime()
    row = stage.register(db, MODEL)
    stage.add(db, home, [docs], silent)
    assert stage.embed(db, runtime, row, silent) == 3
    (docs / "guide.md").write_text(GUIDE.replace("nine", "ten"))
    added = stage.add(db, home, [docs], silent)
    assert added.chunks == 1
    assert stage.embed(db, runtime, row, silent) == 1
    assert runtime.texts[-1] == "Guide › Hours\nWe open at ten."
    on_shelf = {r[0] for r in db.execute("select text from chunks join shelf on chunk = chunks.id")}
    assert on_shelf == {"We open at ten.", "Within 30 days.", "水壶保修两年。"}


def test_the_same_passage_in_two_documents_is_one_chunk(db, home, docs):
    (docs / "copy.md").write_text(GUIDE)
    stage.add(db, home, [docs], silent)
    assert (len(every(db, Chunk)), len(every(db, Placement))) == (3, 5)


def test_a_file_that_is_gone_from_its_folder_is_taken_off(db, home, docs):
    stage.add(db, home, [docs], silent)
    (docs / "guide.md").unlink()
    assert [row.path for row in stage.add(db, home, [docs], silent).removed] == [
        str(docs / "guide.md")
    ]
    assert [row.path for row in stage.documents(db)] == [str(docs / "sub" / "zh.txt")]
    assert len(every(db, Document, path=str(docs / "guide.md"))) == 2  # its history stays


def test_a_folder_whose_last_file_is_gone_takes_it_off(db, home, docs):
    stage.add(db, home, [docs / "sub"], silent)
    (docs / "sub" / "zh.txt").unlink()
    added = stage.add(db, home, [docs / "sub"], silent)
    assert [row.path for row in added.removed] == [str(docs / "sub" / "zh.txt")]
    with pytest.raises(NotFound, match="no document in"):
        stage.add(db, home, [docs / "sub"], silent)


def test_a_file_that_is_there_is_never_gone_though_its_folder_passes_it_over(db, home, docs):
    stage.add(db, home, [docs / ".hidden.md"], silent)
    assert stage.add(db, home, [docs], silent).removed == ()


def test_a_file_that_cannot_be_looked_at_is_not_taken_for_gone(db, home, docs, monkeypatch):
    stage.add(db, home, [docs], silent)
    true = docs.__class__.stat

    def refused(path, **how):
        if path.parent.name == "sub":
            raise PermissionError(13, "Permission denied")
        return true(path, **how)

    monkeypatch.setattr(docs.__class__, "stat", refused)
    assert stage.add(db, home, [docs], silent).removed == ()


def test_a_file_is_one_document_however_it_is_named(db, home, docs, monkeypatch):
    monkeypatch.chdir(docs / "sub")
    path = docs.__class__
    stage.add(db, home, [path("../guide.md")], silent)
    assert stage.add(db, home, [docs / "sub" / ".." / "guide.md"], silent).unchanged == 1
    assert [row.path for row in stage.documents(db)] == [str(docs / "guide.md")]
    assert len(stage.remove(db, [path("..") / "guide.md"])) == 1


def test_a_file_that_says_nothing_any_more_is_found_no_more(db, home, docs):
    stage.add(db, home, [docs], silent)
    (docs / "guide.md").write_text("\n")
    assert "no text in it" in stage.add(db, home, [docs], silent).refused[0]
    assert [row.path for row in stage.documents(db)] == [str(docs / "sub" / "zh.txt")]


def test_a_name_that_several_documents_have_takes_none_of_them_off(db, home, docs):
    (docs / "sub" / "guide.md").write_text("other")
    stage.add(db, home, [docs], silent)
    with pytest.raises(BadInput, match=r"2 documents have the name guide\.md") as raised:
        stage.remove(db, [docs.__class__("zh.txt"), docs.__class__("guide.md")])
    assert raised.value.mend.endswith(f"knowledge rm {docs / 'guide.md'}")
    assert len(stage.documents(db)) == 3


def test_of_a_familys_shelf_nothing_that_is_everybodys_is_removed(db, home, docs):
    stage.add(db, home, [docs / "sub"], silent)
    stage.add(db, home, [docs / "guide.md"], silent, family="bot")
    assert [row.path for row in stage.remove(db, [docs], "bot")] == [str(docs / "guide.md")]
    with pytest.raises(NotFound):
        stage.remove(db, [docs / "sub"], "bot")
    assert len(stage.documents(db)) == 1


def test_what_was_removed_can_be_added_again_without_a_new_chunk(db, home, docs):
    stage.add(db, home, [docs], silent)
    stage.remove(db, [docs])
    assert stage.documents(db) == []
    again = stage.add(db, home, [docs], silent)
    assert (len(again.added), again.chunks) == (2, 0)


def test_a_document_is_removed_by_its_name_alone(db, home, docs):
    stage.add(db, home, [docs], silent)
    (row,) = stage.remove(db, [docs.__class__("zh.txt")])
    assert row.path.endswith("zh.txt")
    with pytest.raises(NotFound, match=r"zh\.txt is on no shelf"):
        stage.remove(db, [docs.__class__("zh.txt")])


def test_families_have_shelves_of_their_own_and_one_for_all(db, home, docs):
    stage.add(db, home, [docs / "guide.md"], silent, family="bot")
    stage.add(db, home, [docs / "sub"], silent)
    assert len(stage.documents(db, "bot")) == 2
    assert len(stage.documents(db, "other")) == 1
    stage.remove(db, [docs / "guide.md"], "bot")
    assert len(stage.documents(db, "bot")) == 1


def test_an_interrupted_embedding_goes_on_where_it_was(db, home, docs):
    (docs / "many.md").write_text("\n\n---\n\n".join(f"Fact number {n}." for n in range(70)))
    row = stage.register(db, MODEL)
    stage.add(db, home, [docs], silent)
    with pytest.raises(RuntimeUnavailable):
        stage.embed(db, Runtime(breaks_after=64), row, silent)
    assert len(every(db, Vector)) == 64
    runtime = Runtime()
    assert stage.embed(db, runtime, row, silent) == len(runtime.texts) == 73 - 64


def test_vectors_are_float16_of_length_one(db, home, docs):
    import numpy as np

    row = stage.register(db, MODEL)
    stage.add(db, home, [docs], silent)
    stage.embed(db, Runtime(), row, silent)
    data = np.frombuffer(every(db, Vector)[0].data, "<f2").astype(float)
    assert data.shape == (8,)
    assert abs(np.linalg.norm(data) - 1) < 1e-3


def test_another_embedding_model_gets_vectors_of_its_own(db, home, docs):
    stage.add(db, home, [docs], silent)
    first = stage.register(db, MODEL)
    assert stage.register(db, MODEL) == first
    stage.embed(db, Runtime(), first, silent)
    other = Model(name="other", digest="sha256:" + "f" * 64, dimensions=8)
    second = stage.register(db, other)
    assert stage.embed(db, Runtime(), second, silent) == 3
    assert len(every(db, Embedder)) == 2


def test_one_bad_file_does_not_keep_the_others_out(db, home, docs):
    (docs / "bad.pdf").write_bytes(b"%PDF-1.4 x")
    (docs / "empty.md").write_text("\n")
    added = stage.add(db, home, [docs], silent)
    assert len(added.added) == 2
    assert [re.search(r"[a-z]+\.\w+", text)[0] for text in added.refused] == [
        "bad.pdf",
        "empty.md",
    ]


def test_a_file_that_cannot_be_read_or_named_is_left_out_and_named(db, home, docs, monkeypatch):
    import os

    (docs / os.fsdecode(b"b\xff.md")).write_text("x")
    (docs / "locked.md").write_text("x")
    true = stage.digest_file

    def refused(path):
        if path.name == "locked.md":
            raise PermissionError(13, "Permission denied")
        return true(path)

    monkeypatch.setattr(stage, "digest_file", refused)
    added = stage.add(db, home, [docs], silent)
    assert len(added.added) == 2
    assert "b\ufffd.md: its name is not in UTF-8. Try: rename it" in added.refused[0]
    assert "locked.md: it cannot be read (Permission denied)" in added.refused[1]


def test_what_word_leaves_beside_an_open_document_is_passed_over(db, home, docs):
    (docs / "~$guide.docx").write_bytes(b"\x05owner")
    assert stage.add(db, home, [docs], silent).refused == ()


def test_why_the_only_file_was_refused_comes_with_its_own_remedy(db, home, docs):
    with pytest.raises(BadInput, match="only pictures") as raised:
        stage.add(db, home, [write_pdf(docs / "scan.pdf", [[]])], silent)
    assert "OCR" in raised.value.mend


def test_only_bad_files_are_an_error(db, home, docs):
    (docs / "bad.pdf").write_bytes(b"%PDF-1.4 x")
    with pytest.raises(BadInput, match=r"bad\.pdf"):
        stage.add(db, home, [docs / "bad.pdf"], silent)
    assert every(db, Document) == []


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nowhere.md", NotFound, "is not there"),
        ("picture.png", Unsupported, "of no kind that is read"),
        ("sub/empty", NotFound, "no document in"),
        (f"{'a' * 300}.md", NotFound, "is not there"),
    ],
)
def test_paths_that_cannot_be_meant_are_refused_before_anything_is_read(
    db, home, docs, name, error, said
):
    (docs / "sub" / "empty").mkdir()
    with pytest.raises(error, match=said):
        stage.add(
            db, home, [docs / "guide.md", docs / name] if "." in name else [docs / name], silent
        )
    assert every(db, Document) == []
