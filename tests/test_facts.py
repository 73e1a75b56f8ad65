"""What a GGUF's header says, as the API tells it."""

from pathlib import Path

import pytest

from ollama_ft.runtime.embedded.facts import human_count, read_facts, read_lists


@pytest.mark.parametrize(
    ("number", "text"),
    [(134_515_008, "134.52M"), (22_565_376, "22.57M"), (7_000_000_000, "7B"), (1_543_714_304, "1.5B"),
     (1_000_000, "1M"), (12_345, "12K"), (999, "999")],
)  # fmt: skip
def test_parameters_are_counted_as_ollama_prints_them(number: int, text: str) -> None:
    assert human_count(number) == text


@pytest.mark.slow
def test_the_facts_of_a_real_model(smollm2_gguf: Path, gemma3_gguf: Path) -> None:
    smol, gemma = read_facts(smollm2_gguf), read_facts(gemma3_gguf)
    assert (smol.architecture, smol.file_type, smol.context_length) == ("llama", "Q4_1", 8192)
    assert (smol.embedding_length, smol.parameters) == (576, 134_515_008)
    # 30 layers, 3 groups of heads, keys and values of 64 numbers, two bytes each.
    assert smol.cache_bytes == 30 * 3 * (64 + 64) * 2
    assert (smol.leading_token, gemma.leading_token) == ("", "<bos>")
    assert "<|im_start|>" in smol.chat_template
    assert smol.info["tokenizer.ggml.tokens"] is None
    assert "tokenizer.chat_template" not in smol.info
    assert len(read_lists(smollm2_gguf)["tokenizer.ggml.tokens"]) == 49152  # type: ignore[arg-type]
    assert not smol.is_encoder
