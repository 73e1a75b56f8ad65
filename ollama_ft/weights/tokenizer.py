"""A tokenizer from the GGUF alone, with llama.cpp's ids.

    tokenizer = load_tokenizer(gguf)
    ids = tokenizer.encode("<|im_start|>user\\nhi<|im_end|>")  # special tokens are recognised
    tokenizer.decode(ids)

Byte-pair merging is the `tokenizers` library's; what goes around it (special tokens, pre-tokenizer,
SentencePiece's merging) follows llama.cpp, not the library, since it is llama.cpp that serves.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import tokenizers
from tokenizers import Regex, models, pre_tokenizers

from ollama_ft.core.errors import BadWeights
from ollama_ft.core.words import without_halves
from ollama_ft.weights.reader import GGUF
from ollama_ft.weights.sentencepiece import SPACE, SentencePiece
from ollama_ft.weights.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    read_vocabulary,
)

_UNKNOWN = "\0"  # no token contains it: theirs end at a zero byte
_WHITE_SPACE = " \t\n\v\f\r"  # what C's isspace knows


def load_tokenizer(gguf: GGUF) -> "Tokenizer":
    """The tokenizer of a GGUF's vocabulary.

    Raises Unsupported naming a tokenizer or pre-tokenizer that we do not have, and BadWeights if
    the vocabulary contradicts itself.
    """
    vocabulary = read_vocabulary(gguf)
    if vocabulary.byte_level:
        return Tokenizer(vocabulary, _byte_pairs(gguf, vocabulary), space_prefix=False)
    scores = [0.0] * len(vocabulary.tokens)
    if "tokenizer.ggml.scores" in gguf.metadata:
        scores = gguf.reals("tokenizer.ggml.scores")
    if len(scores) < len(vocabulary.tokens):
        raise BadWeights(f"{gguf.path.name}: too few token scores")
    prefix = gguf.flag("tokenizer.ggml.add_space_prefix", True)
    return Tokenizer(vocabulary, SentencePiece(vocabulary.ids, scores).encode, space_prefix=prefix)


class Tokenizer:
    """Texts to ids and back, as llama.cpp does it. Safe to use from several threads."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        merge: Callable[[str], Sequence[int]],
        *,
        space_prefix: bool,
    ) -> None:
        self._vocabulary = vocabulary
        self._merge = merge
        self._space_prefix = space_prefix
        self._special = _by_start(vocabulary)
        self.bos_id = vocabulary.bos_id
        self.eos_id = vocabulary.eos_id
        self.end_ids = vocabulary.end_ids
        self.vocab_size = len(vocabulary.tokens)

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """The ids of a text in which special tokens are recognised by their texts.

        `add_bos=None` puts in front (and at the end) what the GGUF says; True puts the first token
        in front whatever it says; False adds nothing. Halves of characters become U+FFFD.
        """
        text = without_halves(text)
        known = self._vocabulary
        wanted = known.add_bos if add_bos is None else add_bos
        ids = [self.bos_id] if wanted and self.bos_id is not None else []
        after_special = True
        for part in self._parts(text):
            if isinstance(part, int):
                ids.append(part)
                after_special = True
                continue
            prefix = " " if self._space_prefix and after_special else ""
            ids.extend(self._merge(prefix + part))
            after_special = False
        if add_bos is None and known.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        """The text of these ids; without `special`, control tokens are left out.

        Bytes that are no UTF-8 become U+FFFD. Where the model prefixes texts with a space, the
        first one is taken off again, so that what was encoded comes back.
        """
        pieces = [
            self.piece_bytes(token)
            for token in ids
            if special or self._vocabulary.kinds[token] not in (CONTROL, UNKNOWN)
        ]
        text = b"".join(pieces).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._space_prefix else text

    def piece(self, token: int) -> str:
        """One token's text; U+FFFD where it is only a part of a character."""
        return self.piece_bytes(token).decode("utf-8", "replace")

    def piece_bytes(self, token: int) -> bytes:
        """One token's bytes, as the runtime sends them."""
        text, kind = self._vocabulary.tokens[token], self._vocabulary.kinds[token]
        if kind == BYTE:
            return bytes([int(text[3:5], 16)])
        if kind in (CONTROL, UNKNOWN, USER_DEFINED):
            return text.encode()
        if kind != NORMAL:
            return b""
        if not self._vocabulary.byte_level:
            return text.replace(SPACE, " ").encode()
        return b"".join(_BYTE_OF.get(letter) or letter.encode() for letter in text)

    def _parts(self, text: str) -> list[str | int]:
        """Texts and special ids in turn; longer special tokens are taken out first."""
        parts: list[str | int] = [text] if text else []
        for token in self._candidates(text):
            parts = [
                piece
                for part in parts
                for piece in ([part] if isinstance(part, int) else self._split(part, token))
            ]
        return parts

    def _candidates(self, text: str) -> list[int]:
        # Gemma has thousands of special tokens: look only for those whose beginning occurs at all.
        starts = {text[at : at + 2] for at in range(len(text))} | set(text)
        found = [
            (rank, token)
            for start in starts & self._special.keys()
            for rank, token in self._special[start]
            if self._vocabulary.tokens[token] in text
        ]
        return [token for _, token in sorted(found)]

    def _split(self, text: str, token: int) -> Iterator[str | int]:
        separator = self._vocabulary.tokens[token]
        start, at = 0, text.find(separator)
        while at != -1:
            if at > start:
                yield text[start:at]
            yield token
            start = at + len(separator)
            while (
                token in self._vocabulary.strips_right
                and start < len(text)
                and text[start] in _WHITE_SPACE
            ):
                start += 1
            at = text.find(separator, start)
        if start < len(text):
            yield text[start:]


def _by_start(vocabulary: Vocabulary) -> dict[str, list[tuple[int, int]]]:
    """Special tokens with their rank (longest first), by their first two characters."""
    table: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for rank, token in enumerate(vocabulary.special):
        table[vocabulary.tokens[token][:2]].append((rank, token))
    return dict(table)


def _byte_pairs(gguf: GGUF, vocabulary: Vocabulary) -> Callable[[str], Sequence[int]]:
    # The first space that is not the first character divides the two halves; of two equal lines the
    # first counts.
    merges: dict[tuple[str, str], None] = {}
    for line in gguf.texts("tokenizer.ggml.merges"):
        at = line.find(" ", 1)
        if at != -1:
            merges[line[:at], line[at + 1 :]] = None
    # A byte that the vocabulary lacks is dropped, but only after it has kept its neighbours apart.
    unknown = len(vocabulary.tokens)
    try:
        model = models.BPE(
            vocab=vocabulary.ids | {_UNKNOWN: unknown},
            merges=list(merges),
            unk_token=_UNKNOWN,
            ignore_merges=vocabulary.pre.whole_words,
        )
    except Exception as error:  # the library raises a bare Exception for a merge of unknown tokens
        reason = f"{gguf.path.name}: the merges do not fit the vocabulary: {error}"
        raise BadWeights(reason) from error
    engine = tokenizers.Tokenizer(model)
    steps: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in vocabulary.pre.patterns
    ]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    engine.pre_tokenizer = pre_tokenizers.Sequence(steps)

    def merge(text: str) -> Sequence[int]:
        ids: list[int] = engine.encode(text, add_special_tokens=False).ids
        return [token for token in ids if token != unknown] if unknown in ids else ids

    return merge


def _byte_alphabet() -> dict[str, bytes]:
    """GPT-2's letters for bytes: printable Latin-1 stands for itself, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    return letters | {chr(256 + index): bytes([byte]) for index, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()
