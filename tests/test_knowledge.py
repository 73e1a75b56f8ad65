"""The shelf: what adding, changing and removing leave in the catalog."""

import re

import pytest

from ollama_ft.core.catalog import every
from ollama_ft.core.errors import BadInput, NotFound, RuntimeUnavailable, Unsupported
from ollama_ft.core.events import Count, silent
from ollama_ft.core.shelf_records import Chunk, Document, Embedder, Placement, Vector
from ollama_ft.kinds.embedding import Model
from ollama_ft.stages import knowledge as stage

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
