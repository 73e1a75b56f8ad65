import csv
import json
import os
import sqlite3
import tracemalloc
from pathlib import Path

import pytest

from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import BadInput, FtError, NotFound
from ollama_ft.kinds.containers import Reading, find_container, parse_columns, parts, raw_rows
from ollama_ft.kinds.formats import read_part

ROWS = [
    {"question": "几点开门？", "answer": '"九点", 周一休息'},
    {"question": "How much,\nand when?", "answer": "30 €; always"},
]


def read(path: Path, **how) -> list[Conversation]:
    return [row for part in parts(path, Reading(**how)) for _, row in read_part(part)]


def as_csv(path: Path, delimiter=",", encoding="utf-8", rows=None) -> Path:
    rows = rows or ROWS
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_jsonl(path: Path, encoding="utf-8", rows=ROWS) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(text.encode(encoding))
    return path


def as_parquet(path: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def as_arrow(path: Path, make: str) -> Path:
    import pyarrow as pa

    table = pa.Table.from_pylist(ROWS)
    with getattr(pa.ipc, make)(str(path), table.schema) as out:
        out.write_table(table)
    return path


def as_sqlite(path: Path) -> Path:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE faq (question, answer)")
    db.executemany("INSERT INTO faq VALUES (:question, :answer)", ROWS)
    db.commit()
    db.close()
    return path


def as_xml(path: Path, encoding="utf-8") -> Path:
    import xml.etree.ElementTree as ET

    root = ET.Element("faq")
    for row in ROWS:
        entry = ET.SubElement(root, "entry")
        for key, value in row.items():
            ET.SubElement(entry, key).text = value
    text = ET.tostring(root, encoding="unicode")
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    path.write_bytes((head + text).encode(encoding))
    return path


def as_folder(path: Path) -> Path:
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(str(path))
    return path


MADE = {
    "json": lambda p: as_jsonl(p / "a.jsonl"),
    "csv": lambda p: as_csv(p / "a.csv"),
    "csv with ;": lambda p: as_csv(p / "a.csv", ";"),
    "tsv": lambda p: as_csv(p / "a.tsv", "\t"),
    "parquet": lambda p: as_parquet(p / "a.parquet"),
    "arrow": lambda p: as_arrow(p / "a.arrow", "new_file"),
    "arrow stream": lambda p: as_arrow(p / "a.arrow", "new_stream"),
    "sqlite": lambda p: as_sqlite(p / "a.db"),
    "xml": lambda p: as_xml(p / "a.xml"),
    "folder": lambda p: as_folder(p / "saved"),
}


@pytest.mark.parametrize("name", MADE)
def test_every_kind_of_file_is_found_out_and_gives_the_same_rows(name, tmp_path):
    path = MADE[name](tmp_path)
    assert find_container(path).name == name.split()[0]
    assert [(row.question, row.answer) for row in read(path)] == [
        (row["question"], row["answer"]) for row in ROWS
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("write", [as_jsonl, as_csv])
def test_text_is_read_in_the_encodings_that_people_have(write, encoding, tmp_path):
    rows = [{"question": r["question"], "answer": r["answer"].replace("€", "元")} for r in ROWS]
    path = tmp_path / ("a.csv" if write is as_csv else "a.jsonl")
    assert [row.answer for row in read(write(path, encoding=encoding, rows=rows))] == [
        row["answer"] for row in rows
    ]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "iso-8859-15"])
def test_xml_is_read_as_it_declares_itself(encoding, tmp_path):
    if encoding == "iso-8859-15":
        path = tmp_path / "a.xml"
        text = f'<?xml version="1.0" encoding="{encoding}"?><f><e q="Größe?" a="30 €"/></f>'
        path.write_bytes(text.encode(encoding))
        (row,) = read(path, columns={"question": "q", "answer": "a"})
        assert (row.question, row.answer) == ("Größe?", "30 €")
    else:
        assert len(read(as_xml(tmp_path / "a.xml", encoding))) == 2


@pytest.mark.parametrize("encoding", ["big5", "shift_jis", "cp1251"])
def test_other_encodings_are_refused_by_name(encoding, tmp_path):
    texts = {
        "big5": "請問你們幾點開門？這個產品多少錢？",
        "shift_jis": "営業時間を教えてください。",
    }
    text = texts.get(encoding, "Сколько это стоит? Когда вы открываетесь?")
    path = as_jsonl(tmp_path / "a.jsonl", encoding, [{"question": text, "answer": text}] * 3)
    with pytest.raises(BadInput, match=f"looks like {encoding}") as caught:
        read(path)
    assert f"iconv -f {encoding.upper()} -t UTF-8" in caught.value.mend


def test_a_broken_line_in_a_utf8_file_is_that_rows_fault(tmp_path):
    path = as_jsonl(tmp_path / "a.jsonl")
    path.write_bytes(path.read_bytes() + '{"question": "Größe?"}\n'.encode("latin-1"))
    with pytest.raises(BadInput, match="row 3 is not UTF-8"):
        read(path)


