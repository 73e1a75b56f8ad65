"""The base with its adapter, ready to score batches: built from the GGUF, PEFT's LoRA on top."""

import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ollama_ft.core.errors import BadInput
from ollama_ft.core.files import write_bytes
from ollama_ft.core.recipe import Recipe
from ollama_ft.kinds.trainers import attention
from ollama_ft.kinds.trainers.batching import Batch, PaddedBatch, make_batch, make_padded_batch
from ollama_ft.kinds.trainers.fused import fuse
from ollama_ft.kinds.trainers.head import answer_loss
from ollama_ft.kinds.trainers.job import Row
from ollama_ft.kinds.trainers.quiet import import_peft, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Largest relative difference of the packed loss from the plain padded one that rounding explains.
EXACT = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def load_base(path: Path, dtype: str, device: str) -> "PreTrainedModel":
    """The dequantised base, frozen, in `dtype` ("fp32" | "bf16" | "fp16" | "nf4")."""
    from ollama_ft.weights.architectures import load_model
    from ollama_ft.weights.reader import open_gguf

    compute = DTYPES.get(dtype, torch.float32)
    with open_gguf(path) as gguf:
        model = load_model(gguf, dtype=compute, device="cpu" if dtype == "nf4" else device)
    if dtype == "nf4":
        pack_nf4(model, compute, device)
    return model


def pack_nf4(model: "PreTrainedModel", compute: torch.dtype, device: str) -> None:
    """Replace the linear layers of the decoder by bitsandbytes' 4-bit ones, in place."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear or layer is model.get_output_embeddings():
            continue
        packed = Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=compute,
            quant_type="nf4",
            device="meta",
        )
        packed.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
        packed.bias = layer.bias
        # It would repack the weights for scoring, which not every shape survives, and which would
        # make scoring another arithmetic than training.
        packed.support_avx512bf16_for_cpu = False
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, packed.to(device))
    model.to(device)
    cast(Any, model).is_loaded_in_4bit = True  # how PEFT knows which layer class to wrap


def target_names(model: nn.Module, wanted: str | tuple[str, ...]) -> list[str]:
    """The linear layers that get an adapter, by the last part of their names, sorted.

    Raises BadInput naming a target that the base does not have, and the nearest that it has.
    """
    head = cast("PreTrainedModel", model).get_output_embeddings()
    found = {
        name.rpartition(".")[2]
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head
    }
    if isinstance(wanted, str):
        return sorted(found)
    for name in wanted:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BadInput(
                f"The base has no linear layer {name!r} to adapt; it has "
                f"{', '.join(sorted(found))}.{hint}",
                mend="ollama-ft train --set target_modules=all-linear",
            )
    return sorted(set(wanted))


def adapt(model: "PreTrainedModel", recipe: Recipe, seed: int, base_name: str) -> nn.Module:
    """Put a fresh LoRA on the base, drawn from `seed`: a PeftModel whose adapter is in fp32.

    Raises BadInput for targets that the base does not have.
    """
    import_peft(bits=hasattr(model, "is_loaded_in_4bit"))
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type,unused-ignore]  # a float works as well
        lora_dropout=recipe.dropout,
        target_modules=target_names(model, recipe.target_modules),
    )
    torch.manual_seed(seed)
    with quiet():
        adapted = get_peft_model(model, config)
    config.base_model_name_or_path = base_name
    return cast(nn.Module, adapted)


def adapter_parameters(adapted: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, in a fixed order."""
    return {name: p for name, p in sorted(adapted.named_parameters()) if p.requires_grad}


def save_adapter(adapted: nn.Module, weights: dict[str, Tensor], folder: Path) -> Path:
    """Write `weights` as PEFT's two files. The same weights give the same bytes."""
    from safetensors.torch import save

    config = cast(Any, adapted).peft_config["default"].to_dict()
    config = {key: _plain(value) for key, value in config.items()}
    config["inference_mode"] = True
    text = json.dumps(config, indent=2, sort_keys=True)
    write_bytes(folder / "adapter_config.json", text.encode())
    named = {
        name.replace(".default.weight", ".weight"): tensor.detach().cpu().contiguous()
        for name, tensor in weights.items()
    }
    write_bytes(folder / "adapter_model.safetensors", save(named, metadata={"format": "pt"}))
    return folder


