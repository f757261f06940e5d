"""Operations of an encoder's products and convolutions: a multiplication with an addition are two.

Norms, activations and softmax are left out, as is usual where a share of a device's peak is given
(PaLM, arXiv 2204.02311, appendix B).

N samples, T frames, C channels, K kernel, D width, E head size.
"""

from dataclasses import dataclass

from wavlm_meeting.wavlm.config import WavLMConfig


@dataclass(frozen=True)
class EncoderFlops:
    """Operations of a forward pass over one utterance, by part; layers are counted together."""

    first_convolution: int
    """The frontend's first convolution."""
    convolutions: int
    """Its other convolutions."""
    projection: int
    """From the frontend's channels to the width."""
    position: int
    """The positional convolution, computed directly."""
    attention_projections: int
    """Query, key, value, output, and the gate of the position bias."""
    attention_products: int
    """Queries with keys and weights with values, the part that grows with the square of T."""
    feed_forward: int
    """The two maps of each layer's feed-forward part."""

    @property
    def layers(self) -> int:
        """Operations of all Transformer layers."""
        return self.attention_projections + self.attention_products + self.feed_forward

    @property
    def total(self) -> int:
        """Operations of the forward pass."""
        below = self.first_convolution + self.convolutions + self.projection + self.position
        return below + self.layers

    def training(self, *, recompute: bool = False) -> int:
        """Return the operations of a forward and a backward pass.

        Each product has a gradient for both of its factors; only the waveform needs none. With
        `recompute` the layers run forward twice. Scores that an attention kernel computes again for
        its gradients are not counted.
        """
        return 3 * self.total - self.first_convolution + (self.layers if recompute else 0)


def encoder_flops(config: WavLMConfig, samples: int) -> EncoderFlops:
    """Count the operations for one waveform of `samples` (N) at 16 kHz."""
    convolutions, in_channels, length = [], 1, samples
    for channels, kernel, stride in config.conv_layers:
        length = max(0, (length - kernel) // stride + 1)
        convolutions.append(2 * length * kernel * in_channels * channels)
        in_channels = channels
    frames, width = length, config.width
    layers = range(config.layers)
    heads = [len(config.heads_of(layer)) for layer in layers]
    inner = sum(heads) * config.head_width  # of all layers
    ffn = sum(config.ffn_of(layer) for layer in layers)
    # The gate's 8 outputs are only used as two sums, and computed as such.
    gate = 2 * frames * inner * 2 if config.position_bias == "gated" else 0
    return EncoderFlops(
        first_convolution=convolutions[0],
        convolutions=sum(convolutions[1:]),
        projection=2 * frames * in_channels * width,
        position=2 * frames * width * (width // config.position_groups) * config.position_kernel,
        attention_projections=4 * 2 * frames * width * inner + gate,
        attention_products=2 * (2 * frames**2 * inner),
        feed_forward=2 * (2 * frames * width * ffn),
    )
