"""How text is cut into words before byte-pair merging, by the name in `tokenizer.ggml.pre`.

The names, and which patterns each stands for, are llama.cpp's (`src/llama-vocab.cpp`); the patterns
themselves come from the models' own tokenizers. Patterns of one name apply one after the other,
each inside the pieces that the one before has left; what a pattern does not match stays a piece of
its own. They are written for Oniguruma, which the `tokenizers` library uses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ollama_ft.core.errors import Unsupported


@dataclass(frozen=True, kw_only=True)
class PreTokenizer:
    """What the name stands for."""

    patterns: tuple[str, ...]
    whole_words: bool = False  # a word that is a token is taken before any merging
    adds_bos: bool = False  # unless the file says otherwise
    has_bos: bool = True


def pretokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer of that name; Unsupported, naming it, if there is none."""
    if name not in _BY_NAME:
        raise Unsupported(
            f"the pre-tokenizer {name!r} is not known; texts would be cut into other tokens than "
            "the runtime's"
        )
    return _BY_NAME[name]


# Characters that Unicode 16 added. Oniguruma knows them; llama.cpp's tables are those of Unicode
# 15.1, where they belong to no class.
_TOO_YOUNG = (
    "897 1b4e-1b4f 1b7f 1c89-1c8a 2427-2429 31e4-31e5 a7cb-a7cd a7da-a7dc 105c0-105f3 10d40-10d65 "
    "10d69-10d85 10d8e-10d8f 10ec2-10ec4 10efc 11380-11389 1138b 1138e 11390-113b5 113b7-113c0 "
    "113c2 113c5 113c7-113ca 113cc-113d5 113d7-113d8 113e1-113e2 116d0-116e3 11bc0-11be1 "
    "11bf0-11bf9 11f5a 13460-143fa 16100-16139 16d40-16d79 18cff 1cc00-1ccf9 1cd00-1ceb3 "
    "1e5d0-1e5fa 1e5ff 1f8b2-1f8bb 1f8c0-1f8c1 1fa89 1fa8f 1fabe 1fac6 1fadc 1fadf 1fae9 "
    "1fbcb-1fbef"
)
_CLASS = re.compile(r"\\p\{([A-Z])\}")


def _as_llama_cpp_classes(pattern: str) -> str:
    young = re.sub(r"(\w+)", r"\\x{\1}", _TOO_YOUNG).replace(" ", "")
    return _CLASS.sub(lambda found: rf"[{found[0]}&&[^{young}]]", pattern)


_CONTRACTIONS = "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
_LINE_ENDS = r"\s*[\r\n]+"
_SPACES = r"\s+(?!\S)|\s+"
_MARKS_TO_LINE_END = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"

_GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_SPACES}"
_ONE_DIGIT = r"\p{N}"
_UP_TO_3_DIGITS = r"\p{N}{1,3}"


def _modern(digits: str, start: str = f"{_CONTRACTIONS}|") -> str:
    return f"{start}{_WORD}|{digits}|{_MARKS_TO_LINE_END}|{_LINE_ENDS}|{_SPACES}"


# Words by case, as tiktoken's newer patterns have them. llama.cpp counts every letter beyond ASCII
# as both upper and lower case.
_UPPER, _LOWER = r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"
_LEAD = r"[^\r\n\p{L}\p{N}]?"


def _by_case(upper: str, lower: str, ending: str, digits: str) -> str:
    words = f"{_LEAD}{upper}*{lower}+{ending}|{_LEAD}{upper}+{lower}*{ending}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_LINE_ENDS}|{_SPACES}"


_LETTER_OR_MARK = r"[\p{L}\p{M}]"
_CJK_AND_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_LINE_ENDS}|{_SPACES}"
)
# llama.cpp blots out white space beyond ASCII before it looks for these ranges.
_CJK_AND_HANGUL = r"[\u0800-\u9fa5\uac00-\ud7ff&&[^\s]]+"
# The cased letters as DeepSeek's first tokenizer lists them (its own file, not a Unicode class).
_CASED_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ"
    "ὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮ"
    "ⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{_CASED_LETTERS}]+",
    r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3001-\u3002]+",
    r"\s+\z",
    _CJK_AND_HANGUL,
    r"\p{N}+",
)
_NOT_A_STOP = r" ?[^(\s|.,!?…。，、।۔،)]+"

