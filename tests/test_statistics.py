import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from ollama_ft.kinds.statistics import (
    bootstrap,
    by_cluster,
    cluster_mcnemar,
    effective,
    holm,
    mcnemar,
    mcnemar_power,
    questions_to_exclude_loss,
    questions_to_see_gain,
    score_interval,
)


@pytest.mark.parametrize(
    ("gained", "lost", "chance"),
    [
        (0, 0, 1.0),
        (5, 0, 1 / 32),
        (0, 5, 1.0),
        (4, 1, 6 / 32),  # C(5,4) + C(5,5)
        (14, 2, (120 + 16 + 1) / 2**16),
    ],
)
def test_exact_mcnemar_is_the_upper_tail_of_fair_coins(gained, lost, chance):
    assert mcnemar(gained, lost) == pytest.approx(chance)


def test_the_clustered_test_counts_the_ways_in_which_whole_clusters_could_have_flipped():
    # ±2 ±2 ±1: of the eight totals 5, 3, 1, 1, -1, -1, -3, -5 only 5 and 3 are at least 3.
    assert cluster_mcnemar([2, 2, -1]) == pytest.approx(2 / 8)
    assert cluster_mcnemar([2] * 5) == pytest.approx(1 / 32), "ten questions, but five facts"
    assert cluster_mcnemar([]) == cluster_mcnemar([0, 0]) == 1.0
    assert cluster_mcnemar([1] * 7 + [-1] * 2 + [0] * 9) == mcnemar(7, 2)


def test_the_clustered_test_equals_listing_all_flips():
    net = [3, -1, 2, 1, -2, 1]
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(net))).reshape(len(net), -1)
    totals = np.abs(net) @ signs
    assert cluster_mcnemar(net) == pytest.approx(np.mean(totals >= sum(net)))


def test_the_score_interval_has_its_closed_form_where_nothing_changed():
    z2 = stats.norm.isf(0.05) ** 2
    low, high = score_interval(0, 0, 40, 0.05)
    assert (low, high) == pytest.approx((-z2 / (40 + z2), z2 / (40 + z2)))
    assert score_interval(3, 0, 3, 0.05)[1] == 1.0
    assert score_interval(0, 3, 3, 0.05)[0] == -1.0


def likeliest_losses(gained, lost, n, delta):
    """The share of losses that maximises the multinomial likelihood under a true difference."""

    def minus_log(q):
        other = 1 - 2 * q - delta
        parts = [(gained, q + delta), (lost, q), (n - gained - lost, other)]
        return -sum(count * math.log(max(share, 1e-300)) for count, share in parts if count)

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    return minimize_scalar(minus_log, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x


@pytest.mark.parametrize(("gained", "lost", "n"), [(14, 2, 120), (3, 5, 40), (1, 9, 30)])
def test_the_bounds_of_the_score_interval_are_where_the_score_is_z(gained, lost, n):
    for bound, sign in zip(score_interval(gained, lost, n, 0.05), (1, -1), strict=True):
        q = likeliest_losses(gained, lost, n, bound)
        spread = math.sqrt(n * (2 * q + bound * (1 - bound)))
        score = (gained - lost - n * bound) / spread
        assert score == pytest.approx(sign * stats.norm.isf(0.05), abs=1e-3)


def test_a_cluster_weighs_as_much_as_its_questions_agree():
    assert effective([1, 0, -1], [1, 1, 1]) == 1.0
    assert effective([0, 0], [3, 3]) == 3.0, "nothing changed: a cluster counts as one"
    # Six clusters of two that always change together: twice the variance, n / (n - 1) of it.
    assert effective([2, -2, 2, -2, 0, 0], [2] * 6) == pytest.approx(2 * 6 / 5)
    assert effective([1, 1, 1, 1], [2] * 4) == 1.0, "spread evenly: no less than alone"


def test_scores_are_bounded_by_resampling_whole_clusters():
    rng = np.random.default_rng(1)
    facts = rng.normal(0.1, 0.2, 30)
    alone = bootstrap(list(facts), range(30), 0.05)
    copied = bootstrap(list(np.repeat(facts, 4)), [n // 4 for n in range(120)], 0.05)
    assert copied == pytest.approx(alone), "four copies of a question tell no more than one"
    low, high, luck = alone
    assert low < facts.mean() < high
    t_low, t_high = stats.t.interval(0.9, 29, facts.mean(), stats.sem(facts))
    assert (low, high) == pytest.approx((t_low, t_high), abs=0.03)
    assert luck == pytest.approx(
        stats.ttest_1samp(facts, 0, alternative="greater").pvalue, abs=0.02
    )


def test_scores_that_do_not_vary_need_no_resampling():
    assert bootstrap([0.5, 0.5, 0.5], "abc", 0.05) == (0.5, 0.5, 1 / 8)
    assert bootstrap([0.0, 0.0], "ab", 0.05) == (0.0, 0.0, 1.0)
    assert bootstrap([0.5, 0.1], "aa", 0.05) == (-1.0, 1.0, 1.0)


def test_by_cluster_sums_in_order_of_appearance():
    assert by_cluster([1, 2, 4], ["b", "a", "b"]) == [(5, 2), (2, 1)]


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]) == [0.2]
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_the_power_of_exact_mcnemar_is_summed_by_hand():
    # Five questions that all change, all gains: significant (1/32), always.
    assert mcnemar_power(5, 1.0, 1.0, 0.05) == pytest.approx(1.0)
    assert mcnemar_power(4, 1.0, 1.0, 0.05) == 0.0  # 1/16 is not
    # Half of the questions change, each change is a gain with 3/4: five of five or none do.
    expected = sum(
        stats.binom.pmf(changed, 6, 0.5) * stats.binom.sf(changed - 1, changed, 0.75)
        for changed in (5, 6)
    )
    assert mcnemar_power(6, 0.25, 0.5, 0.05) == pytest.approx(expected)


@pytest.mark.parametrize(("gain", "changes"), [(0.5, 0.5), (0.1, 0.2), (0.05, 0.05), (0.1, 0.15)])
def test_so_many_questions_are_enough_and_not_many_fewer(gain, changes):
    n = questions_to_see_gain(gain, changes, alpha=0.05, power=0.8)
    assert mcnemar_power(n, gain, changes, 0.05) >= 0.8
    assert mcnemar_power(math.floor(0.9 * n) - 1, gain, changes, 0.05) < 0.8


def test_so_many_questions_exclude_a_loss():
    # (1.645 + 0.842)² · 0.15 / 0.1² = 92.7
    assert questions_to_exclude_loss(0, 0.15, 0.1, alpha=0.05, power=0.8) == 93
    # 1.645² · 0.9 / 0.1 = 24.4: then even the interval without any change is within the margin.
    n = questions_to_exclude_loss(0, 0, 0.1, alpha=0.05, power=0.8)
    assert n == 25
    assert score_interval(0, 0, n, 0.05)[0] > -0.1 > score_interval(0, 0, n - 1, 0.05)[0]
