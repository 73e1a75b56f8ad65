"""Words for SQLite's full-text index, in scripts with and without spaces between them.

FTS5 finds words by the spaces around them, and its trigram tokenizer finds nothing shorter than
three letters, though most Chinese words have two. So texts of such scripts go in as single
characters and overlapping pairs, as Lucene's CJK analyzer has it: 开门时间 becomes
开 门 时 间 开门 门时 时间. No dictionary is needed, and a name that none knows is found as well.

The log, where all words of a query must stand, keeps the pairs alone and in their order (`spaced`):
two characters are one token, more are a phrase of pairs, a single one is the beginning of a pair.
"""

import re
import unicodedata

TOKENIZER = "porter unicode61 remove_diacritics 2"  # English endings are cut, accents are dropped

# Thai, Lao, Burmese, Hangul, Khmer; Han with its marks, kana, bopomofo; Han beyond the first plane.
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u318f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_HAN = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff65\U00020000-\U0003ffff"
_WRAP = re.compile(rf"(?<=[{_HAN}])[ \t\r]*\n[ \t\r]*(?=[{_HAN}])")
_UNSPACED = re.compile(f"[{_DENSE}]+")
_PART = re.compile(rf"[{_DENSE}]+|[^\W{_DENSE}]+")
_WISH = re.compile(r'"([^"]*)"|(\S+)')
_WORD = re.compile(r"\w+")

# Letters and digits that are as wide as a Chinese character: ＡＰＩ２ → API2.
WIDE = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF10, 0xFF5B) if chr(wide).isalnum()}


def to_index(text: str) -> str:
    """What the index is given for a text: its words, with spaces between them."""
    plain = unwrapped(folded(text))
    return _UNSPACED.sub(lambda run: f" {' '.join([*run[0], *_pairs(run[0])])} ", plain)


def to_ask(text: str) -> list[str]:
    """The words to look for, each once: whole words, then pairs, then single characters.

    A single one is found far more often and so weighs little in BM25, but 创立 and 创办 share one
    and no pair.
    """
    plain = unwrapped(folded(text))
    runs = _UNSPACED.findall(plain)
    pairs = [pair for run in runs for pair in _pairs(run)]
    return list(dict.fromkeys([*_WORD.findall(_UNSPACED.sub(" ", plain)), *pairs, *"".join(runs)]))


def match_any(terms: list[str]) -> str:
    """The FTS5 expression for texts with at least one of these terms."""
    return " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)


def folded(text: str) -> str:
    """One spelling for what means the same: full-width and half-width, upper and lower case."""
    return unicodedata.normalize("NFKC", text).casefold()


def unwrapped(text: str) -> str:
    """The text without the line ends between two Chinese or Japanese characters or marks: where a
    line was full, a word may go on in the next one."""
    return _WRAP.sub("", text)


def without_halves(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which JSON can carry and no file."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_unspaced(text: str) -> bool:
    """Whether most letters are of a script that puts no spaces between words."""
    letters = sum(map(str.isalpha, text))
    return 2 * sum(len(run) for run in _UNSPACED.findall(text)) > letters


def spaced(text: str) -> str:
    """The text as it is indexed: dense runs as overlapping pairs, letters and digits of Chinese
    width as those of a keyboard, all else as it is."""
    return text if text.isascii() else in_pairs(text.translate(_NARROW))


def in_pairs(text: str) -> str:
    """The text with its dense runs as overlapping pairs."""
    return _UNSPACED.sub(_in_order, text)


def _in_order(match: re.Match[str]) -> str:
    run = match[0]
    return f" {' '.join(run[i : i + 2] for i in range(len(run)))} "


def match_query(wish: str) -> str:
    """The FTS5 query for what a person typed: all words, in any order; "…" is a phrase.

    A `*` at the end of a word stands for any ending. Nothing that is typed is an operator, so
    every wish is a valid query. "" if there is no word in it.
    """
    return " AND ".join(
        phrase
        for quoted, bare in _WISH.findall(wish.translate(_NARROW))
        if (phrase := _phrase(quoted or bare, open_end=bare.endswith("*")))
    )


def _phrase(text: str, *, open_end: bool) -> str:
    tokens: list[str] = []
    for part in _PART.findall(text):
        if _UNSPACED.fullmatch(part):
            tokens += [part[i : i + 2] for i in range(max(1, len(part) - 1))]
            single = len(part) == 1
        else:
            tokens.append(part)
            single = False
    if not tokens:
        return ""
    return f'"{" ".join(tokens)}"' + ("*" if open_end or single else "")


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)]
