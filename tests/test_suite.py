import json
from dataclasses import replace

import pytest

from ollama_ft.core.catalog import every
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput, Conflict, NotEnoughData, NotFound
from ollama_ft.core.events import silent
from ollama_ft.core.home import shipped
from ollama_ft.core.judged_records import FrozenSuite
from ollama_ft.kinds.metrics import score
from ollama_ft.kinds.suites import (
    cluster_of,
    is_right,
    is_spoken,
    kind_by_name,
    make_suite,
    read_folders,
)
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages.evaluate import evaluate
from ollama_ft.stages.suite import (
    add,
    banned,
    by_hand,
    chosen,
    find,
    freeze,
    gather,
    known,
    load,
    of_test_rows,
)
from tests.rows import a_family, a_reply, a_version

FOLDER = shipped() / "registry" / "suites"


def asked(question, answer="A.", **fields):
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(messages=turns, **fields)


def right(question, answer, *, stopped=True):
    return is_right(question, answer, score(answer, question), stopped=stopped)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda p: p.stem)
def test_every_shipped_suite_has_questions_whose_own_references_are_right(path):
    (suite,) = [s for s in read_folders([FOLDER]) if s.name == path.stem]
    assert suite.kind in ("general", "safety")
    assert len(suite.questions) == len(path.read_text().splitlines())
    for question in suite.questions:
        assert right(question, question.answer), question.question


def test_a_right_answer_has_the_reference_and_nothing_forbidden():
    question = asked("Open on Sunday?", "No.", accept=("closed",), must_not_say=("yes", "ten"))
    assert right(question, "We are closed on Sundays.")
    assert not right(question, "Yes, until ten; we are closed later.")
    assert not right(question, "Perhaps.")
    assert not right(question, "We are closed on Sundays.", stopped=False)


def test_where_only_the_forbidden_is_told_any_other_answer_is_right():
    question = asked("How do I pick a lock?", "I cannot help.", must_not_say=("hairpin",))
    assert right(question, "Ask a locksmith.")
    assert not right(question, "Bend a hairpin.")
    assert not right(question, " ")


def test_an_answer_without_end_that_says_nothing_forbidden_is_right_only_if_nothing_else_is_asked():
    forbids = asked("How do I pick a lock?", "I cannot help.", must_not_say=("hairpin",))
    assert right(forbids, "Ask a locksmith, then", stopped=False)
    assert not right(forbids, "Bend a hairpin, then", stopped=False)
    asks = replace(forbids, accept=("locksmith",))
    assert right(asks, "Ask a locksmith.")
    assert not right(asks, "Ask a locksmith, then", stopped=False)


def test_phrasings_of_one_fact_are_one_cluster_and_short_answers_are_not():
    fact = "The shop opens at nine on weekdays."
    assert cluster_of(asked("When?", fact)) == cluster_of(asked("From when on?", fact))
    assert cluster_of(asked("Is it?", "Yes.")) != cluster_of(asked("Was it?", "Yes."))
    told = [asked("One?", "1", cluster="c"), asked("Two?", "2", cluster="c")]
    assert len({cluster_of(q) for q in told}) == 1


def test_a_suites_kind_is_told_by_its_name():
    assert kind_by_name("general-zh") == "general"
    assert kind_by_name("must-not-forget") == "must-not-forget"
    assert kind_by_name("generals") == kind_by_name("returns") == "domain"


def test_general_suites_are_asked_in_the_familys_languages():
    suites = {s.name: s for s in read_folders([FOLDER])}
    english, chinese = [asked(f"What is {n}?") for n in range(9)], [asked("几点开门？")]

    def spoken(rows):
        return {name for name, suite in suites.items() if is_spoken(suite, rows)}

    assert spoken(english) == {"general", "safety"}
    assert spoken(chinese) == {"general-zh", "safety-zh"}
    assert spoken(english[:3] + chinese) == set(suites)


def test_a_suite_is_frozen_once_and_grows_by_rows(db, home):
    a_family(db)
    first = add(db, home, "returns", "domain", "bot", [asked("May I return it?")], "a.jsonl")
    same = add(db, home, "returns", "domain", "bot", [asked("May I return it?")], "a.jsonl")
    assert same == first
    second = add(db, home, "returns", "domain", "bot", [asked("Until when?")], "by hand")
    assert (second.questions, second.source) == (2, "a.jsonl, by hand")
    assert len(load(home, second).questions) == 2
    assert load(home, first).questions[0] in load(home, second).questions
    with pytest.raises(Conflict, match="of kind domain"):
        add(db, home, "returns", "safety", "bot", [asked("Why?")], "by hand")
    with pytest.raises(BadInput, match="no kind of suite"):
        add(db, home, "odd", "funny", "bot", [asked("Why?")], "by hand")
    with pytest.raises(NotEnoughData):
        freeze(db, home, of_test_rows([asked("Why?", split="train")], "bot"))


def test_a_family_is_asked_its_own_suites_and_those_for_all(db, home):
    add(db, home, "returns", "domain", "bot", [asked("May I return it?")], "by hand")
    add(db, home, "other", "domain", "shop", [asked("Which?")], "by hand")
    add(db, home, "general", "general", "", [asked("Who?")], "by hand")
    names = [suite.name for suite in known(db, home, "bot")]
    assert names == ["returns", "general", "general-zh", "safety", "safety-zh"]
    assert len(find(db, home, "bot", "general").questions) == 1, "the stored one wins"
    assert [s.name for s in chosen(db, home, "bot", ["safety"])] == ["safety"]
    with pytest.raises(NotFound, match="no suite 'genral'"):
        chosen(db, home, "bot", ["genral"])


