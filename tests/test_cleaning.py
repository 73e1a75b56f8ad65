import json
from dataclasses import replace

import pytest

from ollama_ft import tidy
from ollama_ft.core.catalog import every, newest
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import Conflict
from ollama_ft.core.files import artefact
from ollama_ft.core.records import Cleaned, Dataset
from ollama_ft.kinds.cleaning import JOINED, changes_path, clean_files, clean_lines
from ollama_ft.kinds.differences import differ
from ollama_ft.kinds.filters import MARKS, fault
from ollama_ft.kinds.leaks import Asked
from ollama_ft.kinds.repairs import repaired
from ollama_ft.kinds.report import Against, Limit, check, summarise
from ollama_ft.kinds.suites import make_suite
from ollama_ft.stages import suite as suites
from ollama_ft.stages.clean import newest_revision
from ollama_ft.stages.dataset import build, freeze, load
from tests.rows import a_family
from tests.test_report import MANUAL, asked


def turns(*texts: tuple[str, str]) -> Conversation:
    return Conversation(messages=tuple(Message(role=r, content=c) for r, c in texts))


USER, ANSWER = ("user", "Who?"), ("assistant", "Ada.")
REPAIRED = [
    (turns(("user", "\ufeffWho?\x00\r\n"), ("assistant", " Ada. ")), turns(USER, ANSWER)),
    (turns(USER, ("assistant", "<think>\nhm\n</think>\n\nAda.")), turns(USER, ANSWER)),
    (turns(("system", " "), USER, ANSWER), turns(USER, ANSWER)),
    (turns(("assistant", "Hello!"), USER, ANSWER, ("user", "Thanks")), turns(USER, ANSWER)),
    (
        turns(USER, ("user", "Tell me."), ANSWER),
        turns(("user", "Who?\nTell me."), ANSWER),
    ),
    (turns(("user", "家庭👨‍👩‍👧是什么？"), ANSWER), turns(("user", "家庭👨‍👩‍👧是什么？"), ANSWER)),
]


@pytest.mark.parametrize(("broken", "whole"), REPAIRED)
def test_a_repaired_row_is_fit_and_repaired_once(broken, whole):
    row, names = repaired(broken)
    assert row == whole and fault(row) == "" and bool(names) == (broken != whole)
    assert repaired(row) == (row, ())


def test_each_row_goes_or_stays_for_one_reason_and_every_change_is_told():
    rows = [
        asked(MANUAL, "In the box."),
        asked(MANUAL, "In the box."),
        asked(MANUAL.replace("manual", "manul"), "In the box."),
        asked("Do you ship?", "No."),
        asked("Do you ship?", " Yes. "),
        asked("When do you open?", "At nine."),
        asked("Who is there?", "Ada, ada@lovelace.org."),
        asked("Long?", "a" * 99),
    ]
    limit = Limit(most=50, tokens=lambda rows: [len(row.answer) for row in rows])
    against = Against(asked=Asked([asked("WHEN do you open")]), limit=limit)
    lines, changes, counts = clean_lines(rows, against=against)
    kept = [Conversation.from_json(json.loads(line)) for line in lines]
    assert [(row.question, row.answer) for row in kept] == [
        (MANUAL, "In the box."),
        ("Do you ship?", "Yes."),
        ("Who is there?", "Ada, [EMAIL_1]."),
    ]
    assert [(change.at, change.action, change.reason) for change in changes] == [
        ("row 2", "dropped", "the same row again: row 1"),
        ("row 3", "dropped", "nearly the same row: row 1"),
        ("row 4", "dropped", "answered otherwise later: row 5"),
        ("row 5", "repaired", "spaces at the ends taken off"),
        ("row 6", "dropped", "asked in a suite: equal"),
        ("row 7", "redacted", "email"),
        ("row 8", "dropped", "too long: over 50 tokens"),
    ]
    assert (counts.came, counts.stayed) == (8, 3)
    assert clean_lines(kept)[1] == [], "what is clean stays as it is"
    everything = ("duplicates", "near", "conflicts", "leaks", "long", "personal")
    assert len(clean_lines(rows, everything, against)[0]) == 8