def test_columns_are_mapped_by_name_and_into_objects(tmp_path):
    rows = [{"Frage": "Wer?", "reply": {"text": "Ada."}, "question": "no"}]
    path = as_jsonl(tmp_path / "a.jsonl", rows=rows)
    columns = parse_columns(("question=Frage,answer=reply.text",))
    (row,) = read(path, columns=columns)
    assert (row.question, row.answer) == ("Wer?", "Ada.")
    with pytest.raises(BadInput, match="no column"):
        parse_columns(("frage=Frage",))


def test_every_field_that_a_row_may_bring_can_be_mapped(tmp_path):
    rows = [ROWS[0] | {"Gruppe": "a", "Nie": "zehn", "Quellen": '["Um neun."]'}]
    columns = parse_columns(("cluster=Gruppe,must_not_say=Nie", "passages=Quellen"))
    (row,) = read(as_csv(tmp_path / "a.csv", rows=rows), columns=columns)
    assert (row.cluster, row.must_not_say, row.passages) == ("a", ("zehn",), ("Um neun.",))


def test_two_columns_of_one_name_are_refused_and_two_without_are_not(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer,answer\nWho?,Ada,Bob\n")
    with pytest.raises(BadInput, match="two columns that are named 'answer'"):
        read(path)
    path.write_text("question,answer,,\nWho?,Ada,,\n")
    assert [row.answer for row in read(path)] == ["Ada"]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_with_a_text_that_is_not_utf8_loses_that_row_only(suffix, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    ends = pa.py_buffer(b"\0\0\0\0\4\0\0\0\7\0\0\0")
    texts = pa.StringArray.from_buffers(2, ends, pa.py_buffer(b"Who?W\xff?"))
    table = pa.table({"question": texts, "answer": ["Ada", "Bob"]})
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        parquet.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as out:
            out.write_table(table)
    faults: list[BadInput] = []
    (part,) = parts(path)
    assert [number for number, _ in read_part(part, faults.append)] == [1]
    assert str(faults[0]) == f"a.{suffix}, row 2 is not UTF-8."


def test_a_pipe_and_a_file_that_may_not_be_read_are_told_apart(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="is a pipe"):
        parts(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(BadInput, match="may not be read"):
        parts(as_csv(tmp_path / "a.csv"))


def test_turns_may_stand_as_json_in_a_cell(tmp_path):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]
    rows = [{"messages": json.dumps(turns), "accept": '["Ada"]', "split": ""}]
    (row,) = read(as_csv(tmp_path / "a.csv", rows=rows))
    assert (row.question, row.accept, row.split) == ("Who?", ("Ada",), None)


def test_a_csv_row_is_named_as_a_spreadsheet_counts_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('question,answer\n"two\nlines",A.\nonly one cell\n')
    with pytest.raises(BadInput, match=r"a\.csv, row 3 has 1 cells"):
        read(path)
    path.write_text('question,answer\nWho?,"never closed\n')
    with pytest.raises(BadInput, match=r"row 2 \(line 2\) is not CSV"):
        read(path)


def test_a_database_is_asked_and_only_read(tmp_path):
    path = as_sqlite(tmp_path / "a.db")
    query = "SELECT upper(question) AS question, answer FROM faq WHERE answer LIKE '30%'"
    assert [row.question for row in read(path, query=query)] == ["HOW MUCH,\nAND WHEN?"]
    for evil in ("DELETE FROM faq", f"ATTACH '{tmp_path}/b.db' AS b", "PRAGMA user_version = 7"):
        with pytest.raises(BadInput, match="cannot be asked"):
            read(path, query=evil)
    assert len(read(path)) == 2
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE other (x)")
    db.close()
    with pytest.raises(BadInput, match="2 tables: faq, other") as caught:
        read(path)
    assert "--query" in caught.value.mend
    with pytest.raises(BadInput, match="no SQLite"):
        read(as_csv(tmp_path / "a.csv"), query="SELECT 1")


def test_xml_turns_attributes_and_lists_are_kept(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        '<talks><talk source="log"><message role="system">Be brief.</message>'
        '<message role="user">Who?</message><message role="assistant">Ada.</message>'
        "<accept>Ada</accept><accept>Lovelace</accept></talk>"
        "<talk><messages><turn><role>user</role><content>Hi</content></turn>"
        '<turn role="assistant">Hello</turn></messages></talk></talks>'
    )
    first, second = read(path)
    assert [m.role for m in first.messages] == ["system", "user", "assistant"]
    assert (first.accept, first.source) == (("Ada", "Lovelace"), "log")
    assert (second.question, second.answer) == ("Hi", "Hello")


def test_xml_with_elements_inside_a_text_is_a_fault_and_never_half_a_text(tmp_path):
    path = tmp_path / "a.xml"
    turn = "<turn><role>{}</role><content>{}</content></turn>"
    talk = turn.format("user", "Who?") + turn.format("assistant", "Press <b>OK</b> now")
    path.write_text(f"<talks><talk>{talk}</talk></talks>")
    with pytest.raises(BadInput, match="only text can be learned"):
        read(path)


def test_an_xml_row_of_many_elements_is_read_whole(tmp_path):
    path, count = tmp_path / "a.xml", 8_000
    turns = '<turn role="user">a</turn><turn role="assistant">b</turn>' * count
    path.write_text(f"<t><r>{turns}{'<accept>a</accept>' * 2 * count}</r></t>")
    (row,) = read(path)
    assert (len(row.messages), len(row.accept)) == (2 * count, 2 * count)


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><x><r><question>&b;</question></r></x>'
)
OUTSIDE = (
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x><r><question>&a;</question></r></x>'
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BOMB, "document type"),
        (OUTSIDE, "document type"),
        ('<!DOCTYPE x SYSTEM "http://example.com/x.dtd"><x/>', "document type"),
        ("<x><r><question>Who?</question>", "not XML"),
        ("<x>" + "<a>" * 5000, "deeper"),
        ("<x/>", "empty"),
    ],
)
def test_hostile_xml_is_refused(text, what, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(BadInput, match=what):
        read(path)


@pytest.mark.parametrize(
    "magic", [b"PAR1", b"ARROW1\x00\x00", b"\xff\xff\xff\xff", b"SQLite format 3\x00"]
)
def test_a_broken_binary_file_is_our_own_error(magic, tmp_path):
    path = tmp_path / "a.bin"
    for rest in (b"", b"\x00" * 100, b"\xff" * 5000):
        path.write_bytes(magic + rest)
        with pytest.raises(FtError):
            read(path)


def info(folder: Path, **datasets) -> Path:
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(datasets))
    return path


