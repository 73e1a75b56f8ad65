"""The gate's decision in words that need no statistics."""

from ollama_ft.kinds.gate import Finding, Ruling

CERTAIN = 1_000_000  # tries; beyond it nobody pictures the number


def headline(ruling: Ruling, after: str, before: str) -> str:
    """The verdict in one sentence."""
    if ruling.outcome == "pass":
        if not ruling.gained:
            return f"{after} is no worse than {before}."
        if not ruling.watched:
            return f"{after} is better than {before}. What else it may have lost was not asked."
        worse = [finding for finding in ruling.watched if finding.after < finding.before]
        if not worse:
            return f"{after} is better than {before}, and nothing else got worse."
        names = " and ".join(finding.name for finding in worse)
        return f"{after} is better than {before}. It lost some {names} answers, within what may be."
    told = {
        "flips": f"{after} gets questions wrong that must not be forgotten",
        "gain": f"{after} is no better than {before}",
    }
    if ruling.outcome == "fail":
        reasons = [told.get(name) or _lost(ruling, name, after, before) for name in ruling.because]
        return f"{'; '.join(reasons)}."
    further = [_further(name, count) for name, count in ruling.needed.items()]
    return f"Too few questions to tell whether {after} is better: {'; '.join(further)}."


def sentences(ruling: Ruling, after: str, before: str) -> list[str]:
    """What was found, one line for each set of questions."""
    lines = [_gain(finding, after, before) for finding in ruling.gains]
    lines += [_held(finding) for finding in ([ruling.old] if ruling.old else [])]
    lines += [_held(finding) for finding in ruling.watched]
    for flip in ruling.flips:
        end = (
            f"accepted: {flip.accepted}" if flip.accepted else f"accept it with --accept {flip.id}"
        )
        lines.append(f"must not be forgotten, now wrong: {flip.question} ({end})")
    return lines


def luck(chance: float) -> str:
    """How often luck alone does as well: "once in 4000 tries"."""
    if chance >= 0.5:
        return "at least every other time"
    tries = round(1 / chance) if chance else CERTAIN
    if tries >= CERTAIN:
        return "less than once in a million tries"
    exact = tries if tries < 100 else round(tries, 2 - len(str(tries)))
    return f"once in {exact} tries"


def _gain(finding: Finding, after: str, before: str) -> str:
    if not _counted(finding):
        start = (
            f"{finding.name}: {after} scores {finding.after / finding.questions:.3f}, "
            f"{before} {finding.before / finding.questions:.3f} on {finding.questions} questions"
        )
    else:
        start = f"{finding.name}: {after} answers {_more(finding, before)}"
        start += f" ({finding.gained} gained, {finding.lost} lost)"
    if finding.difference <= 0:
        return f"{start}."
    return f"{start}. Luck alone does that {luck(finding.luck)}."


def _counted(finding: Finding) -> bool:
    """Whether right answers were counted; else scores were added up."""
    return finding.before == round(finding.before) and finding.after == round(finding.after)


def _more(finding: Finding, before: str) -> str:
    difference = round(finding.after - finding.before)
    if difference == 0:
        return f"as many of {finding.questions} questions right as {before}"
    word = "more" if difference > 0 else "fewer"
    return f"{abs(difference)} {word} of {finding.questions} questions right than {before}"


def _held(finding: Finding) -> str:
    start = (
        f"{finding.name}: {finding.after:.0f} of {finding.questions} right, "
        f"before {finding.before:.0f}"
        if _counted(finding)
        else f"{finding.name}: {finding.after / finding.questions:.3f} on {finding.questions} "
        f"questions, before {finding.before / finding.questions:.3f}"
    )
    word = "no more than" if finding.no_worse else "up to"
    lost = f"{word} {_points(max(0.0, -finding.low))} of 100 lost"
    return f"{start}: {lost}, {_points(finding.margin)} may be.{_unended(finding)}"


def _unended(finding: Finding) -> str:
    # A base that rambles fails by the rule that answers must end, and hides what was forgotten.
    forgotten = finding.said_before - finding.said_after
    if finding.kind != "general" or forgotten <= finding.margin * finding.questions:
        return ""
    return (
        f" Take note: were answers allowed to go on, it would be {finding.said_after}, "
        f"before {finding.said_before}."
    )


def _points(share: float) -> str:
    return f"{100 * share:.0f}"


def _lost(ruling: Ruling, name: str, after: str, before: str) -> str:
    found = {f.name: f for f in (*ruling.gains, *ruling.watched)}
    if ruling.old:
        found[ruling.old.name] = ruling.old
    finding = found[name]
    if not _counted(finding):
        return (
            f"{after} scores {finding.after / finding.questions:.3f} on {finding.questions} "
            f"{_called(finding)}, {before} {finding.before / finding.questions:.3f}"
        )
    return (
        f"{after} answers {finding.before - finding.after:.0f} fewer of {finding.questions} "
        f"{_called(finding)} right ({finding.lost} lost, {finding.gained} gained)"
    )


def _called(finding: Finding) -> str:
    if finding.kind in ("general", "safety"):
        return f"{finding.kind} questions"
    return finding.name if finding.name.endswith("questions") else "questions"


def _further(name: str, count: int) -> str:
    asked = "question" if count == 1 else "questions"
    what = "of the same kind" if name == "gain" else f"{name.removesuffix(' questions')} {asked}"
    return f"{count} more {what} would be enough"
