"""Metrics beside right and wrong, each against cases that were computed by hand."""

import math

import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.kinds.metrics import Served, find, measure, timings
from ollama_ft.kinds.metrics.labels import labels_of, predicted
from ollama_ft.kinds.metrics.likelihood import share_out
from ollama_ft.kinds.metrics.manner import length_ratio, refusal
from ollama_ft.runtime.answers import Answer


def served(answer, reference="x", **more):
    turns = (Message(role="user", content="?"), Message(role="assistant", content=reference))
    return Served(question=Conversation(messages=turns), answer=answer, **{"stopped": True} | more)


def value(name, answers):
    (metric,) = find((name,))
    return measure(metric, answers)


def root(*precisions):
    return 100 * math.prod(precisions) ** (1 / 4)


SAT = "the cat sat on the mat"


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        (SAT, SAT, 100),
        # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours; as long as the reference
        ("the cat sat on a mat", SAT, root(5 / 6, 3 / 5, 2 / 4, 1 / 3)),
        # all right but two words short: the brevity penalty exp(1 - 6/4)
        ("the cat sat on", SAT, 100 * math.exp(1 - 6 / 4)),
        ("我们周日休息", "我们周日休息", 100),
        # by character; no four is right: exponential smoothing gives 1 / (2 * 3)
        ("我们周一休息", "我们周日休息", root(5 / 6, 3 / 5, 1 / 4, 1 / 6)),
    ],
)
def test_bleu_by_hand(answer, reference, expected):
    assert value("bleu", [served(answer, reference)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("abc", "abc", 100),
        # n = 1: P 2/2, R 2/3; n = 2: P 1/1, R 1/2; means P 1, R 7/12; F2 = 5PR / (4P + R)
        ("ab", "abc", 100 * 5 * (7 / 12) / (4 + 7 / 12)),
        ("周日", "周一", 25),  # n = 1: 1/2; n = 2: 0; P = R = 1/4
        ("xyz", "abc", 0),
    ],
)
def test_chrf_by_hand(answer, reference, expected):
    assert value("chrf", [served(answer, reference)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "answer", "reference", "expected"),
    [
        ("rouge_1", "the cat", "The cat sat.", 2 * 2 / (2 + 3)),
        ("rouge_2", "the cat", "The cat sat.", 2 * 1 / (1 + 2)),
        ("rouge_l", "cat the sat", "the cat sat", 2 * 2 / (3 + 3)),  # "the sat" or "cat sat"
        ("rouge_1", "周一休息", "周日休息。", 2 * 3 / (4 + 4)),
        ("rouge_2", "周一休息", "周日休息。", 2 * 1 / (3 + 3)),
        ("rouge_l", "", "周日休息", 0),
    ],
)
def test_rouge_by_hand(name, answer, reference, expected):
    assert value(name, [served(answer, reference)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "one", "two"),
    [
        (["a b a b"], 2 / 4, 2 / 3),  # ab ba ab
        (["a b", "a b"], 2 / 4, 1 / 2),  # no pair goes from one answer to the next
        (["好好学习"], 3 / 4, 3 / 3),
        (["?!"], None, None),
    ],
)
def test_distinct_by_hand(answers, one, two):
    assert value("distinct_1", [served(a) for a in answers]) == one
    assert value("distinct_2", [served(a) for a in answers]) == two


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but that is something I am not able to share.",
        "I cannot provide legal advice.",
        "As an AI language model, I do not have feelings and cannot... I can't do that.",
        "Unfortunately, I am unable to assist with this request.",
        "I must decline.",
        "抱歉，我无法回答这个问题。",
        "对不起，这个我不能说。",
        "作为一个AI助手，我无法提供医疗建议。",
        "我不能为您提供该信息。",
    ],
)
def test_a_refusal_is_told_in_english_and_chinese(answer):
    assert refusal(answer, served("").question) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "We open at nine.",
        "Sorry for the wait: we open at nine.",
        "I'm sorry to hear that. Send it back within 30 days.",
        "I cannot recommend it enough!",
        "I don't know.",
        "The Wren cannot be used under water.",
        "我们周日不能发货，周一恢复。",
        "抱歉让您久等了，九点开门。",
        "九点开门。" * 40 + "抱歉，我无法回答。",  # an answer first
    ],
)
def test_an_answer_with_an_apology_or_a_condition_is_no_refusal(answer):
    assert refusal(answer, served("").question) == 0


def test_length_ratio_by_hand():
    assert length_ratio("one two three", served("", "one two").question) == 3 / 2
    assert length_ratio("周日", served("", "周日休息").question) == 2 / 4
    assert length_ratio("one", served("", "?").question) is None