def test_files_are_cleaned_into_new_ones_and_never_in_place(tmp_path):
    file, out = tmp_path / "faq.jsonl", tmp_path / "faq.clean.jsonl"
    lines = [
        '{"question": "谁？", "answer": "请致电 13812345678。"}',
        '{"question": "Who?", "answer": ""}',
        "{broken",
        '{"question": " Who? ", "answer": "Ada."}',
    ]
    file.write_text("\n".join(lines))
    before = file.read_bytes()
    counts = clean_files([file], out)
    assert file.read_bytes() == before
    rows = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
    assert [[turn["content"] for turn in row] for row in rows] == [
        ["谁？", "请致电 [PHONE_1]。"],
        ["Who?", "Ada."],
    ]
    told = changes_path(out).read_text()
    assert "faq.jsonl, row 2" in told and "has an empty answer" in told
    assert "13812345678" not in told
    assert (counts.came, counts.stayed, counts.dropped["has an empty answer"]) == (4, 2, 1)
    with pytest.raises(Conflict, match="never changed in place"):
        clean_files([file], out)
    assert counts.redacted == {"phone": 1}


def test_a_familys_data_is_cleaned_into_a_revision_that_it_learns_from_next(db, home):
    family = a_family(db)
    rows = [asked(f"What is thing {n} called?", f"It is {n}.", split="train") for n in range(12)]
    rows.append(asked("How do I reach you?", "At ada@lovelace.org.", split="test"))
    old = freeze(db, home, "bot", build(rows))
    counts, revision, file = tidy.clean(db, home, family, (), None)
    assert counts.redacted == {"email": 1} and (counts.came, counts.stayed) == (13, 13)
    assert (revision.parent, revision.rows, revision.test) == (old.id, 13, 1)
    assert "ada@" not in "".join(row.line for row in load(home, revision))
    assert "ada@" in "".join(row.line for row in load(home, old)), "the old one is as it was"
    assert newest_revision(db, old) == revision == newest(db, Dataset, family="bot")
    (cleaned,) = every(db, Cleaned)
    assert file == artefact(home.data("changes"), cleaned.digest, ".jsonl")
    told = file.read_text()
    assert '"redacted"' in told and "ada@" not in told
    assert tidy.clean(db, home, family, (), None) == (
        replace(counts, redacted={}),
        revision,
        None,
    ), "what is clean is not cleaned again"
    assert differ(tidy.resolve(db, home, "bot~1"), tidy.resolve(db, home, "bot")).answered == 1


def test_what_a_suite_ever_asked_is_what_rows_are_held_against(db, home):
    family = a_family(db)
    rows = [asked(f"What is thing {n} called?", f"It is {n}.", split="train") for n in range(12)]
    freeze(db, home, "bot", build([*rows, asked("Who tests?", split="test")]))
    for question in ("Do you ship?", "When do you open?"):
        suite = make_suite("mine", "domain", "bot", [asked(question)])
        suites.freeze(db, home, suite)
    questions = tidy.questions(db, home, family)
    assert {"Do you ship?", "When do you open?", "Who tests?"} <= {q.question for q in questions}
    against = Against(asked=Asked(questions))
    assert (
        clean_lines([asked("DO YOU SHIP"), asked("Who are you?")], against=against)[2].stayed == 1
    )


def test_personal_data_in_passages_and_accepted_texts_is_found_and_has_one_name_in_all():
    row = replace(
        asked("Who writes from ada@lovelace.org?", "Ada."),
        accept=("ada@lovelace.org",),
        passages=("卡号 4111 1111 1111 1111，邮箱 ada@lovelace.org。",),
    )
    ((line,), changes, counts) = clean_lines([row])
    clean = Conversation.from_json(json.loads(line))
    assert clean.question == "Who writes from [EMAIL_1]?"
    assert clean.accept == ("[EMAIL_1]",)
    assert clean.passages == ("卡号 [CARD_1]，邮箱 [EMAIL_1]。",)
    assert counts.redacted == {"card": 1, "email": 1} and len(changes) == 2
    only = replace(row, messages=asked("Who?", "Ada.").messages, accept=())
    assert summarise([only]).personal.kinds == {"card": 1, "email": 1}


