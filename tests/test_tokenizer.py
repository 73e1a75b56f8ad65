"""Token ids: those of llama.cpp, on every text that is likely to go wrong."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import pytest

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights.pretokenizers import _KINDS, KNOWN
from ollama_ft.weights.reader import open_gguf
from ollama_ft.weights.tokenizer import Tokenizer, load_tokenizer
from tests.engine import Engine, engine
from tests.tiny import byte_alphabet, finish
from tests.toy_vocabularies import HARD_TEXTS, byte_level, mixed_texts, sentence_piece, shell

TEXTS = [*HARD_TEXTS, *mixed_texts(150)]


def loaded(path: Path) -> Tokenizer:
    with open_gguf(path) as file:
        return load_tokenizer(file)


def differences(ours: Tokenizer, judge: Engine, texts: Sequence[str]) -> list[str]:
    """The texts whose ids are not llama.cpp's, with or without what the model adds."""
    return [
        text
        for text in texts
        if ours.encode(text) != judge.tokenize(text)
        or ours.encode(text, add_bos=False) != judge.tokenize(text, add_special=False)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["smollm2_gguf", "gemma3_gguf"])
def test_ids_of_real_models_equal_llama_cpp_s_on_every_hard_text(
    model: str, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    path = request.getfixturevalue(model)
    ours = loaded(path)
    with engine(path, context=256) as judge:
        wrong = differences(ours, judge, TEXTS)
    record_property("equal", f"{len(TEXTS) - len(wrong)} of {len(TEXTS)}")
    assert not wrong


KINDS = {names.split()[0]: None for names in _KINDS.values()}


@pytest.mark.parametrize("pre", KINDS)
def test_each_pre_tokenizer_cuts_as_llama_cpp_s_does(pre: str, tmp_path: Path) -> None:
    path = byte_level(tmp_path / "toy.gguf", pre, TEXTS)
    with engine(path, context=256) as judge:
        assert not differences(loaded(path), judge, TEXTS)


def test_another_pre_tokenizer_would_be_noticed(tmp_path: Path) -> None:
    path = byte_level(tmp_path / "toy.gguf", "qwen2", TEXTS)
    other = loaded(byte_level(tmp_path / "other.gguf", "llama-bpe", TEXTS))
    with engine(path, context=256) as judge:
        assert len(differences(other, judge, TEXTS)) > 20


@pytest.mark.parametrize(
    ("prefix", "name"), [(True, "toy"), (False, "toy"), (True, "Phi-3 mini"), (False, "phi3")]
)
def test_sentence_piece_merges_as_llama_cpp_does(prefix: bool, name: str, tmp_path: Path) -> None:
    path = sentence_piece(tmp_path / "toy.gguf", TEXTS, prefix=prefix, name=name)
    texts = [
        *TEXTS,
        "<|user|> hi <|end|>\n x<|user|>x  <|user|>   x</s>  y<s>  z\t\t\t\t\t\t\n\n\n\n",
    ]
    with engine(path, context=256) as judge:
        assert not differences(loaded(path), judge, texts)


def test_bytes_without_a_token_keep_their_neighbours_apart(tmp_path: Path) -> None:
    """SmolLM2 lacks some; llama.cpp leaves them out, and does not merge what stood around them."""
    letters = [letter for letter in byte_alphabet() if letter not in "\u0104Q"]  # bytes 4 and Q
    tokens = [*letters, "<s>", "Ġ-", "\n"]
    path = tmp_path / "gaps.gguf"
    writer = shell(path, len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(letters) + [3, 1, 4])  # one special token of one letter
    writer.add_token_merges(["Ġ -"])
    finish(writer, path)
    with engine(path, context=256) as judge:
        assert not differences(loaded(path), judge, [" -", " \4-", "Q", "a Q-", "Q" * 9, "a\nb\n-"])
    assert loaded(path).encode(" \4-") == [tokens.index("Ġ"), tokens.index("-")]


def test_every_name_that_llama_cpp_gives_our_architectures_is_known() -> None:
    assert set(KNOWN) >= {
        *("default", "gpt-2", "smollm", "qwen2", "qwen35", "llama-bpe", "llama3", "tekken"),
        *("deepseek-llm", "deepseek-coder", "deepseek-r1-qwen", "deepseek-v3", "phi-2", "dbrx"),
        *("gpt-4o", "falcon", "falcon3", "starcoder", "refact", "command-r", "stablelm2"),
    }


def test_an_unknown_pre_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    path = byte_level(tmp_path / "toy.gguf", "martian-bpe", ["a"])
    with pytest.raises(Unsupported, match="martian-bpe"):
        loaded(path)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["smollm2_gguf", "gemma3_gguf"])
def test_what_is_encoded_comes_back(model: str, request: pytest.FixtureRequest) -> None:
    ours = loaded(request.getfixturevalue(model))
    # ▁ stands for a space inside Gemma's vocabulary, and SmolLM2's has no token for some rare bytes
    known = set(b"".join(map(ours.piece_bytes, range(ours.vocab_size))))
    odd = {text for text in TEXTS if "▁" in text or set(text.encode()) - known}
    assert len(odd) < len(TEXTS) / 10
    for text in set(TEXTS) - odd:
        ids = ours.encode(text, add_bos=False)
        assert ours.decode(ids) == text
        assert b"".join(map(ours.piece_bytes, ids)).decode() == text


