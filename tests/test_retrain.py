"""From the log to the next version, and the way of a row that is to be forgotten."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ollama_ft import loop, retrain
from ollama_ft.cli.app import cli
from ollama_ft.core.catalog import every, newest
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import NotEnoughData
from ollama_ft.core.exchange import Heard, Rated, Turn, Verdict
from ollama_ft.core.files import artefact
from ollama_ft.core.logbook import Pen, find_exchange, remove
from ollama_ft.core.loop_records import Forgotten, Harvest
from ollama_ft.core.records import Dataset, Promotion, Version
from ollama_ft.core.refs import live
from ollama_ft.kinds.context import IN_CONTEXT, asked
from ollama_ft.kinds.harvest.candidate import exchange_of
from ollama_ft.kinds.more_rows import is_made
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import harvest as harvesting
from ollama_ft.workshop import Workshop
from tests.rows import a_family, a_version

PASSAGE = {"path": "guide.md", "heading": "Hours", "text": "The shop opens at nine on weekdays."}
CORRECTED = [(f"Where is shelf {name}?", f"Shelf {name} is upstairs.") for name in "ABCDEFGHIJ"]


def heard(number, question, answer, verdict=None, **more):
    return Heard(
        **{
            "uid": f"0000000000{number:06d}",
            "at": "2026-11-25T10:00:00+00:00",
            "family": "bot",
            "version": "bot:v1",
            "client": "till",
            "turns": (Turn(role="user", content=question),),
            "reply": Turn(role="assistant", content=answer),
            "verdict": verdict,
        }
        | more
    )


def corrected(number, question, right, **more):
    return heard(
        number, question, "No idea.", Verdict(rating="corrected", correction=right), **more
    )


def file_row(question, answer, split="train"):
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(messages=turns, split=split)


@pytest.fixture
def family(db, home):
    """`bot` with v0 and v1; v1 is live and was taught ten rows of a file."""
    family = a_family(db)
    a_version(db, family, 0)
    rows = [file_row(f"Fact {i}?", f"It is {i}.", "test" if i > 8 else "train") for i in range(10)]
    dataset = datasets.freeze(db, home, "bot", datasets.Frozen(rows=tuple(rows)))
    a_version_of(db, family, dataset, 1)
    return family


def a_version_of(db, family, dataset, number):
    version = a_version(db, family, number)
    db.execute("update versions set dataset = ? where id = ?", [dataset.key, version.key])
    make_live(db, version)
    return newest(db, Version, id=version.key)


def make_live(db, version):
    from ollama_ft.stages.promote import promote

    promote(db, version, lambda version: "sha256:0", "test")


@pytest.fixture
def trained(db, family, monkeypatch):
    """A training that only writes its rows; the list of what it was given."""
    given = []

    def make(shop, of, frozen, lesson):
        dataset = newest(db, Dataset, family=of.name, digest=frozen.digest)
        given.append(frozen)
        return a_version_of(db, of, dataset, len(given) + 1)

    monkeypatch.setattr(retrain, "make", make)
    return given


@pytest.fixture
def learn(db, home, log, family, trained):
    """Plan and carry out; return the plan."""
    shop = Workshop(db=db, home=home, client=None, emit=lambda event: None)

    def learn(**wish):
        wished = retrain.Wish(**{"min_rows": 1} | wish)
        planned = retrain.plan(db, home, log, family, wished)
        if not planned.nothing_new:
            retrain.carry_out(shop, planned, None, wished)
        return planned

    return learn


@pytest.fixture
def ft(home, family):
    def run(*arguments, code=0, keys=None):
        result = CliRunner().invoke(cli, ["--home", str(home.path), *arguments], input=keys)
        assert result.exit_code == code, result.output
        return result.output

    return run


def learned(frozen):
    return {row.question for row in frozen.rows if exchange_of(row)}


def test_corrections_join_the_files_rows_and_every_row_names_its_exchange(db, log, learn, trained):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    planned = learn()
    assert planned.fresh == 10
    assert len(trained[0].rows) == 20
    assert {exchange_of(row) for row in trained[0].rows} - {""} == {
        f"0000000000{i:06d}" for i in range(10)
    }
    (harvest,) = every(db, Harvest)
    assert (harvest.taken, harvest.negatives) == (10, 10)


def test_a_correction_in_one_phrasing_is_taught_and_of_many_phrasings_one_may_be_asked(
    log, learn, trained
):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    words = ["alpha", "bravo", "carol", "delta", "eagle", "frost", "grape", "house", "igloo"]
    words += ["jelly", "knife", "lemon", "mango", "night", "ocean", "piano", "queen", "river"]
    many = [corrected(50 + i, f"{word} {word[::-1]}?", "Yes!") for i, word in enumerate(words)]
    Pen(log).write(many)
    learn()
    splits = {row.question: row.split for row in trained[0].rows}
    assert {splits[question] for question, _ in CORRECTED} == {"train"}
    assert {row.split for row in trained[0].rows if row.answer == "Yes!"} > {"train"}


def test_unrated_answers_count_only_where_documents_say_so(log, home, db, family):
    Pen(log).write(
        [
            heard(1, "When do you open?", "The shop opens at nine.", context=(PASSAGE,)),
            heard(2, "When do you close?", "The shop closes at midnight.", context=(PASSAGE,)),
            heard(3, "Do you sell tea?", "Certainly."),
            heard(4, "Can I park?", "Yes.", Verdict(rating="up")),
            heard(5, "Can I smoke?", "Yes.", Verdict(rating="down")),
            heard(6, "Can I pay?", "Ye", Verdict(rating="up"), status="incomplete"),
        ]
    )
    planned = retrain.plan(db, home, log, family, retrain.Wish())
    assert learned(planned.frozen) == {"When do you open?", "Can I park?"}
    assert (planned.exchanges, planned.candidates) == (6, 5)


def by_question(frozen):
    return {row.question: row for row in frozen.rows if exchange_of(row)}


def test_a_liked_answer_brings_its_passages_and_a_corrected_one_none(log, home, db, family):
    right = Verdict(rating="corrected", correction="The shop opens at ten.")
    Pen(log).write(
        [
            heard(1, "Open?", "It is open.", Verdict(rating="up"), context=(PASSAGE,)),
            heard(2, "Closed?", "It opens at nine.", right, context=(PASSAGE,)),
        ]
    )
    rows = by_question(retrain.plan(db, home, log, family, retrain.Wish()).frozen)
    assert rows["Open?"].passages == ("Hours\nThe shop opens at nine on weekdays.",)
    assert rows["Closed?"].passages == ()


def test_with_context_kept_rows_show_their_passages_where_these_hold_the_answer(
    log, home, db, family
):
    up, said = Verdict(rating="up"), "It opens at nine on weekdays."
    Pen(log).write(
        [
            heard(1, "Open?", said, up, context=(PASSAGE,)),
            heard(2, "Who?", "Ada and Bo do.", up, context=(PASSAGE,)),
        ]
    )
    wish = retrain.Wish(keep_context=True)
    rows = by_question(retrain.plan(db, home, log, family, wish).frozen)
    assert "Hours\nThe shop opens at nine" in asked(rows["Open?"])[-1].content
    assert asked(rows["Who?"])[-1].content == "Who?"


def test_another_way_to_learn_changes_the_rows_that_were_learned_before(log, learn, trained):
    up, said = Verdict(rating="up"), "It opens at nine on weekdays."
    questions = [f"{word} {word[::-1]}?" for word in ("alpha", "bravo", "carol", "delta", "eagle")]
    Pen(log).write([heard(i, q, said, up, context=(PASSAGE,)) for i, q in enumerate(questions)])
    learn()
    learn(keep_context=True)
    first, second = ({row.question: row for row in made.rows} for made in trained)
    assert not any(IN_CONTEXT in row.tags for row in first.values())
    assert all(IN_CONTEXT in second[question].tags for question in questions)
    assert {q: row.split for q, row in second.items()} == {q: r.split for q, r in first.items()}


def test_the_same_log_again_is_nothing_new(log, learn, trained):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    assert not learn().nothing_new
    again = learn()
    assert again.nothing_new
    assert again.done.number == 2
    assert len(trained) == 1


def test_after_a_rollback_the_version_that_knows_it_is_named(db, log, learn, trained):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    learn()
    make_live(db, newest(db, Version, number=1))
    assert learn().done.number == 2


def test_a_row_deleted_or_rated_down_since_is_not_trained_on(log, learn, trained):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    learn()
    remove(log, [find_exchange(log, f"0000000000{0:06d}").key])
    down = Verdict(rating="down", by="boss")
    Pen(log).write([Rated(uid=f"0000000000{1:06d}", verdict=down)])
    planned = learn(min_rows=100)  # what goes away does not wait for new rows
    assert planned.gone == 2
    assert learned(trained[1]) == {question for question, _ in CORRECTED[2:]}
    assert len(trained[1].rows) == 18


def test_a_forgotten_correction_gives_the_files_answer_back(log, learn, trained):
    Pen(log).write([corrected(0, "Fact 3?", "It is thirty.")])
    learn()
    assert {row.answer for row in trained[0].rows if row.question == "Fact 3?"} == {"It is thirty."}
    assert len(trained[0].rows) == 10
    remove(log, [find_exchange(log, "last").key])
    learn()
    assert {row.answer for row in trained[1].rows if row.question == "Fact 3?"} == {"It is 3."}


def test_since_leaves_out_what_is_older_but_not_what_was_learned(log, learn, trained):
    Pen(log).write([corrected(0, *CORRECTED[0])])
    learn()
    old = "2026-11-01T00:00:00+00:00"
    liked = heard(1, "Old?", "Yes.", Verdict(rating="up", at=old), at=old)
    Pen(log).write([liked, corrected(2, *CORRECTED[2])])
    learn(since="2026-11-20")
    assert learned(trained[1]) == {CORRECTED[0][0], CORRECTED[2][0]}


def test_since_a_time_is_what_was_rated_since_however_old_the_question(log, home, db, family):
    Pen(log).write([corrected(i, *CORRECTED[i], at="2020-01-01T00:00:00+00:00") for i in (0, 1)])
    planned = retrain.plan(db, home, log, family, retrain.Wish(since="2026-11-20"))
    assert learned(planned.frozen) == {CORRECTED[0][0], CORRECTED[1][0]}
    assert (planned.exchanges, planned.candidates) == (2, 2)


@pytest.mark.parametrize("since", ["v2", "bot:v2"])
def test_since_a_version_is_since_its_rows_were_chosen_so_that_nothing_is_lost_in_its_training(
    db, home, log, family, learn, since
):
    Pen(log).write([corrected(0, *CORRECTED[0])])
    learn()
    made = newest(db, Version, number=2)
    at = {"chosen": "2026-11-20T08:00:00+00:00", "ready": "2026-11-20T12:00:00+00:00"}
    db.execute("update datasets set at = ? where id = ?", [at["chosen"], made.dataset])
    db.execute("update versions set at = ? where id = ?", [at["ready"], made.key])
    times = {"before": "2026-11-20T07:00:00+00:00", "meanwhile": "2026-11-20T09:00:00+00:00"}
    for number, (name, when) in enumerate(times.items(), 1):
        liked = Verdict(rating="up", at=when)
        Pen(log).write([heard(number, f"{name}?", f"Yes, {name}.", liked, at=when)])
    planned = retrain.plan(db, home, log, family, retrain.Wish(since=since))
    assert learned(planned.frozen) == {CORRECTED[0][0], "meanwhile?"}


def test_what_a_failed_training_left_is_still_new_and_is_trained_on_next_time(db, home, log):
    family = a_family(db)
    make_live(db, a_version(db, family, 0))
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    wish = retrain.Wish()
    first = retrain.plan(db, home, log, family, wish)
    datasets.freeze(db, home, "bot", first.frozen)  # and then the training is killed
    again = retrain.plan(db, home, log, family, wish)
    assert not again.nothing_new
    assert (again.fresh, again.missing) == (10, 0)
    assert again.frozen.digest == first.frozen.digest


def test_a_correction_is_learned_however_the_answer_itself_ended(db, home, log, family):
    Pen(log).write(
        [
            corrected(0, "Cut?", "Not any more.", done_reason="length"),
            corrected(1, "Broken?", "Whole.", status="incomplete"),
            corrected(2, "Failed?", "Mended.", status="failed", reply=None),
        ]
    )
    planned = retrain.plan(db, home, log, family, retrain.Wish())
    assert learned(planned.frozen) == {"Cut?", "Broken?", "Failed?"}
    assert [bad.prompt[0][1] for bad in planned.sifted.negatives] == ["Cut?"]


def test_an_answer_disliked_where_it_was_given_again_is_unlearned(log, learn, trained):
    up = Verdict(rating="up", at="2026-11-25T10:00:00+00:00")
    Pen(log).write([heard(0, "Rude?", "Go away.", up)])
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED, 1)])
    learn()
    down = Verdict(rating="down", at="2026-11-26T10:00:00+00:00")
    Pen(log).write([heard(50, "Rude?", "Go away.", down)])
    assert learn().gone == 1
    assert "Rude?" not in learned(trained[1])


def test_of_unrated_answers_the_newest_are_looked_at_and_how_many_are_not_is_told(log):
    said = "The shop opens at nine."
    Pen(log).write([heard(i, f"Open {i}?", said, context=(PASSAGE,)) for i in range(5)])
    Pen(log).write([corrected(9, *CORRECTED[0], at="2020-01-01T00:00:00+00:00")])
    seen = harvesting.read(log, "bot", known={"0000000000000001"}, most_unrated=2)
    assert [int(one.uid) for one in seen.candidates] == [1, 3, 4, 9]
    assert (seen.exchanges, seen.passed_over) == (6, 2)


def test_who_goes_on_from_an_adapter_that_learned_what_is_forgotten_is_refused(log, learn, ft):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    learn()
    ft("forget", "1", "--yes")
    told = ft("retrain", "--from-logs", "--strategy", "continue", code=1)
    assert "does not forget" in told
    assert "--strategy scratch" in told


def test_a_dry_run_that_leaves_too_few_rows_to_train_on_says_so_with_exit_4(db, home, log, ft):
    make_live(db, a_version(db, a_family(db, "new"), 0))
    Pen(log).write([corrected(i, *CORRECTED[i], family="new") for i in range(3)])
    told = ft("retrain", "new", "--from-logs", "--min-rows", "1", "--dry-run", code=4)
    assert "There are 3 rows to train on; 8 are the least, 5 are missing" in told
    ft("retrain", "new", "--from-logs", "--min-rows", "1", code=4)


@pytest.mark.parametrize("wish", [("--min-rows", "0"), ("--paraphrases", "-1", "--model", "m")])
def test_a_number_that_makes_no_sense_is_refused(ft, wish):
    ft("retrain", "--from-logs", *wish, code=2)


def test_too_few_rows_say_how_many_are_missing(log, learn, trained):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED[:3])])
    with pytest.raises(NotEnoughData, match="10 are the least that is trained on, 7 are missing"):
        learn(min_rows=10)
    assert trained == []


def test_bad_answers_are_kept_for_preference_training(db, home, log, learn):
    Pen(log).write([corrected(0, *CORRECTED[0])])
    Pen(log).write([heard(1, "Rude?", "Go away.", Verdict(rating="down"))])
    learn()
    (harvest,) = every(db, Harvest)
    text = artefact(home.data("harvests"), harvest.digest, ".jsonl").read_text("utf-8")
    kept = [json.loads(line) for line in text.splitlines()]
    assert [(one["rejected"], one["chosen"]) for one in kept] == [
        ("No idea.", "Shelf A is upstairs."),
        ("Go away.", ""),
    ]


# --- forget ---


def test_forget_deletes_and_marks_the_versions_that_learned_from_it(db, home, log, learn, ft):
    Pen(log).write([corrected(i, *pair, client="c1") for i, pair in enumerate(CORRECTED)])
    Pen(log).write([corrected(20, "Who is the boss?", "Mira is.", client="c2")])
    learn()
    told = ft("forget", "--client", "c2", "--dry-run")
    assert "learned   bot:v2 (live)" in told
    assert every(db, Forgotten) == []
    done = json.loads(ft("forget", "--client", "c2", "--json"))
    assert (done["versions"], done["deleted"]) == (["bot:v2"], 1)
    (mark,) = every(db, Forgotten)
    assert newest(db, Version, id=mark.version).tag == "bot:v2"
    assert ft("logs", "-q", "boss").count("Mira") == 0
    planned = learn()
    assert planned.gone == 1
    assert "Who is the boss?" not in learned(planned.frozen)
    assert "1 exchanges that were forgotten" in ft("show", "v2")
    assert "forgotten" not in ft("show", "v3")


def test_no_word_of_what_was_forgotten_is_left_in_the_files(db, home, log, ft):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    right = Verdict(rating="corrected", correction="quzzlefrob")
    Pen(log).write([heard(50, "mazzlebop?", "vizzlewug", right), heard(51, "还有别的吗?", "没有")])
    ft("forget", "--match", "mazzlebop", "--yes")
    log.close()
    files = b"".join(path.read_bytes() for path in home.log.parent.glob("log.db*"))
    # The search keeps a word without the letters that it shares with the one before it.
    assert [word for word in (b"zzlebop", b"zzlewug", b"zzlefrob") if word in files] == []
    assert "没有" in ft("logs", "-q", "还有别的")


def test_forget_asks_before_it_deletes(log, ft):
    Pen(log).write([corrected(0, *CORRECTED[0])])
    ft("forget", "--match", "shelf", code=1, keys="n\n")
    assert "deleted   1" in ft("forget", "--match", "shelf", keys="y\n")
    ft("forget", "--match", "shelf", "-y", code=1)
    ft("forget", code=2)


# --- the commands ---


def test_a_dry_run_tells_every_rule_and_writes_nothing(db, log, ft):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    Pen(log).write([heard(30, "Rude?", "Go away.", Verdict(rating="down"))])
    before = [len(every(db, kind)) for kind in (Dataset, Harvest, Version, Promotion)]
    told = ft("retrain", "--from-logs", "--dry-run")
    assert "11 exchanges of bot" in told
    assert "Rude? (rated down)" in told
    assert "new       10 rows" in told
    said = json.loads(ft("retrain", "--from-logs", "--dry-run", "--json"))
    assert said["rules"][0] | {"examples": 0} == {
        "rule": "thumbs down",
        "in": 11,
        "left": 10,
        "changed": 0,
        "examples": 0,
    }
    ft("retrain", "--from-logs", "--dry-run", "--min-rows", "11", code=4)
    assert [len(every(db, kind)) for kind in (Dataset, Harvest, Version, Promotion)] == before


def test_nothing_in_the_log_is_nothing_new_and_no_runtime_is_asked(log, ft):
    assert "nothing new to learn" in ft("retrain", "--from-logs")
    assert ft("retrain", code=2)


# --- more ways to ask ---


class Rephraser:
    """A runtime whose model puts every question in two other ways."""

    asked = 0

    def chat(self, model, messages, **_):
        self.asked += 1
        number = f"{self.asked:02d}".translate(str.maketrans("0123456789", "abcdefghij"))
        return SimpleNamespace(
            text=f"1. Where would {number} be?\n2. Tell me about {number} please!"
        )


def test_paraphrases_are_learned_from_and_stay_when_the_log_is_learned_again(
    db, home, log, family, trained
):
    Pen(log).write([corrected(i, *pair) for i, pair in enumerate(CORRECTED)])
    shop = Workshop(db=db, home=home, client=Rephraser(), emit=lambda event: None)
    wish = retrain.Wish(min_rows=1)
    planned = retrain.plan(db, home, log, family, wish)
    wide = retrain.widen(shop, planned, 2, "big")
    made = [row for row in wide.frozen.rows if is_made(row)]
    assert len(made) == 2 * sum(
        row.split == "train" for row in by_question(planned.frozen).values()
    )
    assert {row.split for row in made} == {"train"}
    assert all(exchange_of(row) for row in made)
    retrain.carry_out(shop, wide, None, wish)
    again = retrain.plan(db, home, log, family, wish)
    assert again.nothing_new
    assert again.frozen.digest == wide.frozen.digest


@pytest.mark.parametrize("wanted", [True, False])
def test_a_version_that_passes_is_made_live_unless_that_is_not_wanted(
    db, home, family, monkeypatch, wanted
):
    version = a_version(db, family, 2)
    v0 = a_version(db, family, 3)
    seen = SimpleNamespace(right=3, questions=4)
    trial = SimpleNamespace(before=seen, after=seen)
    monkeypatch.setattr(loop, "evaluate_all", lambda *_: [seen])
    monkeypatch.setattr(loop, "hold", lambda *_: (SimpleNamespace(outcome="pass"), trial))
    monkeypatch.setattr(loop, "pointer", lambda shop: lambda version: "sha256:0")
    shop = Workshop(db=db, home=home, client=None, emit=lambda event: None)
    lesson = SimpleNamespace(gate=None, promote=wanted)
    outcome = loop._judge(shop, version, None, v0, None, lesson)
    assert outcome.promoted == wanted
    assert (live(db, "bot").version.key == version.key) == wanted


def test_paraphrases_need_somebody_to_write_them(ft):
    assert "--model" in ft("retrain", "--from-logs", "--paraphrases", "2", code=2)
