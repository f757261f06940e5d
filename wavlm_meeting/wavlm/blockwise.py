"""Attention with the gated bias, block by block: nothing of size (T, T) is ever stored.

The bias of a block of queries is a view of the Toeplitz table, not a tensor: with the keys in
reversed order, j' = T - 1 - j, the entry of query i is table[i + j'], where

    table[x] = toeplitz[2 T - 2 - x]        (entry 0 belongs to the offset j - i = T - 1)

so row i is the window of the table that starts at i: strides (1, 1). The backward pass computes
each block again. With s = q k^T / sqrt(E) + gate * t and p = softmax(s):

    ds = p * (dp - sum_j dp p)    dgate_i = sum_j ds_ij t_ij    dt_d = sum_{j-i=d} gate_i ds_ij

B batch, T frames, H heads, E head size, h heads and R query rows of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wavlm_meeting.wavlm.dropout import draw_kept, kept_share
from wavlm_meeting.wavlm.ops import onednn_multiplies

CPU_BLOCK = 1 << 18
"""Scores that stay in a core's cache: those of one head in a block, or of a few short ones."""
CUDA_BLOCK = 1 << 26
"""Scores in a block on a GPU: enough to fill it, 256 MiB in float32."""
MAX_ROWS = 256
"""Query rows of a block on CPU; longer ones gained nothing."""


def blockwise_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    toeplitz: Tensor,
    lengths: list[int] | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend with bias gate[b, h, i] * toeplitz[h, j - i + T - 1].

    `query`, `key`, `value` are (B, T, H, E), `gate` (B, T, H), `toeplitz` (H, 2 T - 1). Frames
    from `lengths` on are neither attended nor computed: their output is zero. Returns
    (B, T, H, E) in the dtype of `query`. Scores are float32 at least, so that float16 cannot
    overflow, or bfloat16 where the CPU has products for it.
    """
    seed = int(torch.randint(1 << 62, ()).item()) if dropout > 0 else 0
    halved = query.dtype == torch.bfloat16 and onednn_multiplies(query)
    wide = torch.promote_types(query.dtype, torch.float32)
    attended: Tensor = _Blockwise.apply(
        *(tensor if halved else tensor.to(wide) for tensor in (query, key, value)),
        *(tensor.to(wide) for tensor in (gate, toeplitz)),
        lengths or [query.shape[1]] * query.shape[0],
        dropout,
        seed,
    )
    return attended.to(query.dtype)


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        gate: Tensor,
        toeplitz: Tensor,
        lengths: list[int],
        dropout: float,
        seed: int,
    ) -> Tensor:
        out = torch.zeros_like(query) if min(lengths) < query.shape[1] else torch.empty_like(query)
        for block in _blocks(query, key, value, gate, toeplitz, lengths, dropout, seed):
            weights = block.weights()
            if dropout:
                weights.mul_(block.kept())
            block.rows_of(out).copy_(torch.bmm(weights, block.value))
        ctx.save_for_backward(query, key, value, gate, toeplitz, out)
        ctx.rest = (lengths, dropout, seed)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, gate, toeplitz, out = ctx.saved_tensors
        frames = query.shape[1]
        d_query, d_key, d_value, d_gate = (
            torch.zeros_like(tensor, dtype=gate.dtype) for tensor in (query, key, value, gate)
        )
        d_table = torch.zeros_like(toeplitz)  # in the blocks' reversed order
        row_dot = (d_out.to(gate.dtype) * out).sum(dim=3)  # (B, T, H): sum_j dp_ij p_ij
        for block in _blocks(query, key, value, gate, toeplitz, *ctx.rest):
            d_rows = block.rows_of(d_out)
            weights = block.weights()
            kept = block.kept() if block.dropout else None
            d_weights = torch.bmm(d_rows, block.value.transpose(1, 2))
            if kept is not None:
                d_weights.mul_(kept)
            d_scores = d_weights.sub_(block.rows_of(row_dot[..., None])).mul_(weights)
            if kept is not None:
                weights.mul_(kept)
            block.keys_of(d_value).add_(torch.bmm(weights.transpose(1, 2), d_rows).flip(1))
            block.rows_of(d_query).copy_(torch.bmm(d_scores, block.key).mul_(block.scale))
            block.keys_of(d_key).add_(
                torch.bmm(d_scores.transpose(1, 2), block.query).mul_(block.scale).flip(1)
            )
            block.rows_of(d_gate[..., None]).copy_((d_scores * block.table).sum(2, keepdim=True))
            diagonals = _diagonal_sums(d_scores.mul_(block.gate))
            start = block.table_start(frames)
            d_table[block.heads, start : start + diagonals.shape[1]] += diagonals
        d_value.div_(kept_share(ctx.rest[1]))
        d_query, d_key, d_value = (d.to(query.dtype) for d in (d_query, d_key, d_value))
        return d_query, d_key, d_value, d_gate, d_table.flip(1), None, None, None


class _Block:
    """Some heads and query rows of one utterance, its keys and values in reversed order."""

    def __init__(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor],
        table: Tensor,
        utterance: int,
        length: int,
        heads: slice,
        rows: slice,
        dropout: float,
        seed: int,
    ) -> None:
        query, self.key, self.value, gate = tensors
        self.utterance, self.length, self.heads, self.rows = utterance, length, heads, rows
        self.dropout, self.seed = dropout, seed
        self.scale: float = query.shape[3] ** -0.5
        self.query = self.rows_of(query)
        self.gate = self.rows_of(gate[..., None])  # (h, R, 1)
        frames = query.shape[1]
        head_table = table[heads, self.table_start(frames) :]
        self.table = head_table.as_strided(  # (h, R, length)
            (head_table.shape[0], rows.stop - rows.start, length), (table.stride(0), 1, 1)
        )

    def table_start(self, frames: int) -> int:
        """Return the table's entry for the first row and the last key."""
        start: int = self.rows.start
        return frames - self.length + start

    def rows_of(self, tensor: Tensor) -> Tensor:
        """View the block's part of (B, T, H, E) as (h, R, E)."""
        return tensor[self.utterance, self.rows, self.heads].transpose(0, 1)

    def keys_of(self, tensor: Tensor) -> Tensor:
        """View the block's keys in (B, T, H, E) as (h, length, E), in their natural order."""
        return tensor[self.utterance, : self.length, self.heads].transpose(0, 1)

    def weights(self) -> Tensor:
        """Compute the attention weights (h, R, length) before dropout."""
        # Allocated here: a product with an overlapping view would come out in another layout.
        scores = self.query.new_empty(self.table.shape)
        torch.mul(self.gate, self.table, out=scores)
        torch.baddbmm(scores, self.query, self.key.transpose(1, 2), alpha=self.scale, out=scores)
        return torch.softmax(scores, dim=2)

    def kept(self) -> Tensor:
        """Draw 1 for each weight (h, R, length) that is kept, else 0; the same at each call."""
        generator = torch.Generator(self.table.device).manual_seed(self.seed)
        return draw_kept(self.table.shape, self.dropout, self.table.device, generator)


