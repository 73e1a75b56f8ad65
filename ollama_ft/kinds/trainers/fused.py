"""The same arithmetic as PEFT and transformers, with fewer passes over memory.

PEFT's LoRA layer runs five modules and keeps their inputs; here one autograd function does
y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ and keeps x and x·Aᵀ. Layers that read the same x (q, k, v; gate, up)
share the product with A. Where x is the output of a norm or a gated activation, not x is kept but
what it was made of, which those keep anyway. PEFT stays the owner of the weights, the file format
and the reference in the tests.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

MADE = "_ollama_ft_made"  # attribute of an output: (how it is made, from which tensors)


def _remember(out: Tensor, made: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    setattr(out, MADE, (made, tuple(part.detach() for part in parts)))
    return out


class LoraProducts(torch.autograd.Function):
    """Several adapted layers of one input.

    x: (T, in); then for each layer: weight (out, in), bias (out,) or None, A (r, in), B (out, r).
    Returns one (T, out) for each. Frozen weights get no gradient. `made` makes x again from
    `parts`, which are kept in its stead; without it x is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        keep: Tensor | None,
        scales: tuple[float, ...],
        made: Callable[..., Tensor] | None,
        parts: tuple[Tensor, ...],
        *layers: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Run the frozen products, then add the adapters' in place."""
        dtype = x.dtype
        a = _stacked(layers[2::4], dtype)  # (n·r, in)
        low = torch.mm(x if keep is None else x * keep, a.t())  # (T, n·r)
        outs, start = [], 0
        for i, scale in enumerate(scales):
            weight, bias, _, up = layers[4 * i : 4 * i + 4]
            assert weight is not None
            out = nn.functional.linear(x, weight, bias)
            up = _cast(up, dtype)
            end = start + up.shape[1]
            outs.append(out.addmm_(low[:, start:end], up.t(), alpha=scale))
            start = end
        ctx.scales, ctx.made, ctx.shape = scales, made, x.shape
        ctx.part_count = len(parts) if made else 1
        ctx.save_for_backward(*(parts if made else (x,)), keep, low, *layers)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, and of every A and B."""
        saved = ctx.saved_tensors
        keep, low, *layers = saved[ctx.part_count :]
        weights, downs, ups = layers[0::4], layers[2::4], layers[3::4]
        low_slopes, up_slopes, start = [], [], 0
        for slope, scale, up in zip(slopes, ctx.scales, ups, strict=True):
            end = start + up.shape[1]
            low_slopes.append(torch.mm(slope, up.to(slope.dtype)).mul_(scale))
            up_slopes.append(torch.mm(slope.t(), low[:, start:end]).to(up.dtype).mul_(scale))
            start = end
        low_slope = torch.cat(low_slopes, dim=1)
        x = ctx.made(*saved[: ctx.part_count]).view(ctx.shape) if ctx.made else saved[0]
        x = x.to(low.dtype)
        down_slope = torch.mm(low_slope.t(), x if keep is None else x * keep)
        x_slope = None
        if ctx.needs_input_grad[0]:
            x_slope = torch.mm(low_slope, _stacked(downs, low.dtype))
            if keep is not None:
                x_slope.mul_(keep)
            for slope, weight in zip(slopes, weights, strict=True):
                x_slope.addmm_(slope, weight)
        down_slopes = torch.split(down_slope.to(downs[0].dtype), [t.shape[0] for t in downs])
        grads: list[Tensor | None] = [x_slope, None, None, None, None]
        for down, up in zip(down_slopes, up_slopes, strict=True):
            grads += [None, None, down, up]
        return tuple(grads)


def _cast(tensor: Tensor | None, dtype: torch.dtype) -> Tensor:
    assert tensor is not None
    return tensor.to(dtype)


def _stacked(parts: tuple[Tensor | None, ...] | list[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([_cast(part, dtype) for part in parts])


class LoraGroup:
    """Adapted layers that read the same input; whoever is called first computes for all."""

    def __init__(self, layers: list[nn.Module], *, wide: bool) -> None:
        self.layers = layers
        self.wide = wide  # outputs in fp32
        self.source: Tensor | None = None
        self.waiting: dict[int, Tensor] = {}

    def output(self, index: int, x: Tensor) -> Tensor:
        """The output of layer `index` for `x`: (…, in) → (…, out)."""
        if x is not self.source or index not in self.waiting:
            self.source, self.waiting = x, dict(enumerate(self._compute(x)))
        out = self.waiting.pop(index)
        if not self.waiting:
            self.source = None
        return out

    def _compute(self, x: Tensor) -> list[Tensor]:
        arguments: list[Tensor | None] = []
        for layer in self.layers:
            base = cast(nn.Linear, layer.base_layer)
            arguments += [
                base.weight,
                base.bias,
                _factor(layer, "lora_A"),
                _factor(layer, "lora_B"),
            ]
        flat = x.reshape(-1, x.shape[-1]).to(cast(Tensor, arguments[0]).dtype)
        made, parts = getattr(x, MADE, (None, ()))
        outs = LoraProducts.apply(  # type: ignore[no-untyped-call]
            flat, self._dropout(flat), tuple(map(_scale, self.layers)), made, parts, *arguments
        )
        outs = [out.float() for out in outs] if self.wide else outs
        return [out.view(*x.shape[:-1], -1) for out in outs]

    def _dropout(self, x: Tensor) -> Tensor | None:
        drop = cast(nn.ModuleDict, self.layers[0].lora_dropout)["default"]
        chance = float(getattr(drop, "p", 0.0))
        if not chance or not drop.training:
            return None
        return torch.empty_like(x).bernoulli_(1 - chance).div_(1 - chance)


def _factor(layer: nn.Module, name: str) -> Tensor:
    return cast(Tensor, cast(nn.ModuleDict, getattr(layer, name))["default"].weight)


def _scale(layer: nn.Module) -> float:
    return float(cast(dict[str, float], layer.scaling)["default"])


class RmsNorm(torch.autograd.Function):
    """y = x / rms(x) · gain, with x in fp32 and y in `dtype`. The gain is frozen.

    x: (…, width), gain: (width,) fp32 → y, and 1 / rms(x): (…, 1).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Normalise the last dimension."""
        wide = x.float()
        mean = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        inverse = mean.add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, inverse)
        ctx.mark_non_differentiable(inverse)
        return _normed(wide, inverse, gain, dtype), inverse

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        """With u = x / rms(x): dx = (g·gain − u·mean(g·gain·u)) / rms(x)."""
        x, gain, inverse = ctx.saved_tensors
        unit = x.float() * inverse
        slope = slopes[0].float() * gain
        along = torch.linalg.vecdot(slope, unit).div_(x.shape[-1]).unsqueeze(-1)
        return slope.addcmul_(unit, along, value=-1).mul_(inverse).to(x.dtype), None, None, None


def _normed(x: Tensor, inverse: Tensor, gain: Tensor, dtype: torch.dtype) -> Tensor:
    return (x.float() * inverse).mul_(gain).to(dtype)


class Gated(torch.autograd.Function):
    """act(gate) · up, where act is SiLU or the tanh form of GELU; keeps gate and up only."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, gelu: bool) -> Tensor:
        """gate, up: (…, width) → (…, width)."""
        ctx.gelu = gelu
        ctx.save_for_backward(gate, up)
        return _gate(gate, up, gelu)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """The activation is computed again: cheaper than keeping it."""
        gate, up = ctx.saved_tensors
        slope = slopes[0]
        up_slope = _activate(gate, ctx.gelu).mul_(slope)
        inner = slope * up
        if ctx.gelu:
            return torch.ops.aten.gelu_backward(inner, gate, approximate="tanh"), up_slope, None
        return torch.ops.aten.silu_backward(inner, gate), up_slope, None