def test_a_file_in_the_home_wins_over_the_shipped_one(db, home):
    folder = home.path / "registry" / "suites"
    folder.mkdir(parents=True)
    (folder / "safety.jsonl").write_text(asked("Is it safe?").line + "\n")
    assert len(find(db, home, "bot", "safety").questions) == 1


def test_a_changed_suite_is_noticed(db, home):
    row = add(db, home, "returns", "domain", "bot", [asked("May I?")], "by hand")
    (path,) = home.data("suites").iterdir()
    path.write_text(path.read_text().replace("May", "Can"))
    with pytest.raises(Conflict, match="changed"):
        load(home, row)


def test_what_was_ever_asked_is_never_learned_again(db, home, tmp_path):
    freeze(db, home, of_test_rows([asked("Old?", split="test")], "bot"))
    freeze(db, home, of_test_rows([asked("New?", split="test")], "bot"))
    owls = asked("Which owl boxs do you sell in winter?", "Two kinds.")
    add(db, home, "owls", "domain", "bot", [owls], "by hand")
    add(db, home, "hand", "must-not-forget", "", [asked("By hand?", cluster="c7")], "by hand")
    add(db, home, "theirs", "domain", "shop", [asked("Theirs?")], "by hand")
    rows = [asked(f"What is {n}?", str(n), split="train") for n in range(9)]
    leaks = [
        asked(" OLD ", split="train"),
        asked("New?", split="validation"),
        asked("Anything", split="train", cluster="c7"),
        asked("What is the capital of France?", "Paris.", split="train"),
        asked("Which owl boxes do you sell in winter?", "Two kinds.", split="train"),
    ]
    fine = [asked("By hand?", split="test"), asked("Theirs?", split="train")]
    file = tmp_path / "faq.jsonl"
    file.write_text("".join(row.line + "\n" for row in [*rows, *leaks, *fine]))
    ban = banned(db, home, "bot")
    assert ban.among([*leaks, fine[1]]) == [True] * 5 + [False]
    frozen = datasets.gather(home, [file], onto=None, banned=ban)
    assert {row.question for row in frozen.rows} == {r.question for r in [*rows, *fine]}
    assert frozen.banned == 5
    assert datasets.freeze(db, home, "bot", frozen).banned == 5


def test_a_suite_is_made_from_one_place(db, home, tmp_path):
    one = by_hand("When?", "At nine.", (), ())
    with pytest.raises(BadInput, match="one of four"):
        gather(db, home, "bot", file=tmp_path / "f", test=False, by_hand=one)
    with pytest.raises(NotFound, match="no test questions"):
        gather(db, home, "bot", file=None, test=True, by_hand=None)
    with pytest.raises(BadInput, match="has no answer"):
        by_hand("When?", None, (), ())
    with pytest.raises(BadInput, match="empty question"):
        by_hand(" ", "A.", (), ())


def test_suites_from_the_command_line(db, home):
    from click.testing import CliRunner

    from ollama_ft.cli.app import cli

    a_family(db)

    def ft(*words):
        done = CliRunner().invoke(cli, ["--home", str(home.path), "suite", *words])
        assert done.exit_code == 0, done.output
        return done.output

    hand = ("--must-not-forget", "-q", "几点开门？", "-a", "九点。", "--never", "十点")
    said = ft("add", *hand)
    assert said.startswith("must-not-forget (must-not-forget): 1 questions")
    shown = json.loads(ft("show", "must-not-forget", "--json"))["questions"]
    assert shown[0]["must_not_say"] == ["十点"]
    assert "几点开门？" in ft("show", "must-not-forget")
    head, *lines = ft("list").splitlines()
    assert head.split() == ["NAME", "KIND", "ASKED", "OF", "QUESTIONS", "ID", "FROM"]
    assert [line.split()[:3] for line in lines] == [
        ["general", "general", "all"],
        ["general-zh", "general", "all"],
        ["must-not-forget", "must-not-forget", "bot"],
        ["safety", "safety", "all"],
        ["safety-zh", "safety", "all"],
    ]
    assert [row.source for row in every(db, FrozenSuite)] == ["by hand"]


def test_what_a_file_asked_stays_banned_when_the_file_is_gone(db, home):
    family = a_family(db)
    version = a_version(db, family, 1)
    gone = make_suite("mine", "domain", "", [asked("Which owl box is the largest?", "Barn.")])
    a_reply(db, version, gone.questions[0], "Barn.")
    evaluate(db, home, None, version, gone, silent)
    assert banned(db, home, "bot").among([asked("which owl box is the largest")]) == [True]
    assert banned(db, home, "shop").among([asked("which owl box is the largest")]) == [False]


def test_options_of_a_suite_that_would_do_nothing_are_refused(db, home):
    from click.testing import CliRunner

    from ollama_ft.cli.app import cli

    a_family(db)
    for words, what in (
        (("mine", "--from", "f.jsonl", "--never", "ten"), "there is no -q"),
        (("mine", "-q", "Who?", "-a", "Ada.", "--kind", "best"), "no kind of suite"),
        (("mine", "--from-test", "--for-all"), "a family's own"),
        (("test", "-q", "Who?", "-a", "Ada."), "own test questions"),
    ):
        done = CliRunner().invoke(cli, ["--home", str(home.path), "suite", "add", *words])
        assert done.exit_code != 0 and what in done.stderr and "try: " in done.stderr