def _blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    toeplitz: Tensor,
    lengths: list[int],
    dropout: float,
    seed: int,
) -> Iterator[_Block]:
    """Cut the work into blocks: utterance by utterance, a few heads and rows at a time."""
    all_heads = query.shape[2]
    table = toeplitz.flip(1)
    for utterance, length in enumerate(lengths):
        if query.is_cuda:
            rows, step = max(1, CUDA_BLOCK // (all_heads * length)), all_heads
        else:
            rows = min(MAX_ROWS, max(16, CPU_BLOCK // length))
            step = max(torch.get_num_threads(), CPU_BLOCK // (min(rows, length) * length))
        for first in range(0, all_heads, step):
            heads = slice(first, min(first + step, all_heads))
            turned_key, turned_value = (
                tensor[utterance, :length, heads].transpose(0, 1).flip(1) for tensor in (key, value)
            )
            if dropout:
                turned_value.div_(kept_share(dropout))  # what is kept counts for what is not
            for row in range(0, length, rows):
                seed += 1
                yield _Block(
                    (query, turned_key, turned_value, gate),
                    table,
                    utterance,
                    length,
                    heads,
                    slice(row, min(row + rows, length)),
                    dropout,
                    seed,
                )


def _diagonal_sums(scores: Tensor) -> Tensor:
    """Sum (h, R, T) over i + j' = const: (h, R + T - 1), by shifting each row one further."""
    heads, rows, keys = scores.shape
    padded = torch.nn.functional.pad(scores, (0, rows)).flatten(1)[:, :-rows]
    return padded.view(heads, rows, keys + rows - 1).sum(dim=1)