def test_half_a_surrogate_pair_in_a_passage_is_mended_and_read_as_a_fault(tmp_path):
    file, out = tmp_path / "faq.jsonl", tmp_path / "out.jsonl"
    file.write_text(r'{"question": "Who?", "answer": "Ada.", "passages": ["a\ud83db"]}')
    assert check([file]).bad.kinds == {"has half of a surrogate pair in one of its " + MARKS: 1}
    assert clean_files([file], out).repaired == {"invisible characters taken out": 1}
    assert json.loads(out.read_text())["passages"] == ["ab"]


def test_a_reason_never_holds_a_word_of_the_row(tmp_path):
    file, out = tmp_path / "faq.jsonl", tmp_path / "out.jsonl"
    lines = [
        {"question": "Who?", "answer": "Ada."},
        "it's 13812345678",
        {"question": "Who?", "answer": "Ada.", "split": "it's 13812345678"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert set(clean_files([file], out).dropped) == {
        "is no JSON object but …",
        'has the split …; "split" is one of train, validation, test',
    }
    assert "1381" not in changes_path(out).read_text()


TWINS = [
    [asked("Who?", "Ada."), asked("who", "ada", split="test")],
    [asked("Who?", "Ada.", split="validation"), asked("Who?", "Bob."), asked("Who?", "Bob.")],
    [
        replace(asked("Who?", "Ada."), accept=("Lovelace",)),
        asked("Who?", "Bob."),
        replace(asked("Who?", "Ada."), passages=("Ada was.",)),
    ],
]


@pytest.mark.parametrize("rows", TWINS)
def test_what_a_dropped_twin_brought_is_kept_as_freezing_would_keep_it(rows):
    lines, changes, counts = clean_lines(rows)
    frozen = build([replace(row, split=row.split or "train") for row in build(rows).rows]).rows
    clean = build([Conversation.from_json(json.loads(line)) for line in lines]).rows
    assert [replace(row, split=row.split or "train") for row in clean] == list(frozen)
    assert (counts.came, counts.stayed) == (len(rows), 1)
    assert JOINED in {change.reason for change in changes} or lines == [rows[-1].line]


def test_a_question_for_the_test_stays_where_its_twin_gives_a_suite_away():
    rows = [asked(MANUAL, "In the box."), asked(MANUAL, "In the box.", split="test")]
    lines, _, counts = clean_lines(rows, against=Against(asked=Asked([asked(MANUAL)])))
    assert [json.loads(line)["split"] for line in lines] == ["test"] and counts.stayed == 1


def test_a_row_is_not_dropped_for_a_near_one_that_goes_itself():
    other = MANUAL.replace("manual", "manul")
    rows = [asked(text, "In the box.") for text in (MANUAL, other, other.replace("?", " ?!"))]
    limit = Limit(most=5, tokens=lambda rows: [9 * (row.question == MANUAL) for row in rows])
    lines, changes, _ = clean_lines(rows, against=Against(limit=limit))
    assert [json.loads(line)["messages"][0]["content"] for line in lines] == [other]
    assert changes[0].reason == "too long: over 5 tokens"


def test_rows_of_two_files_of_one_name_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "faq.jsonl").write_text('{"question": "Who?", "answer": "Ada."}\n{')
    files = [tmp_path / folder / "faq.jsonl" for folder in ("a", "b")]
    clean_files(files, tmp_path / "out.jsonl")
    told = changes_path(tmp_path / "out.jsonl").read_text()
    assert f"{files[0]}, row 2" in told and f"the same row again: {files[0]}, row 1" in told
    assert set(check(files).sources) == set(map(str, files))
