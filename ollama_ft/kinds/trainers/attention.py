"""Attention over a packed batch: each row sees the shared prefix and itself, nothing else.

Registered with transformers under the name PACKED, so that every architecture whose attention goes
through its interface uses it. The prefix's keys and values are used by all rows without a copy, and
their gradients are the sum over the rows.
"""

import functools

import torch

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
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    batch: Batch,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention functions do.

    query: (1, heads, T, width), key and value: (1, key heads, T, width) → (1, T, heads, width).
    """
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary may have widened them
    q = _grouped(query[0] * scaling, key.shape[1])  # (K, G, T, D)
    k, v = key[0], value[0]  # (K, T, D)
    window, prefix = sliding_window, batch.prefix
    parts = []
    if prefix:
        first = slice(0, prefix)
        mask = _causal(prefix, prefix, 0, window, q.device)
        parts.append(_attend(q[:, :, first], k[:, first], v[:, first], mask, softcap))
    rows = _rows(q, k, v, batch)
    parts.append(_attend_rows(*rows, k[:, :prefix], v[:, :prefix], batch, window, softcap))
    out = torch.cat(parts, dim=2) if prefix else parts[0]  # (K, G, T, D)
    heads, length, width = query.shape[1:]
    return out.reshape(heads, length, width).transpose(0, 1).unsqueeze(0), None


def _grouped(query: torch.Tensor, key_heads: int) -> torch.Tensor:
    # (H, T, D) → (K, H / K, T, D): query heads that share a key head, side by side
    heads, length, width = query.shape
    return query.reshape(key_heads, heads // key_heads, length, width)


def _rows(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # The rows' own parts as a grid: (K, G, R, L, D), (K, R, L, D), (K, R, L, D)
    q, k, v = q[:, :, batch.prefix :], k[:, batch.prefix :], v[:, batch.prefix :]
    if batch.grid is not None:
        q = q.index_select(2, batch.grid)
        k, v = k.index_select(1, batch.grid), v.index_select(1, batch.grid)
    shape = (batch.rows, batch.longest, k.shape[-1])
    return q.unflatten(2, shape[:2]), k.reshape(-1, *shape), v.reshape(-1, *shape)


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor,
    softcap: float | None,
) -> torch.Tensor:
    # q (K, G, S, D), k and v (K, S, D), mask (S, S) → (K, G, S, D); the scale is in q already
    groups, length = q.shape[1:3]
    if length >= LONG and softcap is None:
        k, v = (t[:, None].expand(-1, groups, -1, -1) for t in (k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    scores = torch.matmul(q.flatten(1, 2), k.transpose(1, 2)).unflatten(1, (groups, length))
    weights = _softmax(_capped(scores, softcap), mask)
    return torch.matmul(weights.flatten(1, 2), v).unflatten(1, (groups, length))


def _attend_rows(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prefix_k: torch.Tensor,
    prefix_v: torch.Tensor,
    batch: Batch,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    # The rows as a grid against the prefix and themselves → (K, G, T - prefix, D)
    groups, rows, length, width = q.shape[1:]
    prefix = batch.prefix
    mask = _causal(length, prefix + length, prefix, window, q.device)
    if prefix + length >= LONG and softcap is None:
        out = _fused_rows(q, k, v, prefix_k, prefix_v, mask)
    else:
        per_row = q.transpose(1, 2).flatten(2, 3)  # (K, R, G * L, D)
        own = torch.matmul(per_row, k.transpose(2, 3))  # (K, R, G * L, L)
        if prefix:
            shared = torch.matmul(per_row.flatten(1, 2), prefix_k.transpose(1, 2))
            own = torch.cat([shared.unflatten(1, own.shape[1:3]), own], dim=-1)
        scores = own.unflatten(2, (groups, length))  # (K, R, G, L, prefix + L)
        weights = _softmax(_capped(scores, softcap), mask).flatten(2, 3)
        out = torch.matmul(weights[..., prefix:], v)
        if prefix:
            shared = torch.matmul(weights[..., :prefix].flatten(1, 2), prefix_v)
            out = out + shared.unflatten(1, out.shape[1:3])
        out = out.unflatten(2, (groups, length)).transpose(1, 2)
    out = out.reshape(-1, groups, rows * length, width)
    return out if batch.line is None else out.index_select(2, batch.line)


def _fused_rows(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prefix_k: torch.Tensor,
    prefix_v: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    # The same through torch's fused kernel, which never holds all scores but wants whole keys.
    groups, rows = q.shape[1:3]
    k = torch.cat([prefix_k[:, None].expand(-1, rows, -1, -1), k], dim=2)  # (K, R, P + L, D)
    v = torch.cat([prefix_v[:, None].expand(-1, rows, -1, -1), v], dim=2)
    k, v = (t[:, None].expand(-1, groups, -1, -1, -1).flatten(0, 1) for t in (k, v))
    out = torch.nn.functional.scaled_dot_product_attention(
        q.flatten(0, 1), k, v, attn_mask=mask, scale=1.0
    )
    return out.unflatten(0, (-1, groups))


def _capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    # Gemma 2 squeezes scores into ±softcap (arXiv 2408.00118, sec. 2)
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    hidden = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(hidden, dim=-1, dtype=torch.float32).to(scores.dtype)


@functools.lru_cache(maxsize=64)
def _causal(
    queries: int, keys: int, offset: int, window: int | None, device: torch.device
) -> torch.Tensor:
    # (queries, keys), True where seen: query i stands at place offset + i and sees `window` tokens
    distance = torch.arange(queries, device=device)[:, None] + offset
    distance = distance - torch.arange(keys, device=device)[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)
