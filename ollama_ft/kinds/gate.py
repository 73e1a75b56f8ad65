"""The gate's decision: from two versions' results on the same questions to pass, fail or unclear.

A pure function over pairs. A version passes when at least one gain is shown and no loss is left
open:

    a gain     one of the family's own suites is answered better, or those of their questions that
               the live version was never taught (new or corrected rows); Holm over all of these
    no loss    what else it was taught, the general suites and the safety suites are, within the
               gate's margins, answered no worse; no must-not-forget question flips unaccepted

It fails when a loss is shown, or when there are enough questions to know that the gain is too small
to matter. Everything else is inconclusive, with the number of questions that would settle it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from ollama_ft.core.gates import GateRules
from ollama_ft.kinds import statistics

KINDS = ("domain", "general", "safety", "must-not-forget")
NEW, OLD = "new questions", "old questions"
WATCHED = ("general", "safety")  # kinds that only have to be no worse


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One question that both versions were asked; scores are the primary metric's, 0 to 1."""

    id: str  # the first digits of the question's digest: what --accept takes
    question: str
    cluster: str  # questions of one cluster stand or fall together
    right_before: bool
    right_after: bool
    score_before: float
    score_after: float
    new: bool = False  # the live version was not taught this answer
    said_before: bool = False  # the reference was said, though the answer may not have ended
    said_after: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One suite with its pairs."""

    name: str
    kind: str  # one of KINDS
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found on one set of questions. Shares are 0 to 1, `low` and `high` one-sided."""

    name: str
    kind: str
    questions: int
    before: float  # questions right, or the sum of the scores
    after: float
    gained: int
    lost: int
    low: float  # the least and the most that the difference can be, each but for chance alpha
    high: float
    luck: float  # how often luck alone would gain as much
    loss_luck: float  # how often luck alone would lose as much
    margin: float
    weight: float  # questions of these clusters that tell as much as one independent question
    said_before: int  # answers with the reference in them, those that did not end included
    said_after: int

    @property
    def difference(self) -> float:
        """After minus before, as a share."""
        return (self.after - self.before) / self.questions

    @property
    def no_worse(self) -> bool:
        """Whether the loss, if any, is within the margin."""
        return self.low >= -self.margin

    @property
    def discordance(self) -> float:
        """The share of questions whose outcome changed."""
        return (self.gained + self.lost) / self.questions


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A must-not-forget question that the live version answers right and the new one wrong."""

    id: str
    question: str
    accepted: str = ""  # the reason, if somebody accepted it


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """The decision with everything that it rests on."""

    outcome: str  # "pass" | "fail" | "inconclusive"
    gained: bool  # whether a gain is shown
    because: tuple[str, ...]  # names of the findings that decided against it; "flips" for those
    gains: tuple[Finding, ...]  # of which one has to be shown, with Holm-adjusted `luck`
    old: Finding | None  # what the live version was taught too; None if nothing or everything was
    watched: tuple[Finding, ...]  # suites that have to be no worse
    flips: tuple[Flip, ...]
    needed: Mapping[str, int] = field(default_factory=dict)  # finding → further questions


def decide(
    rules: GateRules, asked: Sequence[Asked], accepted: Mapping[str, str] | None = None
) -> Ruling:
    """Decide by the gate's rules. `accepted` names must-not-forget flips (id → reason).

    At least one domain suite must have a question.
    """
    domain = [one for one in asked if one.kind == "domain" and one.pairs]
    assert domain, "a version is judged by its own questions first"
    gains = [_examine(rules, one.name, one.kind, one.pairs) for one in domain]
    new = [pair for one in domain for pair in one.pairs if pair.new]
    old = [pair for one in domain for pair in one.pairs if not pair.new]
    if new and old:
        gains.append(_examine(rules, NEW, "domain", new))
    adjusted = statistics.holm([finding.luck for finding in gains])
    watched = [
        _examine(rules, kind, kind, pairs)
        for kind in WATCHED
        if (pairs := [pair for one in asked if one.kind == kind for pair in one.pairs])
    ]
    return _rule(
        rules,
        shown=[luck <= rules.alpha for luck in adjusted],
        gains=[replace(f, luck=luck) for f, luck in zip(gains, adjusted, strict=True)],
        old=_examine(rules, OLD, "domain", old) if new and old else None,
        watched=watched,
        flips=_flips(asked, accepted or {}),
    )


def _rule(
    rules: GateRules,
    *,
    shown: Sequence[bool],
    gains: Sequence[Finding],
    old: Finding | None,
    watched: Sequence[Finding],
    flips: Sequence[Flip],
) -> Ruling:
    gained = any(shown) or not rules.must_gain
    suites = [(f, ok) for f, ok in zip(gains, shown, strict=True) if f.name != NEW]
    # Where a suite as a whole gains, its old questions must only not be shown to be worse; where
    # only the new questions gain, the old ones must be shown to be no worse; where no gain is asked
    # for, everything must.
    if any(ok for _, ok in suites):
        must_hold = [f for f, ok in suites if not ok]
    elif rules.must_gain:
        must_hold = [old] if old is not None else []
    else:
        must_hold = [f for f, _ in suites]
    lossy = [f for f in (*gains, *watched, *([old] if old else [])) if _is_loss(rules, f)]
    failed = [f.name for f in lossy]
    failed += ["flips"] if any(not flip.accepted for flip in flips) else []
    if not gained and not failed and all(f.high < rules.least_gain for f in gains):
        failed = ["gain"]
    open_ones = [f for f in watched if not f.no_worse]
    open_ones += [f for f in must_hold if not f.no_worse] if gained else []
    unclear = [*(["gain"] if not gained else []), *(f.name for f in open_ones)]
    needed = {f.name: _to_exclude(rules, f) for f in open_ones}
    if not gained:
        needed["gain"] = min(_to_see(rules, f, len(gains)) for f in gains)
    outcome = "fail" if failed else "inconclusive" if unclear else "pass"
    return Ruling(
        outcome=outcome,
        gained=any(shown),
        because=tuple(dict.fromkeys(failed or unclear)),
        gains=tuple(gains),
        old=old,
        watched=tuple(watched),
        flips=tuple(flips),
        needed=needed if outcome == "inconclusive" else {},
    )


def _is_loss(rules: GateRules, finding: Finding) -> bool:
    """Whether a loss is shown, and not shown to be within the margin."""
    return finding.loss_luck <= rules.alpha and not finding.no_worse


def _examine(rules: GateRules, name: str, kind: str, pairs: Sequence[Pair]) -> Finding:
    changes = [pair.right_after - pair.right_before for pair in pairs]
    clusters = [pair.cluster for pair in pairs]
    totals = statistics.by_cluster(changes, clusters)
    net, sizes = [round(total) for total, _ in totals], [size for _, size in totals]
    weight = statistics.effective(net, sizes)
    gained, lost = changes.count(1), changes.count(-1)
    if kind == "domain" and rules.primary != "right":
        differences = [pair.score_after - pair.score_before for pair in pairs]
        low, high, luck = statistics.bootstrap(differences, clusters, rules.alpha)
        _, _, loss_luck = statistics.bootstrap([-d for d in differences], clusters, rules.alpha)
        before, after = sum(p.score_before for p in pairs), sum(p.score_after for p in pairs)
    else:
        low, high = statistics.score_interval(
            gained / weight, lost / weight, len(pairs) / weight, rules.alpha
        )
        luck = statistics.cluster_mcnemar(net)
        loss_luck = statistics.cluster_mcnemar([-n for n in net])
        before, after = sum(p.right_before for p in pairs), sum(p.right_after for p in pairs)
    return Finding(
        name=name,
        kind=kind,
        questions=len(pairs),
        before=before,
        after=after,
        gained=gained,
        lost=lost,
        low=low,
        high=high,
        luck=luck,
        loss_luck=loss_luck,
        margin=rules.margin(kind),
        weight=weight,
        said_before=sum(pair.said_before for pair in pairs),
        said_after=sum(pair.said_after for pair in pairs),
    )


def _flips(asked: Sequence[Asked], accepted: Mapping[str, str]) -> list[Flip]:
    return [
        Flip(id=pair.id, question=pair.question, accepted=accepted.get(pair.id, ""))
        for one in asked
        if one.kind == "must-not-forget"
        for pair in one.pairs
        if pair.right_before and not pair.right_after
    ]


def _to_see(rules: GateRules, finding: Finding, doors: int) -> int:
    """Further questions after which a gain like the one seen, or the least, would be shown."""
    gain = max(finding.difference, rules.least_gain)
    wanted = statistics.questions_to_see_gain(
        gain, max(finding.discordance, gain), alpha=rules.alpha / doors, power=rules.power
    )
    return max(1, ceil(wanted * finding.weight) - finding.questions)


def _to_exclude(rules: GateRules, finding: Finding) -> int:
    """Further questions after which a loss beyond the margin would be ruled out, or shown."""
    alpha, power, lost = rules.alpha, rules.power, -finding.difference
    spread = max(finding.discordance, abs(lost), 1 / finding.questions)
    if lost < finding.margin / 2:
        wanted = statistics.questions_to_exclude_loss(
            finding.difference, spread, finding.margin, alpha=alpha, power=power
        )
    else:  # more is lost than could soon be shown to be within the margin: show the loss
        wanted = statistics.questions_to_see_gain(lost, spread, alpha=alpha, power=power)
    return max(1, ceil(wanted * finding.weight) - finding.questions)
