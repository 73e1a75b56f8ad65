"""What a token is, in any script: the one place that metrics count words in."""

import unicodedata

from ollama_ft.core.conversation import fold


def tokens(text: str) -> list[str]:
    """The words of a text, folded; each Chinese, Japanese or Korean character is one token.

    Punctuation and symbols separate words and are no tokens themselves. Characters, not segmented
    words: a segmenter such as jieba needs a dictionary, cuts names and terms of a trade (what a
    family is taught) as its dictionary pleases, and cuts the same name differently in two
    sentences. CMRC 2018 (arXiv 1810.07366, sec. 4.1) and sacrebleu's `zh` take characters too.
    """
    spaced = []
    for character in fold(text):
        if is_cjk(character):
            spaced.append(f" {character} ")
        elif unicodedata.category(character)[0] in "LMN":
            spaced.append(character)
        else:
            spaced.append(" ")
    return "".join(spaced).split()


def is_cjk(character: str) -> bool:
    """Whether a character is written without spaces around words: Chinese, Japanese, Korean."""
    # Ideographs, kana and Hangul by their blocks; the extension planes 2 and 3 are ideographs.
    return (
        "\u3040" <= character <= "\u30ff"
        or "\u3400" <= character <= "\u9fff"
        or "\uac00" <= character <= "\ud7af"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )
