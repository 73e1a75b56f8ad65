"""What the trained model says, in plain PEFT and transformers: the truth for the proof.

    with open_reference(blob, adapter) as model:
        base = model.next_tokens(prompts, top=64, tuned=False)
        tuned = model.next_tokens(prompts, top=64, tuned=True)
        model.loss(tokens, tuned=True)

None of the trainer's own arithmetic is used here, so that the proof also covers that.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ollama_ft.core.errors import BadWeights, NotFound
from ollama_ft.kinds.trainers.machine import computing, find_device, only_exact
from ollama_ft.kinds.trainers.model import load_base
from ollama_ft.kinds.trainers.quiet import import_peft, quiet

Distribution = list[tuple[int, float]]  # (token id, natural-log probability), likeliest first

CONTEXT = 512  # tokens of a window when a long text is scored
HEAD_ROWS = 64  # positions whose logits are held at once


class Reference:
    """One loaded base and any number of adapters, in fp32."""

    def __init__(self, model: nn.Module, device: str) -> None:
        self._model = cast(Any, model)
        self._device = device

    def next_tokens(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        top: int = 64,
        tuned: bool = True,
        adapter: str = "default",
    ) -> list[Distribution]:
        """The `top` likeliest next tokens after each prompt, normalised over the vocabulary."""
        found = []
        with torch.no_grad(), self._speaking(tuned, adapter):
            for prompt in prompts:
                hidden = self._hidden(prompt)[-1:]
                logprobs = self._logits(hidden).log_softmax(-1)[0]
                values, ids = logprobs.topk(min(top, len(logprobs)))
                found.append(list(zip(ids.tolist(), values.tolist(), strict=True)))
        return found

    def loss(self, tokens: Sequence[int], *, tuned: bool = True, adapter: str = "default") -> float:
        """Mean negative log-likelihood of tokens[1:], nats; exp of it is the perplexity.

        Windows of 512 tokens, each scored with nothing before it but its own first token.
        """
        total, count = 0.0, 0
        with torch.no_grad(), self._speaking(tuned, adapter):
            for start in range(0, len(tokens) - 1, CONTEXT):
                window = list(tokens[start : start + CONTEXT + 1])
                hidden = self._hidden(window[:-1])
                answers = torch.tensor(window[1:], device=self._device)
                for part in range(0, len(answers), HEAD_ROWS):
                    logits = self._logits(hidden[part : part + HEAD_ROWS])
                    total += float(
                        nn.functional.cross_entropy(
                            logits, answers[part : part + HEAD_ROWS], reduction="sum"
                        )
                    )
                count += len(answers)
        return total / count

    def answer_logprob(
        self,
        prompt: Sequence[int],
        answer: Sequence[int],
        *,
        tuned: bool = True,
        adapter: str = "default",
    ) -> float:
        """log p of the tokens of `answer` after those of `prompt`, summed, in nats."""
        with torch.no_grad(), self._speaking(tuned, adapter):
            hidden = self._hidden([*prompt, *answer[:-1]])[len(prompt) - 1 :]  # (answer, width)
            total = 0.0
            for start in range(0, len(answer), HEAD_ROWS):
                said = torch.tensor(answer[start : start + HEAD_ROWS], device=self._device)
                logprobs = self._logits(hidden[start : start + HEAD_ROWS]).log_softmax(-1)
                total += float(logprobs.gather(1, said[:, None]).sum())
        return total

    def _hidden(self, tokens: Sequence[int]) -> Tensor:
        ids = torch.tensor([list(tokens)], device=self._device)
        decoder = self._causal().get_decoder()
        return cast(Tensor, decoder(input_ids=ids, use_cache=False).last_hidden_state[0])

    def _logits(self, hidden: Tensor) -> Tensor:
        causal = self._causal()
        logits = causal.get_output_embeddings()(hidden).float()
        cap = getattr(causal.config, "final_logit_softcapping", None)
        return cast(Tensor, logits if cap is None else torch.tanh(logits / cap) * cap)

    def _causal(self) -> Any:
        bare = not hasattr(self._model, "peft_config")
        return self._model if bare else self._model.get_base_model()

    @contextmanager
    def _speaking(self, tuned: bool, adapter: str) -> Iterator[None]:
        if not hasattr(self._model, "peft_config"):
            if tuned:
                raise NotFound("No adapter was given to this reference.")
            yield
        elif tuned:
            self._model.set_adapter(adapter)
            yield
        else:
            with self._model.disable_adapter():
                yield


@contextmanager
def open_reference(
    base: Path, adapter: Path | Mapping[str, Path] | None = None, *, device: str = "cpu"
) -> Iterator[Reference]:
    """Load the base once, with an adapter's folder, or several by name, or none.

    The first of several is named "default" if only one is given. Raises NotFound for a folder
    without an adapter, BadWeights for one that does not fit the base.
    """
    folders = {"default": adapter} if isinstance(adapter, Path) else dict(adapter or {})
    with quiet(), computing(only_exact(device)):
        model: nn.Module = load_base(base, "fp32", find_device(device))
        for name, folder in folders.items():
            model = _with_adapter(model, name, folder)
        yield Reference(model.eval(), device)


def _with_adapter(model: nn.Module, name: str, folder: Path) -> nn.Module:
    import_peft(bits=False)
    from peft import PeftModel

    # Only this file: PEFT would else take a pickle of the same stem, which is never loaded here.
    if not (folder / "adapter_model.safetensors").is_file():
        raise NotFound(f"{folder} holds no adapter_model.safetensors.")
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name)
            return cast(nn.Module, model)
        return cast(nn.Module, PeftModel.from_pretrained(cast(Any, model), str(folder), name))
    except (ValueError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise BadWeights(f"The adapter in {folder} does not fit the base: {reason}") from error


def reference(
    base: Path, adapters: Mapping[str, Path], prompts: Sequence[Sequence[int]], top: int = 64
) -> dict[str, list[Distribution]]:
    """Next-token distributions after each prompt: of "base", and of each adapter by name."""
    with open_reference(base, adapters) as model:
        said = {"base": model.next_tokens(prompts, top=top, tuned=False)}
        for name in adapters:
            said[name] = model.next_tokens(prompts, top=top, adapter=name)
    return said


def perplexity(base: Path, adapter: Path | None, tokens: Sequence[int]) -> float:
    """Perplexity of `tokens` under the base, or under the base with the adapter."""
    import math

    with open_reference(base, adapter) as model:
        return math.exp(model.loss(tokens, tuned=adapter is not None))
