import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import BadInput, FtError, NotFound
from ollama_ft.kinds import json_rows
from ollama_ft.kinds.containers import Part
from ollama_ft.kinds.formats import FORMATS, find_format, read_rows

PAIR = [["user", "Who?"], ["assistant", "Ada."]]
ALPACA = {"instruction": "Who?", "output": "Ada."}


def read(path: Path, *rows: object) -> list[Conversation]:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return [row for _, row in read_rows(path)]


def turns(row: Conversation) -> list[list[str]]:
    return [[m.role, m.content] for m in row.messages]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "faq.jsonl"


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("alpaca", ALPACA, PAIR),
        ("alpaca", ALPACA | {"input": "", "system": None, "history": []}, PAIR),
        (
            "alpaca",
            ALPACA | {"input": "Now?", "system": "Be brief.", "history": [["Hi", "Hello"]]},
            [
                ["system", "Be brief."],
                ["user", "Hi"],
                ["assistant", "Hello"],
                ["user", "Who?\nNow?"],
                ["assistant", "Ada."],
            ],
        ),
        (
            "sharegpt",
            {
                "conversations": [
                    {"from": "human", "value": "Who?"},
                    {"from": "gpt", "value": "Ada."},
                ],
                "system": "Be brief.",
            },
            [["system", "Be brief."], *PAIR],
        ),
        (
            "openai",
            {
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
                    {"role": "assistant", "content": "Ada."},
                ]
            },
            [["system", "Be brief."], *PAIR],
        ),
        ("prompt-completion", {"prompt": "Who?", "completion": "Ada."}, PAIR),
        ("question-answer", {"question": "Who?", "answer": "Ada."}, PAIR),
    ],
)
def test_each_format_is_found_out_and_read(file, name, row, expected):
    (conversation,) = read(file, row)
    assert turns(conversation) == expected
    assert find_format(Part(path=file)) == name
    assert [turns(r) for _, r in read_rows(file, name)] == [expected]


def test_the_optional_fields_are_kept_in_every_format(file):
    extra = {"split": "val", "accept": "Ada", "tags": ["people"], "source": "log 7"}
    rows = [
        ALPACA,
        {"messages": [{"role": r, "content": c} for r, c in PAIR]},
        {"conversations": [{"from": r, "value": c} for r, c in PAIR]},
        {"prompt": "Who?", "completion": "Ada."},
        {"question": "Who?", "answer": "Ada."},
    ]
    lines = {read(file, row | extra)[0].line for row in rows}
    assert len(lines) == 1, "one conversation, however it was written"
    row = read(file, ALPACA | extra)[0]
    assert (row.split, row.accept, row.tags) == ("validation", ("Ada",), ("people",))
    assert row.source == "log 7"


def test_other_peoples_tags_and_sources_are_let_be(file):
    (row,) = read(file, ALPACA | {"tags": {"a": 1}, "source": 7})
    assert (row.tags, row.source) == ((), "")


def test_what_is_frozen_can_be_read_again(file):
    (row,) = read(file, ALPACA | {"split": "test", "accept": ["Ada"], "tags": ["x"]})
    assert read(file, json.loads(row.line)) == [row]


def test_turns_of_tools_are_left_out_and_counted(file):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    messages = [
        {"role": "user", "content": "Who?"},
        call,
        {"role": "tool", "content": "{}"},
        {"role": "assistant", "content": "Ada."},
    ]
    (row,) = read(file, {"messages": messages, "tools": []})
    assert (turns(row), row.dropped) == (PAIR, 2)


def test_a_cluster_may_be_a_number_as_tables_have_it(file):
    rows = read(file, *(ALPACA | {"cluster": value} for value in ("7", 7, 7.0, None)))
    assert [row.cluster for row in rows] == ["7", "7", "7", ""]


def test_keys_of_a_turn_that_are_null_are_not_there(file):
    empty = {"from": None, "value": None}
    messages = [
        {"role": "user", "content": "Who?"} | empty,
        {"role": "assistant", "content": "Ada."} | empty,
    ]
    (row,) = read(file, {"messages": messages})
    assert turns(row) == PAIR


def message(*pairs: tuple[object, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (message(("user", "Who?")), "ends with a question"),
        (message(("assistant", "Hi"), ("user", "Who?")), "begins with an answer"),
        (message(("user", "a"), ("user", "b"), ("assistant", "c")), "two questions in a row"),
        (message(("user", "a"), ("assistant", "  ")), "empty answer"),
        (message(("user", ""), ("assistant", "c")), "empty question"),
        (message(("user", "a"), ("narrator", "c")), "role 'narrator' in turn 2"),
        (message(("user", 7), ("assistant", "c")), "not text but int"),
        (message(("user", None), ("assistant", "c")), "not text but null"),
        (message(("user", [{"type": "image_url"}]), ("assistant", "c")), "'image_url' in turn 1"),
        (message(("user", "a\x00"), ("assistant", "c")), "NUL"),
        (message(("user", "a"), ("assistant", "\ud83d")), "surrogate"),
        ({"messages": "hello"}, "no list"),
        ({"messages": [7]}, "turn 1 that is no JSON object"),
        ({"messages": []}, "no question and no answer"),
        (ALPACA | {"output": 5}, '"output" that is not text but int'),
        (ALPACA | {"output": None}, '"output" that is not text but null'),
        (ALPACA | {"history": [["only one"]]}, '"history"'),
        (ALPACA | {"history": "Hi"}, '"history"'),
        (ALPACA | {"split": "holdout"}, "split 'holdout'"),
        (ALPACA | {"accept": [1]}, '"accept"'),
        (ALPACA | {"accept": [""]}, "empty text"),
        (ALPACA | {"cluster": ["a"]}, "neither a text nor a number"),
        (ALPACA | {"cluster": True}, "neither a text nor a number"),
    ],
)
def test_a_bad_row_is_named_with_its_number_and_its_fault(file, row, what):
    good = message(("user", "a"), ("assistant", "b")) if "messages" in row else ALPACA
    with pytest.raises(BadInput) as caught:
        read(file, good, good, row)
    assert str(caught.value).startswith("faq.jsonl, row 3 ")
    assert what in str(caught.value)
    assert "row 3" in caught.value.mend


