"""One Transformer layer of WavLM.

B batch, T frames, D width.
"""

from torch import Tensor, nn

from wavlm_meeting.wavlm.attention import Context, SelfAttention
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.dropout import dropout
from wavlm_meeting.wavlm.ops import NORM_EPS, gelu_linear


class FeedForward(nn.Module):
    """Two linear maps with GELU between them."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        inner = gelu_linear(x, self.up.weight, self.up.bias)
        inner = dropout(inner, self.dropout, self.training)
        output: Tensor = self.down(inner)
        return output


class EncoderLayer(nn.Module):
    """Attention and feed-forward with residuals; norms before (Large) or after (Base) each.

    `index` is the layer's number, by which a pruned encoder's layers differ.
    """

    def __init__(self, config: WavLMConfig, index: int = 0) -> None:
        super().__init__()
        self.pre_norm, self.dropout = config.pre_norm, config.dropout
        self.attention = SelfAttention(
            config.width,
            config.heads,
            config.attention_dropout,
            gated=config.position_bias == "gated",
            kept=config.heads_of(index),
        )
        self.attention_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.ffn = FeedForward(config.width, config.ffn_of(index), config.activation_dropout)
        self.ffn_norm = nn.LayerNorm(config.width, eps=NORM_EPS)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        if self.pre_norm:
            x = x + self._drop(self.attention(self.attention_norm(x), context))
            return x + self._drop(self.ffn(self.ffn_norm(x)))
        x = self.attention_norm(x + self._drop(self.attention(x, context)))
        normed: Tensor = self.ffn_norm(x + self._drop(self.ffn(x)))
        return normed

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)
