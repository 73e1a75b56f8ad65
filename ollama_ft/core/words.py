"""Words for SQLite's full-text index, in scripts with and without spaces between them.

FTS5 finds words by the spaces around them, and its trigram tokenizer finds nothing shorter than
three letters, though most Chinese words have two. So texts of such scripts go in as single
characters and overlapping pairs, as Lucene's CJK analyzer has it: 开门时间 becomes
开 门 时 间 开门 门时 时间. No dictionary is needed, and a name that none knows is found as well.
"""

import re
import unicodedata

TOKENIZER = "porter unicode61 remove_diacritics 2"  # English endings are cut, accents are dropped

# Han with its marks, kana, Hangul, Thai, Lao, Burmese, Khmer; then Han beyond the first plane.
_UNSPACED = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff]+"
)
_WORD = re.compile(r"\w+")


def to_index(text: str) -> str:
    """What the index is given for a text: its words, with spaces between them."""
    return _UNSPACED.sub(lambda run: f" {' '.join([*run[0], *_pairs(run[0])])} ", folded(text))


def to_ask(text: str) -> list[str]:
    """The words to look for, each once: whole words, then pairs, then single characters.

    A single one is found far more often and so weighs little in BM25, but 创立 and 创办 share one
    and no pair.
    """
    plain = folded(text)
    runs = _UNSPACED.findall(plain)
    pairs = [pair for run in runs for pair in _pairs(run)]
    return list(dict.fromkeys([*_WORD.findall(_UNSPACED.sub(" ", plain)), *pairs, *"".join(runs)]))


def match_any(terms: list[str]) -> str:
    """The FTS5 expression for texts with at least one of these terms."""
    return " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)


def folded(text: str) -> str:
    """One spelling for what means the same: full-width and half-width, upper and lower case."""
    return unicodedata.normalize("NFKC", text).casefold()


def is_unspaced(text: str) -> bool:
    """Whether most letters are of a script that puts no spaces between words."""
    letters = sum(map(str.isalpha, text))
    return 2 * sum(len(run) for run in _UNSPACED.findall(text)) > letters


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)]
