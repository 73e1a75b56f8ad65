"""llama.cpp as the judge: token ids and next-token logits from the engine that serves."""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class Engine:
    """One llama.cpp server in this process, on one thread."""

    def __init__(self, model: Path, adapter: Path | None, context: int, exact: bool) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx = context
        params.n_parallel = 1
        params.port = 0
        params.warmup = False
        params.fit_params = False
        if exact:  # keys and values unrounded, attention computed as transformers does
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        if adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self.adapted = adapter is not None
        self.server = xllamacpp.Server(params)
        self.harmless = self.tokenize("A", add_special=False)[-1]

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """The ids of a text in which special tokens are recognised."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        request = urllib.request.Request(  # a loopback address of our own server
            f"{self.server.listening_address}/tokenize",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]

    def ends(self, token: int) -> bool:
        """Whether this token ends an answer: it is forced, and two tokens were asked for."""
        forced = [[token, 1e6]]
        body = {"prompt": [self.harmless], "n_predict": 2, "temperature": 0, "logit_bias": forced}
        answer = self._complete(body)
        return answer["choices"][0]["finish_reason"] == "stop"

    def next_logprobs(self, ids: Sequence[int], most: int, scale: float = 1.0) -> dict[int, float]:
        """log p of the `most` likeliest tokens after `ids`, before any sampling."""
        body = {
            "prompt": list(ids),
            "n_predict": 1,
            "n_probs": most,
            "temperature": 0,
            "post_sampling_probs": False,
            "cache_prompt": True,
            # An answer that ends at once, or in the middle of a character, comes without its logits:
            # so a harmless token is forced. The logits that are reported are those before that.
            "logit_bias": [[self.harmless, 1000.0]],
        }
        if self.adapted:
            body["lora"] = [{"id": 0, "scale": scale}]
        answer = self._complete(body)
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {entry["id"]: entry["logprob"] for entry in top}

    def _complete(self, body: dict[str, object]) -> Any:
        answer = self.server.handle_completions(body)
        return json.loads(answer) if isinstance(answer, str) else answer

    def logprobs(
        self, ids: Sequence[int], vocabulary: int, scale: float = 1.0
    ) -> npt.NDArray[np.float64]:
        """log p of every token at every position: (len(ids), vocabulary). For small vocabularies."""
        rows = np.full((len(ids), vocabulary), -np.inf)
        for end in range(1, len(ids) + 1):
            for token, value in self.next_logprobs(ids[:end], vocabulary, scale).items():
                rows[end - 1, token] = value
        return rows


@contextmanager
def engine(
    model: Path, *, adapter: Path | None = None, context: int = 1024, exact: bool = True
) -> Iterator[Engine]:
    """A running llama.cpp with this model, stopped afterwards."""
    running = Engine(model, adapter, context, exact)
    try:
        yield running
    finally:
        del running.server
