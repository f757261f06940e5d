"""What pruning brings: parameters, operations and speed before and after, in one run.

    python benchmarks/compression.py [--size 20%] [--seconds 15] [--threads N]
    python benchmarks/compression.py --models TEACHER SMALLER [--seconds 15] [--threads N]

Without models, WavLM Base with random weights is pruned to the size given, by gates drawn at
random: what is pruned changes no timing. How far the pruned encoder is from the whole one whose
gates are shut is printed too. Both are timed in turn, so that a busy machine slows both.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.compression.gated import gated_states
from wavlm_meeting.compression.groups import Groups, count_parameters, group_sizes
from wavlm_meeting.compression.pruning import Kept, prune
from wavlm_meeting.compression.selection import choose_kept
from wavlm_meeting.compression.settings import parse_share
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import BASE
from wavlm_meeting.wavlm.flops import encoder_flops
from wavlm_meeting.wavlm.model import WavLM

ROUNDS = 5
"""Timings of each; the first, which warms up, does not count."""


def pruned_base(share: float) -> tuple[WavLM, WavLM, Kept]:
    """Return Base with random weights, and what is left of it."""
    torch.manual_seed(1)
    encoder = WavLM(BASE).eval()
    kept = choose_kept(
        BASE, group_sizes(BASE).map(torch.randn), round(share * parameters_of(encoder))
    )
    return encoder, prune(encoder, kept), kept


def parameters_of(encoder: WavLM) -> int:
    """Count an encoder's parameters by its sizes, and check that they are there."""
    count = count_parameters(encoder.config, group_sizes(encoder.config))
    there = sum(parameter.numel() for parameter in encoder.parameters())
    if count != there:
        message = f"{there} parameters, but the sizes make {count}"
        raise RuntimeError(message)
    return count


def deviation(whole: WavLM, smaller: WavLM, kept: Kept, waveforms: Tensor) -> float:
    """Return the largest difference in any hidden state between pruned and shut units."""
    gates = Groups(
        *(
            tuple(
                torch.zeros(size).index_fill(0, torch.tensor(own), 1.0)
                for size, own in zip(sizes, places, strict=True)
            )
            for sizes, places in zip(group_sizes(whole.config), kept, strict=True)
        )
    )
    lengths = torch.tensor([waveforms.shape[1]])
    shut = gated_states(whole, gates, waveforms, lengths)
    found = smaller(waveforms, lengths).hidden_states
    return max(float((a - b).abs().max()) for a, b in zip(found, shut, strict=True))


def timed_in_turn(encoders: list[WavLM], waveforms: Tensor) -> list[float]:
    """Return the median seconds of each."""
    times: list[list[float]] = [[] for _ in encoders]
    for _ in range(ROUNDS):
        for encoder, own in zip(encoders, times, strict=True):
            start = time.perf_counter()
            encoder(waveforms)
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) for own in times]


@torch.inference_mode()
def main() -> None:
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="20%", help="share of Base that stays")
    parser.add_argument("--models", nargs=2, metavar=("TEACHER", "SMALLER"))
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if not given")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    samples = int(arguments.seconds * SAMPLE_RATE)
    waveforms = torch.randn(1, samples, generator=torch.Generator().manual_seed(2))
    if arguments.models:
        encoders = [load_encoder(name) for name in arguments.models]
    else:
        whole, smaller, kept = pruned_base(parse_share(arguments.size))
        encoders = [whole, smaller]
        apart = deviation(whole, smaller, kept, waveforms[:, : 2 * SAMPLE_RATE])
        print(f"pruned and shut differ by {apart:.1e} at most, in any hidden state")
    seconds = timed_in_turn(encoders, waveforms)
    print(f"{'':>8} {'parameters':>12} {'GFLOP/s audio':>14} {'seconds':>8} {'real time':>10}")
    for name, encoder, own in zip(("whole", "pruned"), encoders, seconds, strict=True):
        work = encoder_flops(encoder.config, samples).total / arguments.seconds / 1e9
        print(
            f"{name:>8} {parameters_of(encoder):>12,} {work:>14.2f} {own:>8.3f} "
            f"{own / arguments.seconds:>10.4f}"
        )
    share = parameters_of(encoders[1]) / parameters_of(encoders[0])
    print(f"{share:.1%} of the parameters, {seconds[0] / seconds[1]:.2f} times as fast")


if __name__ == "__main__":
    main()
