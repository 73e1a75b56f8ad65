import numpy as np
import pytest

from ollama_ft.kinds import drift
from ollama_ft.kinds.decay import Rate, compare, due, relative_drop

ENGLISH = ["When do you open?", "when do you open", "Can I get a refund?"]


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_mmd_is_the_formula_and_p_counts_permutations():
    now, before = np.array([[1, 0], [1, 0]], np.float32), np.array([[0, 1], [0, 1]], np.float32)
    apart, p = drift.mmd_test(now, before, permutations=199)
    assert apart == pytest.approx(1 + 1 - 2 * np.exp(-4), abs=1e-6)
    assert p == pytest.approx(1 / 3, abs=0.12)  # two of the six ways to choose two of four


def test_the_two_sample_test_has_the_false_alarms_it_promises_and_sees_a_shift():
    rng = np.random.default_rng(1)
    ps = []
    for trial in range(100):
        both = unit(rng.normal(size=(40, 8)))
        ps.append(drift.mmd_test(both[:20], both[20:], permutations=199, seed=trial)[1])
    assert np.mean(np.array(ps) <= 0.05) <= 0.115  # 0.05 and three standard errors of 100 draws
    moved = unit(both[:20] + 1)
    assert drift.mmd_test(moved, both[20:], permutations=999)[1] == 0.001


@pytest.mark.parametrize(
    ("now", "before", "value"),
    [
        ([10, 10], [10, 10], 0.0),
        ([20, 0], [10, 10], 1.7684),  # 10/21 ln(20.5/10.5) + 10/21 ln(10.5/0.5)
    ],
)
def test_psi_by_hand(now, before, value):
    assert drift.psi(now, before) == pytest.approx(value, abs=1e-3)


def test_psi_of_small_samples_is_not_called_drift_by_size_alone():
    assert drift.psi_p(0.25, 30, 30, 10) > 0.3
    assert drift.psi_p(0.25, 500, 500, 10) < 1e-9


def test_bins_hold_equal_shares_and_ties_share_one():
    now, before = drift.histograms([1] * 50 + [2] * 50, [1] * 50 + [2] * 50)
    assert now == before and sum(now) == 100 and len(now) <= 3


def test_lexical_vectors_are_near_for_one_writing_and_far_for_another_in_every_script():
    a, b, c = drift.lexical_vectors(ENGLISH)
    assert a @ b > 0.8 > 0.4 > a @ c
    d, e, f = drift.lexical_vectors(["你们几点开门？", "请问你们几点开门", "我要退货"])
    assert d @ e > 0.5 > 0.2 > d @ f
    assert np.allclose(np.linalg.norm(drift.lexical_vectors(["", "x"]), axis=1), 1, atol=1e-5)


def test_one_in_twenty_of_what_is_like_the_training_is_called_unlike():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    edge = drift.unlike_below(rows[:200], rows[200:400])
    share = float((drift.nearest(rows[400:], rows[200:400]) < edge).mean())
    assert 0.01 <= share <= 0.12


@pytest.mark.parametrize(
    ("before", "now", "alarmed", "verdict"),
    [
        (Rate(good=180, of=200), Rate(good=120, of=200), False, "decayed"),
        (Rate(good=180, of=200), Rate(good=160, of=200), False, "steady"),  # 11 %: too small
        (Rate(good=27, of=30), Rate(good=22, of=30), False, "steady"),  # 19 %, but luck will do
        (Rate(good=27, of=29), Rate(good=2, of=400), False, "unknown"),
        (Rate(good=180, of=200), Rate(good=160, of=200), True, "decayed"),  # still above 7.5 %
        (Rate(good=180, of=200), Rate(good=170, of=200), True, "steady"),
        (Rate(good=0, of=50), Rate(good=0, of=50), False, "steady"),
        (Rate(good=50, of=50), Rate(good=0, of=50), False, "decayed"),
    ],
)
def test_decay_is_a_drop_that_matters_and_that_luck_does_not_explain(before, now, alarmed, verdict):
    assert compare(before, now, alarmed=alarmed).verdict == verdict


def test_relative_drop_by_hand():
    drop, low, high = relative_drop(Rate(good=80, of=100), Rate(good=40, of=100))
    assert drop == pytest.approx(0.5)
    # ratio of (40.5/100.5) to (80.5/100.5), exp(±1.96 sqrt(1/40.5 + 1/80.5 - 2/100.5))
    assert (low, high) == (pytest.approx(0.3488, abs=2e-3), pytest.approx(0.6113, abs=2e-3))


@pytest.mark.parametrize(
    ("new_rows", "days", "decayed", "why"),
    [(500, 0, False, "500"), (3, 8, False, "days"), (3, 1, True, "decayed"), (499, 6, False, "")],
)
def test_training_is_due_for_rows_or_time_or_decay(new_rows, days, decayed, why):
    said = due(new_rows, days, decayed, rows=500, every_days=7)
    assert (why in said) if why else said == ""