_KINDS: Mapping[PreTokenizer, str] = {
    PreTokenizer(patterns=(r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")): "default",
    PreTokenizer(patterns=(_GPT2,)): (
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
        "jina-v1-en jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling exaone4"
    ),
    PreTokenizer(patterns=(_ONE_DIGIT, _GPT2)): (
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"
    ),
    PreTokenizer(patterns=(_modern(_UP_TO_3_DIGITS),), whole_words=True, adds_bos=True): (
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano"
    ),
    PreTokenizer(patterns=(_modern(_UP_TO_3_DIGITS),)): "dbrx smaug-bpe",
    PreTokenizer(patterns=(_modern(_UP_TO_3_DIGITS),), has_bos=False): "chatglm-bpe",
    PreTokenizer(patterns=(_modern(_UP_TO_3_DIGITS),), has_bos=False, whole_words=True): (
        "glm4 glm5"
    ),
    PreTokenizer(patterns=(_modern(_ONE_DIGIT),)): (
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2"
    ),
    PreTokenizer(patterns=(_modern(_ONE_DIGIT, start=""),)): "ufakzeka",
    PreTokenizer(patterns=(_UP_TO_3_DIGITS, _modern(r"\p{N}+")), whole_words=True): "minicpm5",
    PreTokenizer(
        patterns=(
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{_LETTER_OR_MARK}+|{_ONE_DIGIT}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_LINE_ENDS}|{_SPACES}",
        )
    ): "qwen35",
    PreTokenizer(
        patterns=(
            rf"{_CONTRACTIONS}|{_WORD}|{_ONE_DIGIT}| ?[^\s\p{{L}}\p{{N}}\r\n]+"
            rf"|{_LINE_ENDS}|{_SPACES}",
        )
    ): "seed-coder",
    PreTokenizer(
        patterns=(
            rf"{_CONTRACTIONS}|{_WORD}|{_ONE_DIGIT}|{_MARKS_TO_LINE_END}|\s*[\r\n]|{_SPACES}",
        )
    ): "bailingmoe bailingmoe2 llada-moe",
    PreTokenizer(
        patterns=(_by_case(_UPPER, _LOWER, "", _ONE_DIGIT),), whole_words=True, adds_bos=True
    ): "tekken",
    PreTokenizer(
        patterns=(_by_case(_UPPER, _LOWER, f"(?:{_CONTRACTIONS})?", _UP_TO_3_DIGITS),)
    ): "gpt-4o llama4 kanana2 talkie minimax-m2",
    PreTokenizer(patterns=(_UP_TO_3_DIGITS, _CJK_AND_KANA, _DEEPSEEK_WORDS)): (
        "deepseek-v3 hunyuan-dense hy_v4 joyai-llm"
    ),
    PreTokenizer(patterns=_DEEPSEEK_LLM): "deepseek-llm",
    PreTokenizer(
        patterns=(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_AND_HANGUL, r"\p{N}")
    ): "deepseek-coder",
    PreTokenizer(patterns=(r"[\p{P}$+<=>^~|`]+", _GPT2, "[0-9][0-9][0-9]")): "falcon",
    PreTokenizer(patterns=(_NOT_A_STOP,)): "poro-chat bloom gpt3-finnish",
    PreTokenizer(patterns=(_NOT_A_STOP, _ONE_DIGIT)): "viking",
}
_BY_NAME = {
    name: replace(kind, patterns=tuple(map(_as_llama_cpp_classes, kind.patterns)))
    for kind, names in _KINDS.items()
    for name in names.split()
}

KNOWN: tuple[str, ...] = tuple(_BY_NAME)
"""The names that `pretokenizer` accepts."""
