import json
import random
import sys

import pytest
from click.testing import CliRunner

from ollama_ft.cli.app import cli
from ollama_ft.core.catalog import newest
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.records import Dataset
from ollama_ft.kinds.differences import differ
from ollama_ft.kinds.more_rows import PARAPHRASE, TYPO, is_made, mistyped, paraphrased
from ollama_ft.kinds.typos import with_typos
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages.dataset import build
from tests.rows import a_family
from tests.test_report import MANUAL, asked


@pytest.mark.parametrize("text", [MANUAL, "请问第12页的说明书在哪里？", "OK 24h?", "7?"])
def test_a_mistyped_question_keeps_its_numbers_and_is_not_far_off(text):
    from rapidfuzz.distance import OSA

    for seed in range(50):
        wrong = with_typos(text, random.Random(seed))
        assert [c for c in wrong if c.isdigit()] == [c for c in text if c.isdigit()]
        assert OSA.distance(text, wrong) <= 1 + len(text) // 12 * 2
    assert with_typos(text, random.Random(1)) == with_typos(text, random.Random(1))


def test_only_rows_to_learn_from_are_made_more_of_and_what_is_made_is_marked():
    rows = [asked(MANUAL, split=split) for split in ("train", "validation", "test")]
    made = list(mistyped(rows, 3, seed=0))
    assert made and all(row.split == "train" and row.tags == (TYPO,) for row in made)
    assert all(row.answer == rows[0].answer for row in made)
    assert list(mistyped(made, 3, seed=0)) == []


def test_other_words_that_lose_a_number_change_the_script_or_say_nothing_new_are_refused():
    question = "Who wrote page 12 of the book about Brackenfold?"
    lines = [
        "1. Page 12 of the book on Brackenfold: which author is it by?",
        "- who wrote page 12 of the book about Brackenfold",
        "Who wrote page 13 of that book?",
        "第12页是谁写的？",
        "Sure! Here are 12 ways: " + "and another one " * 20,
        "",
    ]
    other = asked(MANUAL, split="train")
    ((made, refused), (_, again)) = paraphrased(
        [asked(question, split="train"), other], 3, lambda prompt: "\n".join(lines)
    )
    assert [row.question for row in made] == [lines[0][3:]]
    assert made[0].tags == (PARAPHRASE,) and (refused, again) == (4, 5)


def test_made_rows_are_never_asked_whatever_their_file_says():
    written = [asked(f"Question about the {n} thing?", f"{n}.") for n in "abcdefghijklmnopqrst"]
    base = next(row for row in build(written).rows if row.split == "test")
    typo = base.question.replace("Question", "Quesiton")
    made = asked(typo, base.answer, tags=(TYPO,), split="test")
    alone = [
        asked(f"{n * 9} and something else?", n, tags=(PARAPHRASE,), split="test") for n in "uvwxyz"
    ]
    frozen = build([*written, made, *alone])
    kept = [row for row in frozen.rows if is_made(row)]
    assert {row.split for row in kept} == {"train"} and len(kept) == len(alone)
    assert base in frozen.rows, "the copy of a test question went, not the question"
    train = next(row for row in frozen.rows if row.split == "train" and not is_made(row))
    copy = asked(train.question.replace("Question", "Quesiton"), train.answer, tags=(TYPO,))
    grown = build([copy], frozen.rows)
    assert set(frozen.rows) < set(grown.rows)


def test_a_difference_is_told_by_question_not_by_place():
    before = [asked("A?", "1"), asked("B?", "2"), asked("C?", "3", split="train"), asked("D?")]
    after = [asked("D"), asked("c?", "3", split="test"), asked("B?", "two"), asked("E?")]
    found = differ(before, after)
    counts = (found.changed, found.added, found.removed, found.answered, found.moved)
    assert counts == (1, 1, 1, 1, 1) and found.same == 0
    assert (found.first_added, found.first_removed) == (("E?",), ("A?",))
    assert (found.first_answered[0].before, found.first_answered[0].after) == ("2", "two")
    assert found.first_moved == ("C?: train → test",)


def test_a_difference_in_wording_or_in_other_fields_is_told_with_their_names():
    before = [asked("A?", "yes"), asked("B?", accept=("y",)), asked("C?", passages=("p",))]
    after = [asked("A?", " Yes. "), asked("B?", tags=("new",)), asked("C?", passages=("p",))]
    found = differ(before, after)
    assert (found.same, found.changed) == (1, 2)
    assert found.first_changed == ("A?: wording", "B?: accept, tags")


