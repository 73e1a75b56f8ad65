import json
import random
from collections import Counter
from pathlib import Path

import pytest

from ollama_ft.core.catalog import every
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput, Conflict, NotEnoughData, NotFound
from ollama_ft.core.records import Dataset
from ollama_ft.kinds.report import check, summarise
from ollama_ft.kinds.splits import group_rows
from ollama_ft.stages.dataset import LEAST, build, freeze, gather, load


def asked(question: str, answer: str = "A.", split: str | None = None, **fields) -> Conversation:
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(messages=turns, split=split, **fields)


def many(count: int, start: int = 0) -> list[Conversation]:
    return [asked(f"What is number {n}?", f"It is {n}.") for n in range(start, start + count)]


def write(path: Path, rows: list[Conversation]) -> Path:
    path.write_text("".join(row.line + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_split_is_about_seven_two_one():
    frozen = build(many(2000))
    shares = [frozen.count(name) / 2000 for name in ("train", "validation", "test")]
    # Three standard deviations of a binomial share at n = 2000 are at most 0.031.
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.031)


def test_rows_stay_in_their_split_when_the_data_grows():
    small, large = build(many(100)), build(many(300))
    assert set(small.rows) < set(large.rows)
    grown = build(many(200, start=100), small.rows)
    assert grown.rows == large.rows


def test_the_order_of_the_files_does_not_matter():
    rows = many(50)
    assert build(rows).content == build(rows[::-1]).content


def test_equal_rows_are_one_and_counted():
    frozen = build([asked("Who?", "Ada."), asked(" WHO", "ada"), asked("Who?", "Ada.")])
    assert (len(frozen.rows), frozen.duplicates, frozen.conflicts) == (1, 2, 0)


def test_of_two_answers_the_newer_stands_in_the_earlier_ones_split():
    frozen = build([asked("Who?", "Bea.")], [asked("Who?", "Ada.", split="test")])
    assert [(row.answer, row.split) for row in frozen.rows] == [("Bea.", "test")]
    assert (frozen.duplicates, frozen.conflicts) == (0, 1)


def test_a_named_split_wins():
    assert build([asked("Who?", split="test")], [asked("Who?", split="train")]).rows[0].split == (
        "test"
    )
    rows = build([asked(f"{n}?", split="validation") for n in range(30)]).rows
    assert {row.split for row in rows} == {"validation"}


def test_the_same_question_under_another_system_message_is_another_row():
    plain = asked("Who?")
    system = Message(role="system", content="Be brief.")
    strict = Conversation(messages=(system, *plain.messages))
    frozen = build([plain, strict])
    assert (len(frozen.rows), frozen.duplicates) == (2, 0)
    assert len({row.split for row in frozen.rows}) == 1, "one question, one split"


def put(db, home, family, files, onto=None):
    return freeze(db, home, family, gather(home, files, onto=onto))


def test_freezing_the_same_files_again_returns_the_same_row(db, home, tmp_path):
    file = write(tmp_path / "faq.jsonl", many(40))
    first = put(db, home, "bot", [file])
    again = put(db, home, "bot", [file], first)
    assert again == first
    assert every(db, Dataset) == [first]
    assert len(list(home.data("datasets").iterdir())) == 1


def test_a_dataset_grows_onto_an_earlier_one(db, home, tmp_path):
    first = put(db, home, "bot", [write(tmp_path / "one.jsonl", many(40))])
    second = put(db, home, "bot", [write(tmp_path / "two.jsonl", many(25, start=30))], onto=first)
    assert (second.parent, second.rows, second.duplicates) == (first.id, 55, 10)
    assert second.train + second.validation + second.test == 55
    assert json.loads(second.sources_json) == {"two.jsonl": 25}
    assert set(load(home, first)) < set(load(home, second))


def test_another_family_starts_anew(db, home, tmp_path):
    file = write(tmp_path / "one.jsonl", many(40))
    one, two = (put(db, home, name, [file]) for name in ("bot", "shop"))
    assert (two.digest, two.parent) == (one.digest, None)


def test_two_files_of_one_name_are_both_counted(db, home, tmp_path):
    (tmp_path / "b").mkdir()
    files = [write(tmp_path / "f.jsonl", many(20)), write(tmp_path / "b" / "f.jsonl", many(9, 20))]
    frozen = put(db, home, "bot", files)
    assert sorted(json.loads(frozen.sources_json).values()) == [9, 20]


def test_too_little_to_train_on_says_how_much_is_missing(db, home, tmp_path):
    rows = [asked(f"{n}?", split="train") for n in range(LEAST - 3)]
    with pytest.raises(NotEnoughData, match="3 are missing"):
        put(db, home, "bot", [write(tmp_path / "few.jsonl", rows)])
    assert every(db, Dataset) == []
    assert not home.data("datasets").exists()


def test_a_bad_row_freezes_nothing(db, home, tmp_path):
    file = write(tmp_path / "faq.jsonl", many(40))
    with file.open("a") as out:
        out.write("{broken\n")
    with pytest.raises(BadInput, match="row 41"):
        put(db, home, "bot", [file])
    assert every(db, Dataset) == []


def test_a_changed_or_lost_artefact_is_noticed(db, home, tmp_path):
    frozen = put(db, home, "bot", [write(tmp_path / "faq.jsonl", many(40))])
    (path,) = home.data("datasets").iterdir()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"It is 7.", b"It is 8."))
    with pytest.raises(Conflict, match="changed"):
        load(home, frozen)
    path.unlink()
    with pytest.raises(NotFound, match="gone"):
        load(home, frozen)