def _gate(gate: Tensor, up: Tensor, gelu: bool) -> Tensor:
    return _activate(gate, gelu).mul_(up)


def _activate(gate: Tensor, gelu: bool) -> Tensor:
    if gelu:
        return nn.functional.gelu(gate, approximate="tanh")
    return nn.functional.silu(gate)


INTO_THE_STREAM = ("o_proj", "down_proj")  # whose outputs are added to the residual stream


def fuse(model: nn.Module, dtype: torch.dtype) -> int:
    """Give the adapted layers, norms and gated blocks of `model` these forwards; count them.

    Only modules whose arithmetic is known are touched; the rest keep their own. `dtype` is what
    the layers compute in. What is added to the residual stream, which is in fp32, leaves in fp32:
    sums of two types are slow.
    """
    count = 0
    for module in model.modules():
        for names, group in _groups(module):
            shared = LoraGroup(group, wide=names[0] in INTO_THE_STREAM)
            for index, layer in enumerate(group):
                count += _replace(layer, _lora_forward(shared, index))
        sandwich = hasattr(module, "pre_feedforward_layernorm")  # Gemma norms what it adds, too
        for name, child in module.named_children():
            if "RMSNorm" in type(child).__name__:
                wide = sandwich and name.startswith("post_")
                count += _replace(child, _norm_forward(child, torch.float32 if wide else dtype))
        count += _replace(module, _gated_forward(module))
    return count


