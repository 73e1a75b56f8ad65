"""Paired statistics: two versions were asked the same questions; what of the difference is luck?

Pure functions over numbers. All tests are one-sided: p is how often luck alone would do at least as
well. Questions that belong together (phrasings of one fact) form a cluster, and clusters, not
questions, are what is drawn at random.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from math import ceil, sqrt

RESAMPLES = 9999
MOST = 100_000  # questions; who needs more than that needs another idea, not more questions


@cache
def mcnemar(gained: int, lost: int) -> float:
    """Exact p of `gained` or more among the questions whose outcome changed; 1.0 if none did.

    McNemar's test (Psychometrika 12:153, 1947) in its exact form: without a difference each
    change is a gain with probability 1/2, so gains are Binomial(gained + lost, 1/2).
    """
    from scipy.stats import binomtest

    changed = gained + lost
    if not changed:
        return 1.0
    return float(binomtest(gained, changed, alternative="greater").pvalue)


def cluster_mcnemar(net: Sequence[int]) -> float:
    """Exact p where questions come in clusters; `net` is gained minus lost for each cluster.

    Fisher's sign-flip test on cluster totals: without a difference a whole cluster is as likely
    to have gone the other way (exchangeable blocks, Winkler et al., NeuroImage 92:381, 2014).
    The distribution of the total is computed, not sampled. It is `mcnemar` where every cluster
    is one question.
    """
    import numpy as np

    steps = [abs(n) for n in net if n]
    if all(step == 1 for step in steps):
        return mcnemar(sum(n > 0 for n in net), sum(n < 0 for n in net))
    chances = np.ones(1)  # of the total being -reach, -reach + 2, …; place i is i - reach
    for step in steps:
        flip = np.zeros(2 * step + 1)
        flip[0] = flip[-1] = 0.5
        chances = np.convolve(chances, flip)
    return min(1.0, float(chances[sum(steps) + sum(net) :].sum()))


@cache
def score_interval(
    gained: float, lost: float, questions: float, alpha: float
) -> tuple[float, float]:
    """The difference (gained - lost) / questions with its bounds, each wrong with chance `alpha`.

    Tango's score interval for paired proportions (Statistics in Medicine 17:891, 1998). It
    stays honest where nothing changed: then its bounds are ±z² / (questions + z²).
    Counts may be fractions (see `effective`).
    """
    from scipy.stats import norm

    z = float(norm.isf(alpha))
    n, raw = questions, (gained - lost) / questions

    def distance(delta: float) -> float:
        # x12 = gained, x21 = lost; q is the likeliest share of losses if the difference is delta.
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        spread = sqrt(max(1e-300, n * (2 * q + delta * (1 - delta))))
        return (gained - lost - n * delta) / spread

    edge = 1 - 1e-12
    low = -1.0 if raw <= -edge else _root(lambda d: distance(d) - z, -edge, raw, -1.0)
    high = 1.0 if raw >= edge else _root(lambda d: distance(d) + z, raw, edge, 1.0)
    return low, high


def effective(net: Sequence[int], sizes: Sequence[int]) -> float:
    """By what to divide counts of questions before they are treated as independent (≥ 1).

    Kish's design effect (Survey Sampling, 1965, sec. 8.2): the variance of the mean change with
    whole clusters drawn, over that with single questions drawn. Where nothing changed it cannot
    be seen, and a cluster counts as one question. `net` and `sizes` are by cluster.
    """
    questions, clusters = sum(sizes), len(sizes)
    if clusters == questions:
        return 1.0
    changed = sum(abs(n) for n in net)
    if not changed or clusters < 2:
        return questions / clusters
    mean = sum(net) / questions
    single = changed - questions * mean * mean  # of a change of -1, 0 or 1, times the questions
    whole = sum((n - s * mean) ** 2 for n, s in zip(net, sizes, strict=True))
    if single <= 0:  # every question changed the same way
        return questions / clusters
    return max(1.0, whole * clusters / (clusters - 1) / single)


def by_cluster(values: Sequence[float], clusters: Sequence[Hashable]) -> list[tuple[float, int]]:
    """The sum of the values and their count for each cluster, in order of first appearance."""
    sums: defaultdict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster].append(value)
    return [(sum(found), len(found)) for found in sums.values()]


def bootstrap(
    differences: Sequence[float], clusters: Sequence[Hashable], alpha: float
) -> tuple[float, float, float]:
    """Bounds of the mean difference of paired scores, and p that there is no gain: (low, high, p).

    BCa bootstrap (Efron, JASA 82:171, 1987) by scipy, over whole clusters; each bound is wrong
    with chance `alpha`. p is the least alpha at which the lower bound is above 0, no less than
    1 / (RESAMPLES + 1). Same input, same figures. One cluster tells nothing: (-1, 1, 1).
    """
    import numpy as np
    from scipy import stats

    totals = by_cluster(differences, clusters)
    sums, sizes = (np.array(column, dtype=float) for column in zip(*totals, strict=True))
    mean = float(sums.sum() / sizes.sum())
    if len(totals) < 2:
        return -1.0, 1.0, 1.0
    if np.allclose(sums, mean * sizes):
        return mean, mean, 0.5 ** len(totals) if mean > 0 else 1.0

    def drawn(resampled: object, count: object, axis: int = -1) -> object:
        return np.sum(resampled, axis=axis) / np.sum(count, axis=axis)  # type: ignore[call-overload]

    shared = {"paired": True, "vectorized": True, "method": "BCa"}
    made = stats.bootstrap(
        (sums, sizes),
        drawn,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * alpha,
        rng=np.random.default_rng(0),
        **shared,
    )

    def lower(chance: float) -> float:
        again = stats.bootstrap(
            (sums, sizes),
            drawn,
            n_resamples=0,
            bootstrap_result=made,
            confidence_level=1 - chance,
            alternative="greater",
            **shared,
        )
        return float(again.confidence_interval.low)

    interval = made.confidence_interval
    return float(interval.low), float(interval.high), _least_alpha(lower)


def holm(chances: Sequence[float]) -> list[float]:
    """p-values adjusted for having asked several times, in the order given.

    Holm (Scandinavian Journal of Statistics 6:65, 1979): the k-th smallest of m is multiplied by
    m - k + 1 and is no smaller than those before it. Whatever is below alpha afterwards is
    significant, and the chance of one false gain among all is at most alpha.
    """
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    adjusted, floor = [1.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        floor = max(floor, min(1.0, chances[place] * (len(chances) - rank)))
        adjusted[place] = floor
    return adjusted


def questions_to_see_gain(
    difference: float, discordance: float, *, alpha: float, power: float
) -> int:
    """How many questions show a gain of `difference` with chance `power`, by exact McNemar.

    `discordance` is the share of questions whose outcome changes, at least the difference. The
    search begins below Connor's formula (Biometrics 43:207, 1987), which is close for
    many questions and too small for few, and goes on until the exact power is reached.
    """
    from scipy.stats import norm

    z_alpha, z_power = float(norm.isf(alpha)), float(norm.ppf(power))
    spread = z_power * sqrt(max(0.0, discordance - difference**2))
    formula = ((z_alpha * sqrt(discordance) + spread) / difference) ** 2
    low, high = max(1, ceil(formula / 2)), max(2, ceil(formula * 2))
    while high < MOST and mcnemar_power(high, difference, discordance, alpha) < power:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if mcnemar_power(middle, difference, discordance, alpha) >= power:
            high = middle
        else:
            low = middle + 1
    return min(high, MOST)


@cache
def mcnemar_power(questions: int, difference: float, discordance: float, alpha: float) -> float:
    """The chance that exact McNemar at `alpha` sees a true gain of `difference`.

    Changes are Binomial(questions, discordance); of those, gains are Binomial with probability
    (discordance + difference) / (2 · discordance). Both are summed over, nothing is approximated.
    """
    import numpy as np
    from scipy.stats import binom

    changed = np.arange(questions + 1)
    # The fewest gains that are significant among so many changes: P(X ≥ k) ≤ alpha.
    fewest = binom.isf(alpha, changed, 0.5) + 1
    share = min(1.0, (discordance + difference) / (2 * discordance))
    seen = binom.sf(fewest - 1, changed, share)
    return float(np.dot(binom.pmf(changed, questions, min(1.0, discordance)), seen))


def questions_to_exclude_loss(
    difference: float, discordance: float, margin: float, *, alpha: float, power: float
) -> int:
    """How many questions show, with chance `power`, that the loss is less than `margin`.

    n = (z_alpha + z_power)² · (discordance - difference²) / (difference + margin)², the usual
    normal formula for a paired difference (Lu and Bean, Statistics in Medicine 14:1831, 1995);
    never fewer than the score interval needs where nothing changes: z² (1 - margin) / margin.
    """
    from scipy.stats import norm

    z_alpha, z_power = float(norm.isf(alpha)), float(norm.ppf(power))
    room = difference + margin
    if room <= 0:
        return MOST
    formula = (z_alpha + z_power) ** 2 * max(0.0, discordance - difference**2) / room**2
    return min(MOST, ceil(max(formula, z_alpha**2 * (1 - margin) / margin)))


def _root(function: Callable[[float], float], low: float, high: float, otherwise: float) -> float:
    # No change of sign: the bound lies at the end of what is possible.
    from scipy.optimize import brentq

    if function(low) * function(high) > 0:
        return otherwise
    return float(brentq(function, low, high))


def _least_alpha(lower: Callable[[float], float]) -> float:
    # `lower` rises with alpha: halve until the alpha at which it crosses 0 is known to 0.1 %.
    small, large = 1 / (RESAMPLES + 1), 1 - 1e-6
    if lower(small) > 0:
        return small
    while large / small > 1.001:
        middle = sqrt(small * large)
        if lower(middle) > 0:
            large = middle
        else:
            small = middle
    return large
