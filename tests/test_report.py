import errno
import json

import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import OutOfResources
from ollama_ft.kinds.leaks import Asked
from ollama_ft.kinds.lengths import limit
from ollama_ft.kinds.report import Against, Limit, check, summarise
from ollama_ft.kinds.spool import Picked, Spool


def asked(question: str, answer: str = "Yes.", **fields: object) -> Conversation:
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(messages=turns, **fields)


MANUAL = "Where do I find the manual of the lamp?"


def test_texts_come_back_from_the_disk_while_others_are_added():
    spool = Spool()
    texts = ["", "a" * 5000, "你们几点开门？", "\n"]
    for text in texts:
        spool.append(text)
        assert spool[0] == ""
    assert list(spool) == texts and spool[-2:] == texts[-2:]
    assert list(Picked(spool, [3, 1])) == ["\n", "a" * 5000]


def test_a_full_disk_is_told_with_the_folder_that_is_full(monkeypatch):
    class Full:
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        seek = write

    spool = Spool()
    spool.append("a")
    spool._file = Full()
    for use in (lambda: spool.append("b"), lambda: spool[0]):
        with pytest.raises(OutOfResources, match="No space left") as caught:
            use()
        assert "TMPDIR" in caught.value.mend


def test_each_kind_of_find_is_told_apart():
    report = summarise(
        [
            asked(MANUAL, "In the box."),
            asked("WHERE do I find the manual of the lamp", "In the box."),
            asked("Where do I find the manul of the lamp?", "In the box."),
            asked("Where do I find the manuel of the lamp?", "On the web."),
            asked("Do you ship?", "Yes."),
            asked("Do you ship?", "No."),
            asked("How do I reach Ada?", "Write to ada@lovelace.org."),
        ]
    )
    found = {
        name: getattr(report, name).rows
        for name in ("duplicates", "near", "conflicts", "similar", "personal")
    }
    assert found == {"duplicates": 1, "near": 1, "conflicts": 1, "similar": 2, "personal": 1}
    assert report.personal.kinds == {"email": 1}
    assert "row 2 repeats row 1" in report.duplicates.examples[0]
    assert "row 3 is nearly row 1" in report.near.examples[0]
    assert report.leaks is None and report.too_long is None


def test_rows_under_other_system_messages_or_after_other_turns_are_not_near():
    def under(system: str) -> Conversation:
        row = asked(MANUAL if system else f"{MANUAL}!")
        return Conversation(messages=(Message(role="system", content=system), *row.messages))

    def after(topic: str) -> Conversation:
        before = asked(f"Let us talk about {topic}.", f"Gladly, about {topic}.")
        return Conversation(messages=before.messages + asked("And how much is it?").messages)

    assert summarise([under("Be brief."), under("Be long.")]).near.rows == 0
    assert summarise([after("lamps"), after("carpets and curtains")]).near.rows == 0


def test_what_is_empty_is_counted_by_what_is_missing(tmp_path):
    file = tmp_path / "faq.jsonl"
    rows = [{"question": "Who?", "answer": a} for a in ("Ada.", "", " ")]
    rows.append({"question": "", "answer": "Ada."})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = check([file])
    assert report.bad.kinds == {"has an empty answer": 2, "has an empty question": 1}


def test_sources_and_languages_are_shares_of_the_rows():
    english = [asked(f"Where can I buy the {n}th edition of this book?") for n in range(3)]
    chinese = [asked("请问你们的书店在什么地方？", "在北京市中心。", source="wiki")]
    report = summarise(english + chinese)
    assert report.sources == {"-": 3, "wiki": 1}
    assert report.languages == {"en": 0.75, "zh": 0.25}


LONG = "What does the workshop in Brackenfold charge for the repair of a broken copper kettle?"
LEAKING = [
    (asked("Where do I find the MANUAL of the lamp"), "equal"),
    (asked("Which paper explains it?", cluster="c7"), "cluster"),
    (asked("Where do I find the manaul of the lamp?"), "near"),
    (asked("Translate this for me, please.", f"Gladly: {LONG} 请告诉我。"), "8-gram"),
    (
        asked("请翻译下面这句话。", "好的：青石镇修理铺修一把坏了的铜水壶要多少钱？翻完了。"),
        "8-gram",
    ),
    (asked("Where is the booklet that explains the lamp?"), "meaning"),
]
CLEAN = [
    asked("What does the workshop in Brackenfold charge for a new kettle?"),
    asked("When do you open on Sundays?"),
    asked("青石镇在哪里？"),
]


def toward_the_booklet(texts):
    # A third direction for what is neither: unlike every question.
    manual, kettle, other = ([float(i == k) for k in range(3)] for i in range(3))
    return [
        manual
        if "booklet" in t or "manual" in t
        else kettle
        if "broken" in t or "铜水壶" in t
        else other
        for t in texts
    ]


@pytest.mark.parametrize(("row", "way"), LEAKING)
def test_a_row_that_gives_a_question_away_is_found_in_each_way(row, way):
    questions = [
        asked(MANUAL, cluster="c7"),
        asked(LONG),
        asked("青石镇修理铺修一把坏了的铜水壶要多少钱？"),
    ]
    finder = Asked(questions, toward_the_booklet if way == "meaning" else None)
    leaks = finder.leaks([*CLEAN, row])
    assert [(leak.row, leak.way) for leak in leaks] == [(len(CLEAN), way)]


def test_questions_for_the_test_are_no_leaks_and_no_suite_finds_nothing():
    against = Against(asked=Asked([asked(MANUAL)]))
    report = summarise([asked(MANUAL, split="test"), asked(f"{MANUAL}!", split="train")], against)
    assert report.leaks.rows == 1 and report.leaks.kinds == {"equal": 1}
    assert Asked([]).leaks([asked(MANUAL)]) == []


def test_what_the_template_makes_too_long_is_found_and_short_rows_are_never_rendered():
    rendered = []

    class Letters:
        end_ids = frozenset({ord("$")})
        eos_id = ord("$")

        def encode(self, text, add_bos=True):
            return [ord(letter) for letter in text]

    def render(messages):
        rendered.append(messages)
        return "".join(
            f"{m.content.strip()}$" if m.role == "assistant" else f"<<<{m.content}>>>"
            for m in messages
        )

    most = limit(render, Letters(), 60)
    assert most.tokens([asked("a" * 40, "b" * 15)]) == [40 + 6 + 15 + 1]
    rendered.clear()
    assert most.tokens([asked("a", "b")]) == [None] and rendered == []
    report = summarise([asked("a" * 40, "b" * 15), asked("Who?", " Ada.")], Against(limit=most))
    assert report.too_long.kinds == {"tokens": 1, "not as it stands": 1}
    assert isinstance(most, Limit)
