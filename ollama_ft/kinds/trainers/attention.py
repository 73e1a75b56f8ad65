"""Attention over a packed batch: each row sees the shared prefix and itself, nothing else.

Registered with transformers under the name PACKED, so that every architecture whose attention goes
through its interface uses it. The prefix's keys and values are used by all rows without a copy, and
their gradients are the sum over the rows.

Shapes: K key heads, G query heads to each, D wide; T tokens in the line, R rows of at most L
tokens, P tokens in the prefix.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ollama_ft.kinds.trainers.batching import Batch

PACKED = "ollama_ft_packed"
LONG = 512  # queries or keys; from here on the fused kernel's memory matters more than its start-up


def register() -> str:
    """Make the function known to transformers and return the name it has there."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)
    return PACKED


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    batch: Batch,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend as transformers' attention functions do.

    query: (1, heads, T, width), key and value: (1, key heads, T, width) → (1, T, heads, width).
    """
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary may have widened them
    q, k, v = query[0].unflatten(0, (key.shape[1], -1)), key[0], value[0]  # type: ignore[no-untyped-call]
    if batch.prefix + batch.longest >= LONG and softcap is None:
        out = _kernel_attention(q, k, v, batch, scaling, sliding_window)
    else:
        setting = Setting(batch=batch, scale=scaling, window=sliding_window, softcap=softcap)
        out = PackedAttention.apply(q, k, v, setting)  # type: ignore[no-untyped-call]
    return out.flatten(0, 1).transpose(0, 1).unsqueeze(0), None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How scores become weights in one call."""

    batch: Batch
    scale: float
    window: int | None
    softcap: float | None