def test_one_bad_line_among_thousands_is_found(file):
    lines = [json.dumps(ALPACA)] * 5000
    lines[4321] = lines[4321][:-1]
    file.write_text("\n".join(lines))
    with pytest.raises(BadInput, match="row 4322 is not JSON"):
        list(read_rows(file))


def test_bad_rows_can_be_gathered_and_left_out(file):
    file.write_text("\n".join([json.dumps(ALPACA), "{'a': 1}", "7", json.dumps(ALPACA)]))
    faults: list[BadInput] = []
    assert [number for number, _ in read_rows(file, on_bad=faults.append)] == [1, 4]
    assert ["double quotes" in str(faults[0]), "no JSON object" in str(faults[1])] == [True, True]


def test_a_bad_first_row_does_not_decide_the_format(file):
    file.write_text("\n".join(["{}", json.dumps(ALPACA), json.dumps(ALPACA)]))
    with pytest.raises(BadInput, match="row 1 is not alpaca"):
        list(read_rows(file))


def test_two_formats_in_one_file_are_refused_at_the_first_stranger(file):
    other = {"prompt": "Who?", "completion": "Ada."}
    with pytest.raises(BadInput, match="row 31 is prompt-completion, but the file is alpaca"):
        read(file, *[ALPACA] * 30, other)


def test_unknown_keys_are_shown_beside_the_formats(file):
    with pytest.raises(BadInput, match='"frage", "antwort"') as caught:
        read(file, {"frage": "Wer?", "antwort": "Ada."})
    assert all(name in caught.value.mend for name in FORMATS)


def test_an_unknown_format_name_lists_the_known(file):
    file.write_text(json.dumps(ALPACA))
    with pytest.raises(BadInput, match="'csv'") as caught:
        list(read_rows(file, "csv"))
    assert "alpaca" in caught.value.mend


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"\n \n\n", "is empty"),
        (b"[]", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b'{"a": "\x00"}', "NUL"),
        ('{"instruction": "Größe?", "output": "1"}'.encode("latin-1"), "not UTF-8"),
        ('["Größe?"]'.encode("latin-1"), "not UTF-8"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"PK\x03\x04", "zip"),
        (b"PAR1", "Parquet"),
        (b"GGUF\x03", "model"),
        (b"question,answer\nWho?,Ada.\n", "not JSON"),
        (b"7\n8\n", "row 1 is no JSON object but '7'"),
        (b'[{"a": 1}', "a comma or ] is missing"),
        (b'[{"a": 1},]', "no further row"),
        (b'[{"a": 1}] x', "something follows"),
        (b'[{"a": 1}, {"b"}]', "row 2"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "number that is too long"),
        (b'{\n  "instruction": "Who?",\n  "output": "Ada."\n}', "several lines"),
    ],
)
def test_a_file_that_is_no_dataset_is_refused_with_a_reason(file, content, what):
    file.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        list(read_rows(file))
    assert what in str(caught.value)
    assert "faq.jsonl" in str(caught.value)
    assert caught.value.mend


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="does not exist"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_tolerated(file):
    line = json.dumps(ALPACA).encode()
    file.write_bytes(b"\xef\xbb\xbf\r\n" + line + b"\r\n\r\n" + line)
    assert [number for number, _ in read_rows(file)] == [2, 4]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
    st.integers(1, 9),
    st.sampled_from([None, 2]),
)
def test_an_array_reads_the_same_in_pieces_of_any_size(tmp_path_factory, texts, piece, indent):
    path = tmp_path_factory.mktemp("pieces") / "faq.json"
    body = [{"t": text, "n": 12.5, "i": len(text)} for text in texts]
    path.write_text(json.dumps(body, ensure_ascii=False, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "PIECE", piece)
        assert list(json_rows.json_rows(path)) == list(enumerate(body, start=1))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_our_own_errors(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("noise") / "faq.jsonl"
    for lead in (b"", b"[", json.dumps(ALPACA).encode() + b"\n"):
        path.write_bytes(lead + content)
        try:
            list(read_rows(path))
        except FtError as error:
            assert error.mend


@pytest.mark.parametrize("ends", ["jsonl", "json"])
def test_memory_does_not_grow_with_the_file(tmp_path, ends):
    path = tmp_path / f"large.{ends}"
    line = json.dumps(ALPACA | {"output": "x" * 2000})
    between = ",\n" if ends == "json" else "\n"
    body = between.join([line] * 4000)  # 8 MB
    path.write_text(f"[{body}]" if ends == "json" else body)
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4000
    assert peak < 2 << 20


def test_a_line_of_many_megabytes_is_a_fault_and_the_next_is_read(file, monkeypatch):
    monkeypatch.setattr(json_rows, "LONGEST", 1000)
    long = json.dumps(ALPACA | {"output": "x" * 5000})
    file.write_text("\n".join([json.dumps(ALPACA), long, json.dumps(ALPACA)]))
    faults: list[BadInput] = []
    assert [number for number, _ in read_rows(file, on_bad=faults.append)] == [1, 3]
    assert "row 2 is longer" in str(faults[0])
