"""What of the log is learned: every rule by itself, and all of them over a real log."""

import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.plugins import collect
from ollama_ft.kinds.harvest import caps, fitness, grounded, personal, same, suites
from ollama_ft.kinds.harvest.candidate import Candidate, Settings, source_of
from ollama_ft.kinds.harvest.sift import sift

SETTINGS = Settings()


def row(question, answer, **more):
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(messages=turns, **more)


def candidate(question="When do you open?", answer="At nine.", uid="a", tier="up", **more):
    return Candidate(
        **{
            "uid": uid,
            "at": "2026-11-25T10:00:00+00:00",
            "client": "till",
            "tier": tier,
            "row": row(question, answer, source=source_of(uid)),
            "said": answer,
        }
        | more
    )


def kept(rule, *candidates, settings=SETTINGS):
    return [one.uid for one in rule(candidates, settings).kept]


def why(rule, one, settings=SETTINGS):
    return "; ".join(left.why for left in rule([one], settings).left)


# --- one exchange by itself ---


@pytest.mark.parametrize(
    ("rule", "one", "reason"),
    [
        (fitness.not_down, candidate(tier="down"), "rated down"),
        (fitness.not_down, candidate(tier="corrected"), ""),
        (fitness.whole, candidate(trouble="broke off"), "broke off"),
        (fitness.fit, candidate(answer=" "), "has an empty answer"),
        (fitness.short_enough, candidate(answer="word " * 1000), "about 1671 tokens"),
        (fitness.short_enough, candidate(answer="开门" * 400), "about 1205 tokens"),
        (fitness.knows, candidate(tier="unrated", answer="I don't know."), "sounds unsure"),
        (fitness.knows, candidate(tier="unrated", answer="抱歉，我不知道。"), "sounds unsure"),
        (fitness.knows, candidate(tier="up", answer="I don't know."), ""),
    ],
)
def test_an_exchange_that_is_no_good_is_left_out_with_the_reason(rule, one, reason):
    assert why(rule, one) == reason


@pytest.mark.parametrize(
    ("answer", "passage", "reason"),
    [
        ("We open at 9 every weekday.", "The shop opens every weekday at 9.", ""),
        ("We open at 8 every weekday.", "The shop opens every weekday at 9.", "8 is in no passage"),
        ("Penguins sleep upright.", "The shop opens every weekday at 9.", "0% of its words"),
        ("周末上午九点开门。", "本店周末上午九点开门，下午六点关门。", ""),
        ("企鹅站着睡觉。", "本店周末上午九点开门，下午六点关门。", "0% of its words"),
        ("Yes.", "", "nothing was retrieved"),
    ],
)
def test_an_unrated_answer_stays_only_if_its_passages_say_so(answer, passage, reason):
    one = candidate(answer=answer, tier="unrated", passages=(passage,) if passage else ())
    found = why(grounded.grounded, one)
    assert reason in found
    assert bool(reason) == bool(found)


def test_a_rated_answer_needs_no_passage():
    assert kept(grounded.grounded, candidate(tier="up"), candidate(tier="corrected")) == ["a", "a"]


def test_what_is_personal_is_hidden_again_in_all_turns_alike():
    one = candidate("I am a.b@example.com, ok?", "Yes, a.b@example.com is known.")
    found = personal.redacted([one, candidate(uid="b")], SETTINGS)
    assert found.changed == 1
    assert found.kept[0].row.question == "I am [EMAIL_1], ok?"
    assert found.kept[0].row.answer == "Yes, [EMAIL_1] is known."


@pytest.mark.parametrize(
    ("tier", "at", "reason"),
    [
        ("unrated", "2026-12-02", "rated down in bad"),
        ("up", "2026-11-30", "rated down in bad"),
        ("up", "2026-12-02", ""),
        ("corrected", "2026-11-30", ""),
    ],
)
def test_an_answer_rated_down_is_no_target_where_it_was_given_again(tier, at, reason):
    bad = candidate(uid="bad", tier="down", at="2026-12-01")
    again = candidate("when do you open", uid="again", tier=tier, at=at)
    left = {one.candidate.uid: one.why for one in fitness.not_down([again, bad], SETTINGS).left}
    assert left == {"bad": "rated down"} | ({"again": reason} if reason else {})


def test_an_answer_that_was_corrected_is_no_target_where_it_was_given_again():
    right = candidate(answer="At ten.", uid="right", tier="corrected", said="At nine.")
    again = candidate(answer="At nine.", uid="again", tier="unrated")
    other = candidate("When do you close?", "At nine.", uid="other", tier="unrated")
    assert kept(fitness.not_down, again, right, other) == ["right", "other"]


def test_an_answer_liked_after_it_was_disliked_is_learned_and_no_bad_example():
    ones = [
        candidate(uid="then", tier="down", at="2026-11-01"),
        candidate(uid="now", tier="up", at="2026-11-02"),
    ]
    rules = {name: loaded.thing for name, loaded in collect("harvest_rules").items()}
    found = sift(ones, rules, SETTINGS)
    assert [one.uid for one in found.kept] == ["now"]
    assert found.negatives == ()