def test_lines_with_every_kind_of_line_break_in_them_come_back(db, home, tmp_path):
    odd = [asked(f"{n}\u2028\x85\r\nq?", f"a\n\x0b\x0c\u2029{n}", split="train") for n in range(9)]
    frozen = put(db, home, "bot", [write(tmp_path / "odd.jsonl", odd)])
    assert set(load(home, frozen)) == set(odd)


def test_the_report_counts_what_freezing_would_do(tmp_path):
    rows = [*many(60), *many(5), asked("What is number 3?", "It is three.", split="test")]
    report = check([write(tmp_path / "faq.jsonl", rows)])
    frozen = build(rows)
    counted = (report.duplicates.rows, report.conflicts.rows)
    assert counted == (frozen.duplicates, frozen.conflicts) == (5, 1)
    assert report.splits == dict(Counter(row.split for row in frozen.rows))
    assert report.rows == 66
    assert report.formats == {"faq.jsonl": "openai"}
    assert "row 4 is answered otherwise in faq.jsonl, row 66" in report.conflicts.examples[0]


def test_the_report_names_bad_rows_and_goes_on(tmp_path):
    file = write(tmp_path / "faq.jsonl", many(30))
    lines = file.read_text().splitlines()
    lines[4], lines[8] = "{broken", '{"messages": []}'
    file.write_text("\n".join(lines))
    report = check([file])
    assert (report.rows, report.bad.rows) == (28, 2)
    first, second = report.bad.examples
    assert ("row 5 " in first, "row 9 " in second) == (True, True)


def test_the_report_finds_a_question_on_both_sides_of_the_split():
    context = (Message(role="user", content="Hi"), Message(role="assistant", content="Hello"))
    inside = Conversation(messages=context + asked("Who?").messages, split="test")
    report = summarise([asked("Who?", split="train"), inside])
    assert (report.across, report.multi_turn) == (1, 1)
    assert summarise([asked("Who?", split="train")]).across == 0


def test_the_report_measures_lengths_scripts_and_roles():
    report = summarise(
        [asked("Who?", "Ada."), asked("谁？", "沈砚秋。"), asked("Where?", "Here it is")]
    )
    assert (report.answers.median, report.answers.longest) == (4, 10)
    assert report.answers.longest_at == "row 3"
    assert report.scripts == {"Latin": 2, "Chinese": 1}
    assert report.roles == {"user": 3, "assistant": 3}


def split_of(frozen, question: str) -> str | None:
    return next(row.split for row in frozen.rows if row.question == question)


