"""Has what people ask changed? Two samples compared; pure functions over numbers and texts."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import fold

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

PERMUTATIONS = 1999
WIDTH = 0.25  # of the kernel, in cosines: questions of one subject are near, others hardly
LEXICAL = 1024  # numbers of a lexical vector
GRAMS = (2, 3, 4)  # characters: words in English, words and pairs of them in Chinese
BINS = 10
PSI_LARGE = 0.25  # "a major shift": Siddiqi, Credit Risk Scorecards (2006), ch. 5
UNLIKE = 0.05  # of questions that are like the training, this share is called unlike it


@dataclass(frozen=True, kw_only=True)
class Found:
    """One comparison: how large, how likely by luck alone, and whether that is called drift."""

    name: str
    size: float
    p: float
    drifted: bool
    text: str


def mmd_test(
    now: "Array", before: "Array", *, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """The maximum mean discrepancy of two samples of vectors, (n, d) and (m, d), and its p.

    The vectors are of length 1, the kernel is exp((cos - 1) / WIDTH): a Gaussian on the sphere. The
    unbiased estimate of MMD² (Gretton et al., JMLR 13:723, 2012, eq. 3); around 0 = the same
    distribution. p is (1 + permutations at least as far apart) / (1 + permutations), which is never
    0 and never too small (Phipson and Smyth, SAGMB 9:39, 2010). The kernel is computed once.
    """
    import numpy as np

    both = np.concatenate([now, before]).astype(np.float64)
    near = np.exp((both @ both.T - 1) / WIDTH)  # (n + m, n + m)
    np.fill_diagonal(near, 0.0)
    n, m = len(now), len(before)
    sides = np.zeros((permutations + 1, n + m))  # 1 = taken for `now`
    sides[:, :n] = 1
    np.random.default_rng(seed).permuted(sides[1:], axis=1, out=sides[1:])
    within_now = np.einsum("ij,ij->i", sides @ near, sides)
    across = sides @ near.sum(axis=1) - within_now
    within_before = near.sum() - 2 * across - within_now
    apart = within_now / (n * (n - 1)) + within_before / (m * (m - 1)) - 2 * across / (n * m)
    # Sums of the same numbers in another order differ in their last digits.
    as_far = int((apart[1:] >= apart[0] - 1e-9).sum())
    return float(apart[0]), (1 + as_far) / (1 + permutations)


def nearest(vectors: "Array", known: "Array", *, but_itself: bool = False) -> "Array":
    """Cosine of each vector (n, d) to the nearest of the known ones (m, d); all of length 1."""
    import numpy as np

    cosines = vectors @ known.T
    if but_itself:
        np.fill_diagonal(cosines, -1.0)
    best: Array = cosines.max(axis=1)
    return best


def unlike_below(held_out: "Array", known: "Array") -> float:
    """The cosine below which a question is unlike anything trained on.

    UNLIKE of the held-out questions, which are of the same kind as the trained ones but were not
    trained on, fall below it. Where none were held out, each trained one is left out in turn.
    """
    import numpy as np

    of = nearest(held_out, known) if len(held_out) else nearest(known, known, but_itself=True)
    return float(np.quantile(of, UNLIKE))


def more_often(now: int, n: int, before: int, m: int) -> float:
    """p of Fisher's exact test that a share of n is no larger than that of m."""
    from scipy.stats import fisher_exact

    table = [[now, n - now], [before, m - before]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def psi(now: Sequence[int], before: Sequence[int]) -> float:
    """The population stability index of two histograms with the same bins.

    Σ (q - p) ln(q / p), half a count added to each bin so that an empty one is not infinite.
    """
    import numpy as np

    q = (np.asarray(now) + 0.5) / (sum(now) + 0.5 * len(now))
    p = (np.asarray(before) + 0.5) / (sum(before) + 0.5 * len(before))
    return float(((q - p) * np.log(q / p)).sum())


def psi_p(value: float, n: int, m: int, bins: int) -> float:
    """How often a PSI is at least this large without any change.

    PSI / (1/n + 1/m) is χ² with bins - 1 degrees of freedom then (Yurdakul, Statistical Properties
    of the Population Stability Index, 2018).
    """
    from scipy.stats import chi2

    return float(chi2.sf(value / (1 / n + 1 / m), max(1, bins - 1)))


def histograms(
    now: Sequence[float], before: Sequence[float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both samples counted in bins that hold a tenth of both together each; ties share a bin."""
    import numpy as np

    both = np.concatenate([np.asarray(now, float), np.asarray(before, float)])
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = np.unique(np.quantile(both, inner, method="lower"))

    def count(sample: Sequence[float]) -> tuple[int, ...]:
        places = np.searchsorted(edges, np.asarray(sample, float), side="left")
        return tuple(int(c) for c in np.bincount(places, minlength=len(edges) + 1))

    return count(now), count(before)


def lexical_vectors(texts: Sequence[str]) -> "Array":
    """Vectors (texts, LEXICAL) of length 1 from the texts' letters alone, for want of a model.

    Character n-grams are hashed into places with a sign (Weinberger et al., Feature Hashing,
    ICML 2009), log-counted. Texts that share no writing are far apart, even if they mean the same.
    """
    import numpy as np

    rows = np.zeros((len(texts), LEXICAL), np.float32)
    for row, text in zip(rows, texts, strict=True):
        padded = f" {fold(text)} "
        for size in GRAMS:
            for start in range(max(1, len(padded) - size + 1)):
                hashed = zlib.crc32(padded[start : start + size].encode("utf-8", "surrogatepass"))
                row[hashed % LEXICAL] += 1 if hashed & 0x80000000 else -1
    rows = np.sign(rows) * np.log1p(np.abs(rows))
    made: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return made