# --- beside what a suite asks ---


@pytest.mark.parametrize(
    "question",
    [
        "How long does the battery of the Wren last?",
        "how long does the battery of the wren last",
        "How long does the battery of the Wrenn last?",
        "Hello! How long does the battery of the Wren last? Thanks a lot.",
        "Say how long does the battery of the Wren actually last.",
    ],
)
def test_what_a_suite_asks_is_not_learned(question):
    settings = Settings(asked=[row("How long does the battery of the Wren last?", "9 hours")])
    assert kept(suites.apart, candidate(question), settings=settings) == []


def test_another_phrasing_and_the_test_row_itself_may_be_learned():
    mine = row("How long does the battery last?", "9 hours", source=source_of("a"))
    settings = Settings(asked=[mine], tested={"a"})
    other = candidate("After how many hours is the Wren empty?", uid="b")
    assert kept(suites.apart, candidate(mine.question), other, settings=settings) == ["a", "b"]


def test_what_a_suite_asks_of_the_log_is_not_learned_from_the_log_either():
    mine = row("How long does the battery last?", "9 hours", source=source_of("a"))
    assert kept(suites.apart, candidate(mine.question), settings=Settings(asked=[mine])) == []


def test_a_chinese_suite_is_kept_apart_as_well():
    settings = Settings(asked=[row("你们周末几点开门？", "九点")])
    ones = [candidate("请问你们周末几点开门呢？"), candidate("怎么退货？", uid="b")]
    assert kept(suites.apart, *ones, settings=settings) == ["b"]


# --- one question, one answer ---


def test_the_best_tier_wins_and_of_corrections_the_newest():
    ones = [
        candidate(uid="new-up", at="2026-12-01", answer="At ten."),
        candidate(uid="old-c", tier="corrected", at="2026-11-01", answer="At eight."),
        candidate(uid="new-c", tier="corrected", at="2026-11-02", answer="At nine."),
    ]
    found = same.once(ones, SETTINGS)
    assert [one.uid for one in found.kept] == ["new-c"]
    assert [(c.stands, c.other) for c in found.conflicts] == [("At nine.", "At eight.")]


def test_near_questions_with_one_answer_are_one_and_with_two_both_stay():
    ones = [
        candidate("What is the capital of Mali?", "Bamako", uid="a", tier="corrected"),
        candidate("What is the capital of Malta?", "Valletta", uid="b"),
        candidate("What is the capitall of Mali?", "Bamako", uid="c"),
    ]
    found = same.once_nearly(ones, SETTINGS)
    assert [one.uid for one in found.kept] == ["a", "b"]
    assert [c.exchanges for c in found.conflicts] == [("a", "b")]


@pytest.mark.parametrize(
    ("tier", "answer", "stays", "conflicts"),
    [
        ("up", "At nine.", False, 0),
        ("up", "At ten.", False, 0),
        ("corrected", "At ten.", True, 1),
    ],
)
def test_a_files_row_stands_until_somebody_corrects_it(tier, answer, stays, conflicts):
    taught = row("When do you open?", "At nine.")
    settings = Settings(taught={taught.prompt_key: taught})
    found = same.new_to_it([candidate(answer=answer, tier=tier)], settings)
    assert (bool(found.kept), len(found.conflicts)) == (stays, conflicts)


def test_no_topic_and_no_client_owns_the_model():
    many = [candidate(f"Question {i}?", f"Answer {i}", uid=f"m{i}", topic="a.md") for i in range(6)]
    good = candidate("Other?", "Other", uid="good", topic="a.md", tier="corrected")
    others = [candidate(f"What {i}?", f"So {i}", uid=f"o{i}", client="web") for i in range(2)]
    settings = Settings(per_topic=3, per_client=1)
    topics = kept(caps.by_topic, *many, good, *others, settings=settings)
    assert "good" in topics
    assert len(topics) == 3 + 2
    clients = kept(caps.by_client, *many, *others, settings=settings)
    assert len(clients) == 4 + 2  # half of all eight
    assert len(kept(caps.by_client, *many, settings=settings)) == 6  # nobody is pushed aside


# --- all of them ---


def test_counts_go_in_and_out_of_every_rule_and_bad_answers_are_kept_as_such():
    ones = [
        candidate(uid="a", tier="corrected", said="At three."),
        candidate(uid="b", tier="down", said="Never, a@example.com.", question="And on Sundays?"),
        candidate(uid="c", tier="down", trouble="broke off", question="Half?"),
        candidate(uid="d", tier="up"),
    ]
    rules = {name: loaded.thing for name, loaded in collect("harvest_rules").items()}
    found = sift(ones, rules, SETTINGS)
    assert [one.uid for one in found.kept] == ["a"]
    assert [(n.exchange, n.rejected, n.chosen) for n in found.negatives] == [
        ("a", "At three.", "At nine."),
        ("b", "Never, [EMAIL_1].", ""),
    ]
    assert found.steps[0].came == 4
    for before, after in zip(found.steps, found.steps[1:], strict=False):
        assert after.came == before.stayed
    assert [s.rule for s in found.steps if s.came > s.stayed] == ["thumbs down", "duplicate"]