@pytest.mark.parametrize("prefix", [True, False])
def test_a_space_put_in_front_is_taken_off_again(prefix: bool, tmp_path: Path) -> None:
    ours = loaded(sentence_piece(tmp_path / "toy.gguf", TEXTS, prefix=prefix))
    for text in ("hello world", " hello", "你好", "a\n b"):
        assert ours.decode(ours.encode(text, add_bos=False)) == text


def test_halves_of_characters_are_replaced_not_fatal(tmp_path: Path) -> None:
    for path in (
        byte_level(tmp_path / "toy.gguf", "qwen2", TEXTS),
        sentence_piece(tmp_path / "piece.gguf", TEXTS, prefix=False),
    ):
        ours = loaded(path)
        assert ours.encode("a\ud83d b \ude00") == ours.encode("a\ufffd b \ufffd")
        assert ours.encode("\ud83d\ude00") == ours.encode("😀")


def test_special_tokens_can_be_left_out_of_the_text(tmp_path: Path) -> None:
    ours = loaded(byte_level(tmp_path / "toy.gguf", "llama-bpe", TEXTS))
    ids = ours.encode("ab<|toy-end|>c")
    assert ids[0] == ours.bos_id and ours.eos_id in ids
    assert ours.decode(ids) == "<|toy-begin|>ab<|toy-end|>c"
    assert ours.decode(ids, special=False) == "abc"
    assert ours.piece(ours.eos_id) == "<|toy-end|>"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["smollm2_gguf", "gemma3_gguf"])
def test_the_tokens_that_end_an_answer_are_llama_cpp_s(
    model: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    ours = loaded(path)
    special = [
        t for t in range(ours.vocab_size) if ours.piece(t).startswith(("<|", "</", "<e", "<r"))
    ]
    with engine(path, context=256) as judge:
        ends = {token for token in special if judge.ends(token)}
    assert ours.end_ids == ends
    assert ours.eos_id in ends


def test_ends_are_found_by_metadata_and_by_text(tmp_path: Path) -> None:
    tokens = [
        *byte_alphabet(),
        "<s>",
        "<end_of_turn>",
        "<|eot_id|>",
        "<fim-pad>",
        "<x>",
        "<y>",
        "th",
    ]
    writer = gguf.GGUFWriter(tmp_path / "ends.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(tokens.index("<x>"))
    writer.add_eot_token_id(tokens.index("<y>"))
    ours = loaded(finish(writer, tmp_path / "ends.gguf"))
    wanted = {"<end_of_turn>", "<|eot_id|>", "<fim-pad>", "<x>", "<y>"}
    assert {tokens[token] for token in ours.end_ids} == wanted
    # looking like a control token makes it one, so it is recognised in texts
    assert ours.encode("a<|eot_id|>", add_bos=False)[-1] == tokens.index("<|eot_id|>")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "seconds"), [("smollm2_gguf", 0.5), ("gemma3_gguf", 1.5)])
def test_real_tokenizers_load_fast(
    model: str, seconds: float, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    taken = []
    for _ in range(3):
        start = time.process_time()
        loaded(path)
        taken.append(time.process_time() - start)
    assert min(taken) <= seconds


def test_threads_get_the_same_ids(tmp_path: Path) -> None:
    for path in (
        byte_level(tmp_path / "toy.gguf", "qwen2", TEXTS),
        sentence_piece(tmp_path / "piece.gguf", TEXTS, prefix=True),
    ):
        ours = loaded(path)
        other = loaded(path)
        alone = [other.encode(text) for text in TEXTS]
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(ours.encode, TEXTS * 4)) == alone * 4


BROKEN = {
    "a token twice": ({"tokens": ["a", "b", "a"]}, BadWeights, "twice"),
    "the same up to a zero byte": ({"tokens": ["a", "b", "a\0c"]}, BadWeights, "twice"),
    "no tokens": ({"tokens": []}, BadWeights, "empty|list of texts"),
    "too few types": ({"tokens": ["a", "b"], "types": [1]}, BadWeights, "token types"),
    "a byte that is none": ({"tokens": ["a", "<0x>"], "types": [1, 6]}, BadWeights, "a byte"),
    "merges of unknown tokens": ({"tokens": ["a", "b"], "merges": ["a c"]}, BadWeights, "merges"),
    "another kind": ({"tokens": ["a"], "model": "bert"}, Unsupported, "bert"),
    "too few scores": (
        {"tokens": ["a", "b"], "model": "llama", "scores": [1.0]},
        BadWeights,
        "scores",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_vocabulary_that_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    fields, kind, message = BROKEN[name]
    writer = gguf.GGUFWriter(tmp_path / "broken.gguf", "llama")
    writer.add_tokenizer_model(fields.get("model", "gpt2"))
    writer.add_tokenizer_pre("gpt-2")
    writer.add_array("tokenizer.ggml.tokens", fields["tokens"] or [0])
    if "types" in fields:
        writer.add_token_types(fields["types"])
    if "scores" in fields:
        writer.add_token_scores(fields["scores"])
    writer.add_array("tokenizer.ggml.merges", fields.get("merges", ["a b"]))
    path = finish(writer, tmp_path / "broken.gguf")
    with pytest.raises(kind, match=message):
        loaded(path)


def test_a_text_without_a_token_for_its_bytes_is_an_error(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "poor.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", "a"])
    path = finish(writer, tmp_path / "poor.gguf")
    with pytest.raises(BadWeights, match="byte 0xe2"):
        loaded(path).encode("a", add_bos=False)
