"""Toy vocabularies whose tokens cross every boundary, in GGUFs that llama.cpp can load.

Their merges are learnt without any splitting into words, so that a pre-tokenizer that cuts one
character differently from llama.cpp's gives other ids.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.tiny import byte_alphabet, finish

SPACE = "\u2581"
HARD_TEXTS: list[str] = json.loads((Path(__file__).parent / "data/hard_texts.json").read_text())
_BITS = [
    "'s",
    "'LL",
    "'Re",
    " 123",
    "\r\n",
    "  ",
    "...",
    "/\n",
    "ſ",
    "É",
    "1a",
    "Ab",
    "aB",
    "AB",
    "。",
]
_PLANES = (0x2FF, 0x3FFF, 0xFFFF, 0x1FFFF, 0x10FFFF)


def mixed_texts(count: int, seed: int = 5) -> list[str]:
    """Random mixtures of the hard texts, awkward pieces and characters from all of Unicode."""
    choose = random.Random(seed)
    letters = "".join(HARD_TEXTS)

    def piece() -> str:
        kind = choose.randrange(5)
        if kind == 0:
            return choose.choice(letters)
        if kind == 1:
            return choose.choice(" \n\r\t'0aA.-")
        if kind == 2:
            return choose.choice(HARD_TEXTS)[: choose.randint(1, 6)]
        if kind == 3:
            return choose.choice(_BITS)
        code = choose.randint(1, choose.choice(_PLANES))
        return "" if 0xD800 <= code < 0xE000 else chr(code)

    return ["".join(piece() for _ in range(choose.randint(1, 20))) for _ in range(count)]


def byte_level(path: Path, pre: str, texts: Sequence[str], size: int = 4000) -> Path:
    """A byte-level vocabulary learnt on the texts, with that pre-tokenizer's name."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=byte_alphabet(), show_progress=False, max_token_length=24
    )
    tokenizer.train_from_iterator([text for text in texts for _ in range(2)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer = shell(path, len(tokens) + 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*tokens, "<|toy-begin|>", "<|toy-end|>"])
    writer.add_token_types([1] * len(tokens) + [3, 3])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(len(tokens))
    writer.add_eos_token_id(len(tokens) + 1)
    return finish(writer, path)


def sentence_piece(path: Path, texts: Sequence[str], *, prefix: bool, name: str = "toy") -> Path:
    """A SentencePiece vocabulary of random pieces of the texts with random, often equal, scores."""
    choose = random.Random(1)
    user = ["<|endoftext|>", "<|user|>", "<|end|>", "<|user|>x", "\n\n", "\t\t\t"]
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *user]
    pieces: dict[str, None] = {}
    for text in texts:
        text = text.replace(" ", SPACE).replace("\0", "")
        for _ in range(12):
            start = choose.randrange(max(1, len(text)))
            whole = text[start : start + choose.randint(1, 7)]
            pieces.update({whole[:end]: None for end in range(1, len(whole) + 1)})
    normal = [piece for piece in pieces if piece not in fixed]
    scores = [choose.choice([-1.0, -2.5, -3.0, -7.25, -100.0]) for _ in normal]
    writer = shell(path, len(fixed) + len(normal), name)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*fixed, *normal])
    writer.add_token_scores([0.0] * 259 + [-1000.0] * len(user) + scores)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [4] * len(user) + [1] * len(normal))
    writer.add_add_space_prefix(prefix)
    return finish(writer, path)


def shell(path: Path, tokens: int, name: str = "toy") -> gguf.GGUFWriter:
    """A llama with one layer of zeros, which is all that a tokenizer needs around it."""
    width = 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    square = np.zeros((width, width), np.float32)
    for leaf in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{leaf}.weight", square)
    for leaf in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{leaf}.weight", square[0])
    writer.add_tensor("token_embd.weight", np.zeros((tokens, width), np.float32))
    return writer
