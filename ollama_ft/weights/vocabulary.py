"""The vocabulary inside a GGUF: its tokens, which of them are special, and which end an answer.

llama.cpp decides several things by a token's text, since files often mark them wrongly; the same
decisions are made here (its `llama_vocab::impl::load`), or training would cut texts differently
from the runtime that serves them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights.pretokenizers import PreTokenizer, pretokenizer
from ollama_ft.weights.reader import GGUF

# `tokenizer.ggml.token_type`
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_SPECIAL = (UNKNOWN, CONTROL, USER_DEFINED)

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")

# Texts that end an answer in any model that has them.
_ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
)
# Parts of fill-in-the-middle prompts: metadata names, then the texts to look for without them.
_FILL_IN = {
    ("fim_pre", "prefix"): (
        "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> <|code_prefix|> "
        "<|prefix|>"
    ),
    ("fim_suf", "suffix"): (
        "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> <|code_suffix|> "
        "<|suffix|>"
    ),
    ("fim_mid", "middle"): (
        "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> <|code_middle|> "
        "<|middle|>"
    ),
    ("fim_pad",): "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    ("fim_rep",): "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    ("fim_sep",): "<|file_sep|>",
}
_ENDING_FILL_IN = ("fim_pad", "fim_rep", "fim_sep")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a tokenizer needs to know of a GGUF."""

    tokens: list[str]
    ids: dict[str, int]
    kinds: list[int]  # as `tokenizer.ggml.token_type`, with llama.cpp's corrections
    special: tuple[int, ...]  # recognised inside texts, longest first
    strips_right: frozenset[int]  # special tokens that swallow the white space after them
    end_ids: frozenset[int]
    bos_id: int | None
    eos_id: int | None
    add_bos: bool
    add_eos: bool
    byte_level: bool  # byte-pair merging over GPT-2's byte alphabet; else SentencePiece
    pre: PreTokenizer


def read_vocabulary(gguf: GGUF) -> Vocabulary:
    """The file's vocabulary.

    Raises Unsupported for a kind of tokenizer that we do not have, BadWeights for contradictions.
    """
    model = gguf.text("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise Unsupported(f"tokenizers of the kind {model!r} are not supported (gpt2, llama are)")
    byte_level = model == "gpt2"
    pre = pretokenizer(gguf.text("tokenizer.ggml.pre", "default") if byte_level else "default")
    tokens, ids = _tokens(gguf)
    default = 11 if byte_level else 1  # llama.cpp's numbers where the file gives none
    bos = _id(gguf, ("bos",), len(tokens), default)
    eos = _id(gguf, ("eos",), len(tokens), default if byte_level else 2)
    kinds = _kinds(gguf, tokens)
    ends = _correct(gguf, ids, kinds) | ({eos} if eos is not None else set())
    special = [index for index, kind in enumerate(kinds) if kind in _SPECIAL]
    special.sort(key=lambda index: -len(tokens[index].encode()))
    return Vocabulary(
        tokens=tokens,
        ids=ids,
        kinds=kinds,
        special=tuple(special),
        strips_right=_strips_right(gguf, ids, special),
        end_ids=frozenset(ends),
        bos_id=bos if pre.has_bos or "tokenizer.ggml.bos_token_id" in gguf.metadata else None,
        eos_id=eos,
        add_bos=gguf.flag("tokenizer.ggml.add_bos_token", pre.adds_bos or not byte_level),
        add_eos=gguf.flag("tokenizer.ggml.add_eos_token", False),
        byte_level=byte_level,
        pre=pre,
    )


def _tokens(gguf: GGUF) -> tuple[list[str], dict[str, int]]:
    # llama.cpp ends a token at a zero byte, and its process if two tokens are the same.
    tokens = [token.partition("\0")[0] for token in gguf.texts("tokenizer.ggml.tokens")]
    tokens = [token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)]
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) != len(tokens) or not tokens:
        raise BadWeights(f"{gguf.path.name}: the vocabulary is empty or names a token twice")
    return tokens, ids


def _kinds(gguf: GGUF, tokens: list[str]) -> list[int]:
    count = len(tokens)
    if "tokenizer.ggml.token_type" not in gguf.metadata:
        return [NORMAL] * count
    kinds = gguf.wholes("tokenizer.ggml.token_type")
    if len(kinds) < count:
        raise BadWeights(f"{gguf.path.name}: {len(kinds)} token types for {count} tokens")
    kinds = kinds[:count]
    for index, kind in enumerate(kinds):
        if kind == BYTE and not _BYTE_TOKEN.fullmatch(tokens[index]):
            raise BadWeights(f"{gguf.path.name}: the token {tokens[index]!r} is called a byte")
    return kinds


def _id(gguf: GGUF, names: Iterable[str], count: int, default: int | None) -> int | None:
    """A special token's id: the file's where it is in range, else the default where that is."""
    for name in names:
        key = f"tokenizer.ggml.{name}_token_id"
        if key in gguf.metadata and 0 <= gguf.whole(key) < count:
            return gguf.whole(key)
    return default if default is not None and default < count else None


def _correct(gguf: GGUF, ids: dict[str, int], kinds: list[int]) -> set[int]:
    """Find the tokens that end an answer, and mark what looks like a control token as one."""
    ends = {ids[text] for text in _ENDS if text in ids}
    control = set(ends)
    for names, texts in _FILL_IN.items():
        found = _id(gguf, names, len(kinds), None)
        if found is None:
            found = next((ids[text] for text in texts.split() if text in ids), None)
            control |= {found} if found is not None else set()
        if found is not None and names[0] in _ENDING_FILL_IN:
            ends.add(found)
    for name in ("eot", "eom"):
        named = _id(gguf, (name,), len(kinds), None)
        ends |= {named} if named is not None else set()
    for index in control:
        kinds[index] = CONTROL
    return ends - _not_ends(ids, ends, kinds)


def _not_ends(ids: dict[str, int], ends: set[int], kinds: list[int]) -> set[int]:
    """The exceptions: dialects where a text of the list above means something else."""
    has = {text for text in _ENDS if text in ids}
    wrong: set[int] = set()
    for reasons, text, kind in (
        ({"<|return|>", "<|call|>"}, "<|end|>", USER_DEFINED),
        ({"<|calls|>", "<|flush|>"}, "<|end|>", USER_DEFINED),
        ({"<|tool_response>"}, "</s>", NORMAL),
    ):
        if reasons <= has and ids.get(text) in ends:
            wrong.add(ids[text])
            kinds[ids[text]] = kind
    return wrong


def _strips_right(gguf: GGUF, ids: dict[str, int], special: list[int]) -> frozenset[int]:
    # Phi-3's tokens swallow the white space after them; no file says so, its name must.
    name = gguf.text("general.name", "").lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    kept = {ids.get(text) for text in ("<unk>", "<s>", "<|endoftext|>")}
    return frozenset(index for index in special if index not in kept)