def _plain(value: object) -> object:
    # Sets have no order of their own, and enums are no JSON.
    if isinstance(value, set | frozenset):
        return sorted(value)
    return getattr(value, "value", value)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What is to be said at answer places of a batch, and how much it counts."""

    at: Tensor | None = None  # which of the batch's answer places, (P,); None: all
    states: Tensor | None = None  # (P, width), a teacher's; None: the batch's own answer tokens
    weight: float = 1.0


class Scorer(nn.Module):
    """Scores batches: the sum of the negative log-likelihoods of all answer tokens, nats.

    Packed and fused where that was seen to say the same as the plain model, else padded and plain.
    """

    def __init__(self, adapted: nn.Module, rows: Sequence[Row]) -> None:
        super().__init__()
        self.adapted = adapted
        self.causal = cast("PreTrainedModel", cast(Any, adapted).get_base_model())
        self.decoder = cast(nn.Module, self.causal.get_decoder())
        self.embedding = cast(nn.Module, self.causal.get_input_embeddings())
        self.head = cast(nn.Module, self.causal.get_output_embeddings())
        self.softcap = getattr(self.causal.config, "final_logit_softcapping", None)
        self.packed = False
        self.why_padded = ""
        self._pack_if_exact(rows)

    @property
    def device(self) -> torch.device:
        """Where the frozen weights are."""
        return cast(torch.device, self.causal.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the head computes in."""
        return cast(torch.dtype, self.embedding.weight.dtype)

    @property
    def width(self) -> int:
        """Numbers in a hidden state."""
        return int(cast(Tensor, self.embedding.weight).shape[1])

    def batch(self, rows: Sequence[Row]) -> Batch | PaddedBatch:
        """`rows` as the tensors that forward takes."""
        make = make_batch if self.packed else make_padded_batch
        return make(rows, str(self.device))

    def forward(self, batch: Batch | PaddedBatch, said: Sequence[Said] = (Said(),)) -> Tensor:
        """The summed loss of the batch, that of each of `said` by its weight: a scalar, fp32."""
        states = self.states(batch)
        total = torch.zeros((), device=states.device)
        for one in said:
            total = total + one.weight * self._loss(states, batch.answers, one)
        return total

    def states(self, batch: Batch | PaddedBatch) -> Tensor:
        """Hidden states at the places that ask for an answer token: (A, width)."""
        return self._hidden(batch).flatten(0, 1).index_select(0, batch.asks)

    def _loss(self, states: Tensor, answers: Tensor, said: Said) -> Tensor:
        if said.at is not None:
            at = said.at.to(self.device)
            states, answers = states.index_select(0, at), answers.index_select(0, at)
        wanted = answers if said.states is None else said.states.to(self.device)
        return answer_loss(states, self.head, wanted, self.softcap)

    @contextmanager
    def bare(self) -> Iterator[None]:
        """The base alone while the block runs: all adapters count nothing."""
        scalings = [cast(Any, m).scaling for m in self.modules() if hasattr(m, "lora_A")]
        kept = [dict(scaling) for scaling in scalings]
        try:
            for scaling in scalings:
                scaling.update(dict.fromkeys(scaling, 0.0))
            yield
        finally:
            for scaling, before in zip(scalings, kept, strict=True):
                scaling.update(before)

    def _hidden(self, batch: Batch | PaddedBatch) -> Tensor:
        if isinstance(batch, PaddedBatch):
            out = self.decoder(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        else:
            out = self.decoder(
                # In fp32 whatever the weights are: sums over many layers need the digits.
                inputs_embeds=self.embedding(batch.ids).float(),
                position_ids=batch.positions,
                use_cache=False,
                batch=batch,
            )
        return cast(Tensor, out.last_hidden_state)

    def _pack_if_exact(self, rows: Sequence[Row]) -> None:
        shortest = sorted(rows, key=len)[:2]
        with torch.no_grad():
            truth = self(self.batch(shortest)).item()
        dtype = self.embedding.weight.dtype
        assert isinstance(dtype, torch.dtype)
        plain = self.causal.config._attn_implementation
        forwards = {m: m.__dict__.get("forward") for m in self.modules()}
        self.causal.config._attn_implementation = attention.register()
        try:
            fuse(self.adapted, dtype)
            self.packed = True
            with torch.no_grad():
                found = self(self.batch(shortest)).item()
            if abs(found - truth) <= EXACT[dtype] * abs(truth):
                return
            self.why_padded = f"its packed loss is {found:.6g} where {truth:.6g} is right"
        except (TypeError, ValueError, RuntimeError) as error:
            self.why_padded = str(error).splitlines()[0]
        self.packed = False
        self.causal.config._attn_implementation = plain
        for module, forward in forwards.items():
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.__dict__["forward"] = forward