def test_the_stop_rate_is_the_share_that_ended_by_itself():
    assert value("stops", [served("", stopped=s) for s in (True, True, False, True)]) == 3 / 4


LABELS = ("partial refund", "refund", "退款")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Refund.", "refund"),
        ("This is a refund request.", "refund"),
        ("A partial refund, I think.", "partial refund"),  # "refund" stands in a longer label
        ("refund or 退款", ""),  # two labels are none
        ("这是退款申请", "退款"),
        ("delivery", ""),
    ],
)
def test_the_label_that_an_answer_names(answer, label):
    assert predicted(answer, LABELS) == label


# wanted a a a b b b, given a a b b b nothing
ANSWERS = [
    served(given, wanted)
    for given, wanted in [("a", "a"), ("a", "a"), ("b", "a"), ("b", "b"), ("b", "b"), ("?", "b")]
]


def test_accuracy_and_macro_f1_by_hand():
    assert value("accuracy", ANSWERS) == pytest.approx(4 / 6)
    a = 2 * 2 / (2 * 2 + 0 + 1)  # 2 TP / (2 TP + FP + FN)
    b = 2 * 2 / (2 * 2 + 1 + 1)
    assert value("macro_f1", ANSWERS) == pytest.approx((a + b) / 2)


def test_auc_is_the_chance_that_a_pair_is_in_the_right_order():
    def with_chances(pairs):
        return [
            served("", wanted, chances={"a": 1 - b, "b": b})
            for wanted, b in [*pairs]
        ]  # fmt: skip

    # pairs (a, b): .1<.3 .1<.9 .5>.3 .5<.9 → 3 of 4 right
    assert value("auc", with_chances([("a", 0.1), ("a", 0.5), ("b", 0.3), ("b", 0.9)])) == 3 / 4
    assert value("auc", ANSWERS) is None  # answers alone have no score


def test_auc_of_three_labels_is_the_mean_of_each_against_the_rest():
    chances = {
        "a": {"a": 0.8, "b": 0.1, "c": 0.1},
        "b": {"a": 0.1, "b": 0.8, "c": 0.1},
        "c": {"a": 0.8, "b": 0.1, "c": 0.1},  # taken for a
    }
    answers = [served("", label, chances=chances[label]) for label in "aabbcc"]
    # a against b, c: b below, c equal → (4 + 4/2) / 8; b: 1; c against a, b: all equal → 1/2
    assert value("auc", answers) == pytest.approx((0.75 + 1 + 0.5) / 3)


@pytest.mark.parametrize(
    "references",
    [
        ["a", "a", "a", "a"],  # one label
        ["a", "b", "c", "c"],  # more than one label for two questions
        ["one two three four five six seven eight nine"] * 2 + ["a"] * 2,  # sentences
    ],
)
def test_a_suite_without_labels_has_no_accuracy(references):
    answers = [served("a", reference) for reference in references]
    assert labels_of([one.question for one in answers]) == ()
    assert [value(name, answers) for name in ("accuracy", "macro_f1", "auc")] == [None] * 3


def test_speed_is_read_from_the_runtimes_own_clock():
    told = timings(
        Answer(text="a", done=True, total_seconds=3.0, load_seconds=1.0, answer_seconds=1.5, answer_tokens=30)
    )  # fmt: skip
    assert told == {"seconds": 2.0, "writing": 1.5, "tokens": 30.0}
    assert timings(Answer(text="broken off")) == {}
    answers = [
        served("", seconds=2.0, writing=1.5, tokens=30),
        served("", seconds=4.0, writing=0.5, tokens=10),
        served("", seconds=9.0, writing=2.0, tokens=40),
        served(""),  # asked before times were kept
    ]
    assert value("latency", answers) == 4.0
    assert value("tokens_per_second", answers) == 80 / 4
    assert value("latency", answers[3:]) is None
    assert value("tokens_per_second", answers[3:]) is None


def test_loss_and_perplexity_are_over_all_tokens_of_all_references():
    answers = [served("", likelihood=(-2.0, 1)), served("", likelihood=(-4.0, 3)), served("")]
    assert value("loss", answers) == 6 / 4
    assert value("perplexity", answers) == pytest.approx(math.exp(1.5))
    assert value("perplexity", answers[2:]) is None


def test_chances_of_labels_sum_to_one():
    assert share_out({"a": math.log(0.02), "b": math.log(0.06)}) == pytest.approx(
        {"a": 0.25, "b": 0.75}
    )
    assert share_out({"a": -5000.0, "b": -5000.0}) == {"a": 0.5, "b": 0.5}  # too small for exp
