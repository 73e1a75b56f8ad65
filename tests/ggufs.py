"""Tiny GGUF files for tests that need a file and no answers."""

from pathlib import Path

import numpy as np

CHATML_JINJA = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_model(path: Path, *, jinja: str = "", seed: int = 0) -> Path:
    """A llama with 8 tokens and one layer's worth of nothing: enough to be a base."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_file_type(0)
    writer.add_context_length(64)
    writer.add_embedding_length(4)
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(8)])
    if jinja:
        writer.add_chat_template(jinja)
    values = np.random.default_rng(seed).standard_normal((8, 4)).astype(np.float32)
    writer.add_tensor("token_embd.weight", values)
    return _close(writer, path)


def write_adapter(path: Path, *, seed: int = 0) -> Path:
    """A LoRA of rank 2 on the token embedding of `write_model`: well-formed, of no use."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    rng = np.random.default_rng(seed)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", rng.standard_normal((2, 4)).astype(np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", rng.standard_normal((4, 2)).astype(np.float32))
    return _close(writer, path)


def _close(writer: object, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
