"""Words for full-text search, in every script: what SQLite's FTS5 indexes and is asked for.

FTS5's own tokenizers take a run of Chinese characters for one word, and its trigrams miss words of
two characters. So each run is written as overlapping pairs before it is indexed, 我要退货 as
"我要 要退 退货 货", and a query alike: two characters are one token, more are a phrase of pairs, a
single one is the beginning of a pair.
"""

import re

# Han, kana, hangul and bopomofo: scripts that are written without spaces, or whose words are so
# short that pairs find them better. Thai, Lao and Khmer are searched the same way.
_DENSE = (
    "\u0e00-\u0eff\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u3130-\u318f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U000323af"
)
_RUN = re.compile(f"[{_DENSE}]+")
_PART = re.compile(rf"[{_DENSE}]+|[^\W{_DENSE}]+")
_WISH = re.compile(r'"([^"]*)"|(\S+)')


def spaced(text: str) -> str:
    """The text as it is indexed: dense runs as overlapping pairs, all else as it is."""
    return text if text.isascii() else _RUN.sub(_pairs, text)


def _pairs(match: re.Match[str]) -> str:
    run = match[0]
    return f" {' '.join(run[i : i + 2] for i in range(len(run)))} "


def match_query(wish: str) -> str:
    """The FTS5 query for what a person typed: all words, in any order; "…" is a phrase.

    A `*` at the end of a word stands for any ending. Nothing that is typed is an operator, so
    every wish is a valid query. "" if there is no word in it.
    """
    return " AND ".join(
        phrase
        for quoted, bare in _WISH.findall(wish)
        if (phrase := _phrase(quoted or bare, open_end=bare.endswith("*")))
    )


def _phrase(text: str, *, open_end: bool) -> str:
    tokens: list[str] = []
    for part in _PART.findall(text):
        if _RUN.fullmatch(part):
            tokens += [part[i : i + 2] for i in range(max(1, len(part) - 1))]
            single = len(part) == 1
        else:
            tokens.append(part)
            single = False
    if not tokens:
        return ""
    return f'"{" ".join(tokens)}"' + ("*" if open_end or single else "")