def test_data_is_checked_cleaned_compared_and_grown_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question": f"What is thing {n} called?", "answer": f"It is {n}.", "split": "train"}
        for n in range(9)
    ]
    rows += [rows[0], {"question": "谁？", "answer": "致电 13812345678。"}]
    (tmp_path / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(*arguments, code=0):
        done = CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), "data", *arguments])
        assert done.exit_code == code, done.output
        return done.stdout

    text = run("check", "faq.jsonl")
    assert ["the", "same", "row", "again", "1", "9.1%"] in map(str.split, text.splitlines())
    assert "phone 1" in text
    assert json.loads(run("check", "faq.jsonl", "--json"))["duplicates"]["rows"] == 1
    assert "10 of 11 rows stay: faq.clean.jsonl" in run("clean", "faq.jsonl")
    run("clean", "faq.jsonl", code=1)
    assert "1 answered" in run("diff", "faq.jsonl", "faq.clean.jsonl")
    assert "faq.clean.more.jsonl" in run("augment", "faq.clean.jsonl", "--typos", "1")
    lines = (tmp_path / "faq.clean.more.jsonl").read_text().splitlines()
    made = [Conversation.from_json(json.loads(line)) for line in lines]
    assert sum(is_made(row) for row in made) >= 9
    run("augment", "faq.clean.jsonl", code=2)
    for name in ("nothing", "bot~²", "bot~x"):
        run("diff", "faq.jsonl", name, code=1)


def run_data(home, *words, code=0):
    done = CliRunner().invoke(cli, ["--home", str(home), "data", *words])
    assert done.exit_code == code, done.output
    return done.stdout + done.stderr


def test_what_was_cleaned_can_be_compared_with_what_it_was_made_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "Frage,Antwort\nWer?,Ada.\nWann?,\nWo?,\x1b[31mHier.\n"
    (tmp_path / "faq.csv").write_text(text)
    mapped = ("--map", "question=Frage,answer=Antwort", "--format", "question-answer")
    run_data(tmp_path, "clean", "faq.csv", *mapped)
    said = run_data(tmp_path, "diff", "faq.csv", "faq.clean.jsonl", *mapped)
    assert "1 same, 0 added, 0 removed, 1 answered, 0 moved, 0 changed" in said
    assert "1 rows of faq.csv are not fit: ollama-ft data check faq.csv" in said
    assert "\x1b" not in said
    told = json.loads(run_data(tmp_path, "diff", "faq.csv", "faq.clean.jsonl", *mapped, "--json"))
    assert told["unfit"] == {"before": 1, "after": 0}


def test_options_that_would_do_nothing_are_refused(tmp_path):
    file = tmp_path / "faq.jsonl"
    file.write_text('{"question": "Who?", "answer": "Ada."}')
    for words in (
        ("clean", "-o", "out.jsonl"),
        ("check", "--map", "question=Frage"),
        ("augment", "--typos", "1", "-o", "out.jsonl"),
    ):
        assert "no file is given" in run_data(tmp_path, *words, code=2)
    assert "--family" in run_data(tmp_path, "check", str(file), "--embed", "minilm", code=2)
    run_data(tmp_path, "augment", str(file), "--typos", "-1", code=2)


def test_made_rows_that_are_left_out_are_not_counted_as_made(db, home):
    family = a_family(db)
    rows = [asked(f"How much is thing {n} in winter?", f"{n}.") for n in range(30)]
    old = datasets.freeze(db, home, family.name, build(rows))
    first = json.loads(run_data(home.path, "augment", "--typos", "1", "--json"))
    revision = newest(db, Dataset, family="bot")
    assert first["made"] == revision.rows - old.rows > 0 and first["left_out"] == 0
    again = json.loads(run_data(home.path, "augment", "--typos", "1", "--json"))
    assert (again["made"], again["left_out"]) == (0, first["made"])


@pytest.mark.parametrize("library", ["numpy", "pyarrow"])
def test_a_library_that_is_not_installed_is_named_with_how_to_get_it(
    library, tmp_path, monkeypatch
):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"question": "Who?", "answer": "Ada."}, {"question": "谁？", "answer": "艾达。"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "faq.parquet")
    monkeypatch.setitem(sys.modules, library, None)
    arguments = ["--home", str(tmp_path), "data", "check", str(tmp_path / "faq.parquet")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2 and f"{library} is needed" in done.stderr
    assert "ollama-ft[data]" in done.stderr