def test_llama_factorys_list_of_datasets_is_followed(tmp_path):
    as_jsonl(tmp_path / "one.jsonl", rows=[{"instruction": "Who?", "output": "Ada."}])
    as_jsonl(
        tmp_path / "two.json", rows=[{"q": "Who?", "c": "Now?", "a": "Bea.", "h": [["Hi", "Yo"]]}]
    )
    turns = [{"r": "h", "c": "Who?"}, {"r": "call", "c": "{}"}, {"r": "obs", "c": "{}"}]
    turns += [{"r": "b", "c": "Cleo."}]
    as_jsonl(tmp_path / "three.jsonl", rows=[{"talk": turns, "sys": "Be brief.", "tools": "[]"}])
    tags = {"role_tag": "r", "content_tag": "c", "user_tag": "h", "assistant_tag": "b"}
    tags |= {"observation_tag": "obs", "function_tag": "call"}
    path = info(
        tmp_path,
        one={"file_name": "one.jsonl"},
        two={
            "file_name": "two.json",
            "columns": {"prompt": "q", "query": "c", "response": "a", "history": "h"},
        },
        three={
            "file_name": "three.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "system": "sys", "tools": "tools"},
            "tags": tags,
        },
    )
    one, two, three = read(path)
    assert (one.question, one.answer) == ("Who?", "Ada.")
    assert [m.content for m in two.messages] == ["Hi", "Yo", "Who?\nNow?", "Bea."]
    assert [(m.role, m.content) for m in three.messages] == [
        ("system", "Be brief."),
        ("user", "Who?"),
        ("assistant", "Cleo."),
    ]
    assert three.dropped == 2
    assert read(tmp_path / "dataset_info.json#two") == [two]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"hf_hub_url": "some/where"}, "on the network"),
        ({"file_name": "x.json", "ranking": True}, "preferences"),
        ({"file_name": "../../etc/passwd"}, "out of its folder"),
        ({"file_name": "x.json", "formatting": "odd"}, "formatting 'odd'"),
        ({"file_name": "none.json"}, "does not exist"),
    ],
)
def test_a_dataset_that_cannot_be_read_says_why(entry, what, tmp_path):
    with pytest.raises(FtError, match=what):
        read(info(tmp_path, odd=entry))


def test_a_dataset_that_is_not_listed_is_not_found(tmp_path):
    info(tmp_path, one={"file_name": "one.jsonl"})
    with pytest.raises(NotFound, match="no dataset 'two'"):
        read(tmp_path / "dataset_info.json#two")


@pytest.mark.parametrize("name", ["csv", "xml", "sqlite"])
def test_memory_does_not_grow_with_the_file(name, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROWS", [{"question": "Who?", "answer": "x" * 2000}] * 3000)
    path = MADE[name](tmp_path)
    for part in parts(path):
        next(raw_rows(part))  # what is imported on the way is not the file's
    tracemalloc.start()
    count = sum(1 for part in parts(path) for _ in raw_rows(part))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, peak < 2 << 20) == (3000, True)