def _replace(module: nn.Module, forward: Callable[..., Tensor] | None) -> int:
    if forward is None:
        return 0
    module.forward = forward
    return 1


SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def _groups(module: nn.Module) -> Iterator[tuple[list[str], list[nn.Module]]]:
    # Adapted children of `module` with their names, those that read the same input together
    adapted = {name: child for name, child in module.named_children() if _is_plain_lora(child)}
    for siblings in SIBLINGS:
        names = [name for name in siblings if name in adapted]
        if names:
            yield names, [adapted.pop(name) for name in names]
    for name, child in adapted.items():
        yield [name], [child]


def _is_plain_lora(module: nn.Module) -> bool:
    from peft.tuners.lora import Linear

    if not isinstance(module, Linear):
        return False
    known = type(module.base_layer) is nn.Linear and not module.lora_variant
    return known and list(module.lora_A) == ["default"] and not module.lora_bias["default"]


def _lora_forward(group: LoraGroup, index: int) -> Callable[..., Tensor]:
    return lambda x, *_, **__: group.output(index, x)


def _norm_forward(module: nn.Module, dtype: torch.dtype) -> Callable[..., Tensor] | None:
    # Accepted when it says the same as the module's own forward on a random input.
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, Tensor) or not isinstance(eps, float):
        return None
    frozen = weight.detach().float()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, weight.shape[0], generator=generator).to(weight.device)
    truth = module(x.to(weight.dtype)).float()
    near = 1e-4 if weight.dtype == torch.float32 else 2e-2
    for gain in (frozen, 1 + frozen):  # Gemma keeps the gain less one

        def forward(x: Tensor, gain: Tensor = gain) -> Tensor:
            out, inverse = RmsNorm.apply(x, gain, eps, dtype)  # type: ignore[no-untyped-call]
            return _remember(out, lambda x, inv: _normed(x, inv, gain, dtype), x, inverse)

        if torch.allclose(forward(x).float(), truth, rtol=near, atol=near):
            return forward
    return None


def _gated_forward(module: nn.Module) -> Callable[..., Tensor] | None:
    gate, up = getattr(module, "gate_proj", None), getattr(module, "up_proj", None)
    down, act = getattr(module, "down_proj", None), getattr(module, "act_fn", None)
    if not all(isinstance(part, nn.Module) for part in (gate, up, down, act)):
        return None
    x = torch.linspace(-4, 4, 64)
    for gelu in (False, True):
        if torch.allclose(cast(nn.Module, act)(x), _activate(x, gelu), atol=1e-6):
            break
    else:
        return None

    def forward(x: Tensor) -> Tensor:
        g, u = gate(x), up(x)  # type: ignore[misc]
        hidden = Gated.apply(g, u, gelu)  # type: ignore[no-untyped-call]
        _remember(hidden, lambda g, u: _gate(g, u, gelu), g, u)
        return cast(Tensor, down(hidden))  # type: ignore[misc]

    return forward