class PackedAttention(torch.autograd.Function):
    """softmax(scale · q·kᵀ)·v for the prefix and for the rows.

    q: (K, G, T, D), k and v: (K, T, D) → (K, G, T, D). Only these are kept: the weights are
    computed again for the gradient, which takes less time than they would take memory.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, setting: Setting) -> Tensor:
        """The prefix against itself, then all rows at once against the prefix and themselves."""
        ctx.setting = setting
        ctx.save_for_backward(q, k, v)
        out, batch = torch.zeros_like(q, memory_format=PLAIN), setting.batch
        if batch.prefix:
            prefix = slice(0, batch.prefix)
            weights, _ = _prefix_weights(q[:, :, prefix], k[:, prefix], setting)
            out[:, :, prefix] = torch.bmm(weights, v[:, prefix]).view_as(q[:, :, prefix])
        weights, _ = _row_weights(_grid(q, batch), k, setting)
        _put(out, _mixed(weights, _grid(v[:, None], batch), v[:, : batch.prefix]), batch)
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        tensors = ctx.saved_tensors
        into = tuple(torch.zeros_like(t, memory_format=PLAIN) for t in tensors)
        if ctx.setting.batch.prefix:
            _prefix_backward(tensors, slopes[0], into, ctx.setting)
        _rows_backward(tensors, slopes[0], into, ctx.setting)
        return *into, None


PLAIN = torch.contiguous_format
Three = tuple[Tensor, ...]  # of q, k and v


def _prefix_backward(tensors: Three, slope: Tensor, into: Three, setting: Setting) -> None:
    # Sets the prefix's own gradients in those of q, k and v.
    prefix = slice(0, setting.batch.prefix)
    q, (k, v) = tensors[0][:, :, prefix], (t[:, prefix] for t in tensors[1:])
    top = slope[:, :, prefix].flatten(1, 2)
    weights, bend = _prefix_weights(q, k, setting)
    back = _scores_slope(torch.bmm(top, v.mT), weights, bend, setting)
    into[0][:, :, prefix] = torch.bmm(back, k).view_as(q)
    into[1][:, prefix] = torch.bmm(back.mT, q.flatten(1, 2))
    into[2][:, prefix] = torch.bmm(weights.mT, top)


def _rows_backward(tensors: Three, slope: Tensor, into: Three, setting: Setting) -> None:
    # Adds the rows' gradients to those of q, k and v.
    q, k, v = tensors
    q_slope, k_slope, v_slope = into
    batch, prefix = setting.batch, setting.batch.prefix
    top, grid = _grid(slope, batch, zeros=True), _grid(q, batch)  # (K, R, G·L, D)
    weights, bend = _row_weights(grid, k, setting)
    back = _scores(top, _grid(v[:, None], batch), v[:, :prefix])
    back = _scores_slope(back, weights, bend, setting)
    _put(q_slope, _mixed(back, _grid(k[:, None], batch), k[:, :prefix]), batch)
    _put(k_slope[:, None], torch.matmul(back[..., prefix:].mT, grid), batch)
    _put(v_slope[:, None], torch.matmul(weights[..., prefix:].mT, top), batch)
    if prefix:
        shared = back[..., :prefix].flatten(1, 2)
        k_slope[:, :prefix] += torch.bmm(shared.mT, grid.flatten(1, 2))
        shared = weights[..., :prefix].flatten(1, 2)
        v_slope[:, :prefix] += torch.bmm(shared.mT, top.flatten(1, 2))


def _prefix_weights(q: Tensor, k: Tensor, setting: Setting) -> tuple[Tensor, Tensor | None]:
    # (K, G, P, D) and (K, P, D) → (K, G·P, P), and what bends its gradient
    prefix = k.shape[1]
    mask = _causal(prefix, prefix, 0, setting.window, q.device)
    return _weights(torch.bmm(q.flatten(1, 2), k.mT), mask, setting)


def _row_weights(grid: Tensor, k: Tensor, setting: Setting) -> tuple[Tensor, Tensor | None]:
    # (K, R, G·L, D) and (K, T, D) → (K, R, G·L, P + L), and what bends its gradient
    batch, prefix = setting.batch, setting.batch.prefix
    mask = _causal(batch.longest, prefix + batch.longest, prefix, setting.window, k.device)
    return _weights(_scores(grid, _grid(k[:, None], batch), k[:, :prefix]), mask, setting)


def _grid(x: Tensor, batch: Batch, *, zeros: bool = False) -> Tensor:
    # The rows' own part of a line, (K, G, T, D), as a grid: (K, R, G·L, D). What fills up short
    # rows is their last token, or zeros where a sum goes over it.
    keys, groups, _, width = x.shape
    x = x[:, :, batch.prefix : batch.end]
    if batch.grid is not None and batch.line is not None:
        if zeros:
            full = x.new_zeros(keys, groups, batch.rows * batch.longest, width)
            x = full.index_copy_(2, batch.line, x)
        else:
            x = x.index_select(2, batch.grid)
    x = x.reshape(keys, groups, batch.rows, batch.longest, width).transpose(1, 2)
    return x.reshape(keys, batch.rows, groups * batch.longest, width)


def _put(line: Tensor, grid: Tensor, batch: Batch) -> None:
    # The way back: (K, R, G·L, D) into the rows' part of (K, G, T, D)
    keys, groups, _, width = line.shape
    x = grid.view(keys, batch.rows, groups, batch.longest, width).transpose(1, 2)
    x = x.reshape(keys, groups, batch.rows * batch.longest, width)
    line[:, :, batch.prefix : batch.end] = (
        x if batch.line is None else x.index_select(2, batch.line)
    )


def _scores(x: Tensor, own: Tensor, shared: Tensor) -> Tensor:
    # x (K, R, G·L, D) with own (K, R, L, D) and shared (K, P, D) → (K, R, G·L, P + L)
    prefix = shared.shape[1]
    out = x.new_empty(*x.shape[:3], prefix + own.shape[2])
    out[..., prefix:] = torch.matmul(x, own.mT)
    if prefix:
        out[..., :prefix] = torch.bmm(x.flatten(1, 2), shared.mT).view(*x.shape[:3], prefix)
    return out


def _mixed(weights: Tensor, own: Tensor, shared: Tensor) -> Tensor:
    # weights (K, R, G·L, P + L) of shared (K, P, D) and own (K, R, L, D) → (K, R, G·L, D)
    prefix = shared.shape[1]
    out = torch.matmul(weights[..., prefix:], own)
    if prefix:
        out += torch.bmm(weights[..., :prefix].flatten(1, 2), shared).view_as(out)
    return out


def _weights(scores: Tensor, mask: Tensor, setting: Setting) -> tuple[Tensor, Tensor | None]:
    # Softmax in fp32 of scores (…, G·S, keys), masked by (S, keys) for every group; and d capped
    # score / d score where scores are capped
    wide, cap, bend = scores.float().mul_(setting.scale), setting.softcap, None
    if cap is not None:
        # Gemma 2 squeezes scores into ±cap (arXiv 2408.00118, sec. 2)
        wide = wide.div_(cap).tanh_()
        bend = 1 - wide * wide
        wide = wide.mul_(cap)
    wide.view(*wide.shape[:-2], -1, *mask.shape).masked_fill_(~mask, float("-inf"))
    return torch.softmax(wide, dim=-1).to(scores.dtype), bend


def _scores_slope(slope: Tensor, weights: Tensor, bend: Tensor | None, setting: Setting) -> Tensor:
    # d scores from d weights: w·(g − Σ g·w), bent by the cap, times the scale
    slope, wide = slope.float(), weights.float()
    back: Tensor = torch.ops.aten._softmax_backward_data(slope, wide, -1, torch.float32)
    if bend is not None:
        back.mul_(bend)
    return back.mul_(setting.scale).to(weights.dtype)


def _kernel_attention(
    q: Tensor, k: Tensor, v: Tensor, batch: Batch, scale: float, window: int | None
) -> Tensor:
    # The same through torch's fused kernel, which never holds all scores but wants whole keys.
    # (K, G, T, D), (K, T, D), (K, T, D) → (K, G, T, D)
    groups, prefix, places = q.shape[1], batch.prefix, batch.longest
    attend = functools.partial(torch.nn.functional.scaled_dot_product_attention, scale=scale)
    parts = []
    if prefix:
        mask = _causal(prefix, prefix, 0, window, q.device)
        heads_k, heads_v = (t[:, None, :prefix].expand(-1, groups, -1, -1) for t in (k, v))
        parts.append(attend(q[:, :, :prefix], heads_k, heads_v, attn_mask=mask))
    rows = _grid(q, batch)
    keys = torch.cat([_many(k[:, :prefix], batch.rows), _grid(k[:, None], batch)], dim=2)
    values = torch.cat([_many(v[:, :prefix], batch.rows), _grid(v[:, None], batch)], dim=2)
    mask = _causal(places, prefix + places, prefix, window, q.device).repeat(groups, 1)
    grid = attend(rows, keys, values, attn_mask=mask)
    out = q.new_zeros(q.shape)
    _put(out, grid, batch)
    return out if not prefix else torch.cat([parts[0], out[:, :, prefix:]], dim=2)


def _many(x: Tensor, rows: int) -> Tensor:
    # (K, P, D) → (K, R, P, D), not copied
    return x[:, None].expand(-1, rows, -1, -1)


@functools.lru_cache(maxsize=64)
def _causal(
    queries: int, keys: int, offset: int, window: int | None, device: torch.device
) -> Tensor:
    # (queries, keys), True where seen: query i stands at place offset + i and sees `window` tokens
    distance = torch.arange(queries, device=device)[:, None] + offset
    distance = distance - torch.arange(keys, device=device)[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)
