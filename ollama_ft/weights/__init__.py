"""The weights room: GGUF files in, transformers models and tokenizers out, and LoRA both ways."""
