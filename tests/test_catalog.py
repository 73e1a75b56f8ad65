import sqlite3
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ollama_ft.core import catalog
from ollama_ft.core.catalog import append, every, newest, open_catalog
from ollama_ft.core.errors import BadInput, Conflict, OutOfResources
from ollama_ft.core.machine import refusal
from ollama_ft.core.migrations import migrations
from ollama_ft.core.records import Proof, Use, Version
from ollama_ft.core.sqlite import Database
from tests.rows import RECORDS, a_family, a_proof, a_version, an_evaluation


def test_every_record_has_a_table_with_just_its_columns(db):
    for record in RECORDS:
        columns = {column.name for column in db.table(record.table).columns}
        assert columns == set(record.__dataclass_fields__) - {"table"}, record.table


def test_the_newest_row_is_the_truth_and_the_older_ones_stay(db):
    append(db, Use(family="a"))
    append(db, Use(family="b"))
    assert newest(db, Use).family == "b"
    assert [use.family for use in every(db, Use)] == ["b", "a"]


def test_none_matches_empty_columns_only(db):
    family = a_family(db)
    bare, trained = a_version(db, family, 0), a_version(db, family, 1)
    assert [v.id for v in every(db, Version, run=None)] == [bare.id]
    assert trained.run is not None


def test_a_row_cannot_name_a_parent_that_is_not_there(db):
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        append(db, Proof(version=99, publication=99, passed=1, digest="", figures_json="{}"))


def test_a_number_is_given_once_in_a_family(db):
    family = a_family(db)
    a_version(db, family, 1)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        a_version(db, family, 1)


def test_the_catalog_is_in_wal_so_that_readers_never_wait(db):
    assert db.execute("pragma journal_mode").fetchone() == ("wal",)


def test_an_old_catalog_is_brought_up_to_date_with_its_rows(home):
    home.catalog.parent.mkdir(parents=True)
    old = Database(home.catalog)
    migrations.apply(old, stop_before="m002_what_is_trained")
    append(old, Use(family="kept"))
    old.close()
    new = open_catalog(home.catalog)
    assert newest(new, Use).family == "kept"
    assert "versions_view" in new.view_names()
    assert not migrations.pending(new)
    new.close()


def test_a_file_that_is_no_catalog_is_left_as_it_was(home):
    home.catalog.parent.mkdir(parents=True)
    home.catalog.write_bytes(b"these are my holiday photographs " * 40)
    with pytest.raises(BadInput, match="is damaged, or no database at all"):
        open_catalog(home.catalog)
    assert home.catalog.read_bytes().startswith(b"these are my holiday")


def test_versions_without_a_proof_are_not_listed(db):
    family = a_family(db)
    a_version(db, family, 0)
    half_made = a_version(db, family, 1, proved=None)
    assert [r["number"] for r in db.query("select number from versions_view")] == [0]
    a_proof(db, half_made, passed=True)
    numbers = [r["number"] for r in db.query("select number from versions_view order by number")]
    assert numbers == [0, 1]


@pytest.mark.parametrize(
    ("proved", "status"), [(None, "unproved"), (False, "failed"), (True, "candidate")]
)
def test_status_of_a_version_that_was_never_live(db, proved, status):
    version = a_version(db, a_family(db), 1, proved=proved)
    assert (
        next(db.query("select status from status where version = ?", [version.id]))["status"]
        == status
    )


def test_the_view_shows_the_newest_evaluation(db):
    version = a_version(db, a_family(db), 1)
    an_evaluation(db, version, right=3)
    an_evaluation(db, version, right=9)
    assert next(db.query("select right from versions_view"))["right"] == 9


def test_first_commands_at_once_make_one_catalog(home):
    together = Barrier(8)

    def first_command(_):
        together.wait()
        db = open_catalog(home.catalog)
        pending = migrations.pending(db)
        db.close()
        return pending

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first_command, range(8))) == [[]] * 8


def test_a_catalog_that_another_holds_is_busy_not_broken(home, db, monkeypatch):
    monkeypatch.setattr(catalog, "BUSY_MS", 50)
    db.execute("pragma locking_mode = exclusive")
    append(db, Use(family="a"))
    with pytest.raises(Conflict, match="locked") as caught:
        open_catalog(home.catalog)
    assert "away" not in caught.value.mend


def test_a_catalog_that_cannot_be_opened_is_not_called_broken(home):
    home.catalog.mkdir(parents=True)
    with pytest.raises(BadInput, match="unable to open") as caught:
        open_catalog(home.catalog)
    assert "--home" in caught.value.mend


def test_a_catalog_with_overwritten_pages_is_damaged(home, db):
    a_family(db)
    db.close()
    content = bytearray(home.catalog.read_bytes())
    content[4096:] = b"\xab" * (len(content) - 4096)
    home.catalog.write_bytes(content)
    with pytest.raises(BadInput, match="is damaged") as caught:
        open_catalog(home.catalog)
    assert "copy" in caught.value.mend


def test_a_full_disk_is_told_as_one(db):
    pages = db.execute("pragma page_count").fetchone()[0]
    db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError) as caught:
        append(db, Use(family="x" * 1_000_000))
    assert isinstance(refusal(caught.value), OutOfResources)


def test_a_mistake_in_sql_is_no_refusal_of_the_machine(db):
    with pytest.raises(sqlite3.OperationalError) as caught:
        db.execute("selec 1")
    assert refusal(caught.value) is None


def test_a_catalog_of_a_newer_version_is_left_alone(home, db):
    row = {"migration_set": "ollama_ft", "name": "m999_tomorrow", "applied_at": "2030"}
    db.table("_sqlite_migrations").insert(row)
    with pytest.raises(BadInput, match=r"made by a newer ollama-ft.*m999_tomorrow") as caught:
        open_catalog(home.catalog)
    assert "--upgrade" in caught.value.mend


def test_list_looks_nothing_up_by_reading_a_whole_table(db):
    plan = [row["detail"] for row in db.query("explain query plan select * from versions_view")]
    read_whole = [detail.split()[1] for detail in plan if detail.startswith("SCAN")]
    assert sorted(read_whole) == ["promotions", "v"]  # each once, not once for each version