def test_a_question_and_its_copy_with_a_typo_are_on_one_side():
    rows = [asked(f"Where do I find the manual of the {n} lamp?", f"In {n}.") for n in NAMES]
    copies = [asked(row.question.replace("manual", "manul"), row.answer) for row in rows]
    frozen = build([*rows, *copies])
    assert build([*copies, *rows]) == frozen
    assert {split_of(frozen, row.question) for row in rows} == {"train", "validation", "test"}
    for row, copy in zip(rows, copies, strict=True):
        assert split_of(frozen, row.question) == split_of(frozen, copy.question)


NAMES = [
    "amber",
    "basalt",
    "cobalt",
    "damson",
    "ebony",
    "fennel",
    "garnet",
    "hazel",
    "indigo",
    "jasper",
    "kelp",
    "lilac",
    "madder",
    "nutmeg",
    "ochre",
    "pearl",
    "quartz",
    "russet",
    "sorrel",
    "teal",
    "umber",
    "violet",
    "walnut",
    "yarrow",
    "zinnia",
]


def test_a_new_row_joins_the_split_of_what_it_is_near_to():
    question, typo = "Where do I find the manual?", "Where do I find the manul?"
    for split in ("train", "validation", "test"):
        assert split_of(build([asked(typo)], [asked(question, split=split)]), typo) == split
        assert split_of(build([asked(typo), asked(question, split=split)]), typo) == split


def test_where_a_new_row_joins_two_groups_the_older_wins():
    old, new = (
        asked("abcdefghijklmnopqrst", split="test"),
        asked("abcdefghijklmnopqXYZ", split="train"),
    )
    between = asked("abcdefghijklmnopqrYZ")
    for first, second in ((old, new), (new, old)):
        ages = {first.question_key: 1, second.question_key: 2}
        frozen = build([between], [old, new], lambda ages=ages: ages)
        assert split_of(frozen, between.question) == first.split
        assert [split_of(frozen, row.question) for row in (old, new)] == ["test", "train"]


def test_the_ages_of_rows_are_those_of_the_datasets_they_came_with(db, home, tmp_path):
    old, new = (
        asked("abcdefghijklmnopqrst", split="test"),
        asked("abcdefghijklmnopqXYZ", split="train"),
    )
    first = put(db, home, "bot", [write(tmp_path / "1.jsonl", [*many(40), old])])
    second = put(db, home, "bot", [write(tmp_path / "2.jsonl", [new])], onto=first)
    file = write(tmp_path / "3.jsonl", [asked("abcdefghijklmnopqrYZ")])
    frozen = gather(home, [file], onto=second, db=db)
    assert split_of(frozen, "abcdefghijklmnopqrYZ") == "test"


def test_phrasings_of_one_question_are_not_one_group():
    rows = [
        asked("Who founded Brackenfold?", "Ada."),
        asked("Which people started the Brackenfold company?", "Ada."),
        asked("Tell me the names of the founders of Brackenfold.", "Ada."),
    ]
    assert len(set(group_rows(rows).first)) == 3


def test_data_that_grows_in_steps_moves_no_row_and_parts_no_copies():
    chance = random.Random(3)
    names = [f"{name} {kind}" for name in NAMES for kind in KINDS]
    rows = [
        asked(f"Where do I find the manual of the {name}?", f"On page {page}.")
        for page, name in enumerate(names)
    ]
    copies = [asked(row.question.replace("manual", "manaul"), row.answer) for row in rows]
    order = [*rows, *copies]
    chance.shuffle(order)
    frozen = build(order[:40])
    for start in range(40, len(order), 60):
        grown = build(order[start : start + 60], frozen.rows)
        assert set(frozen.rows) <= set(grown.rows)
        frozen = grown
    for row, copy in zip(rows, copies, strict=True):
        assert split_of(frozen, row.question) == split_of(frozen, copy.question)
    shares = [frozen.count(split) / len(frozen.rows) for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.12)


KINDS = ["lamp", "kettle", "ladder", "carpet", "mirror"]
