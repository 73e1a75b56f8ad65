"""How many tokens a text has for a BERT: WordPiece over the GGUF's own vocabulary."""

from collections.abc import Callable

from ollama_ft.core.errors import Unsupported
from ollama_ft.weights.reader import GGUF

_START = "▁"  # llama.cpp marks the start of a word, WordPiece its continuation
_SPECIALS = 2  # CLS and SEP around every text


def wordpiece_counter(gguf: GGUF) -> Callable[[str], int]:
    """A function from a text to its tokens, the two around it included.

    Raises Unsupported for another kind of tokenizer.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    if (model := gguf.text("tokenizer.ggml.model", "")) != "bert":
        raise Unsupported(f"{model!r} is no WordPiece tokenizer.")
    tokens = gguf.texts("tokenizer.ggml.tokens")
    unknown = tokens[gguf.whole("tokenizer.ggml.unknown_token_id", 100)]
    ids = {_spelled(token): at for at, token in enumerate(tokens)}
    engine = Tokenizer(models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=100))
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def count(text: str) -> int:
        return len(engine.encode(text, add_special_tokens=False).ids) + _SPECIALS

    return count


def _spelled(token: str) -> str:
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[1:] if token.startswith(_START) else f"##{token}"
