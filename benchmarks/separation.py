"""Speed and memory of `wavlm-meeting separate` and of two other networks over the same windows.

    python benchmarks/separation.py AUDIO [--minutes 1 10 60] [--peer-minutes 1] [--model tiny]

AUDIO is repeated up to each wanted length, which memory should not follow. Ours is timed as a user
starts it: a process from start to both written tracks; on a GPU, where there is one, the longest
length. A model without a separation head gets a small one. The peers are SpeechBrain's SepFormer
and Asteroid's ConvTasNet in the sizes of their papers, which are given the same windows in the same
batches, and are timed without start, reading, joining or writing; their time is linear in the
length, so that a shorter piece does. Random weights change no timing. Needs the extra `train`, but
for `--peer-minutes 0`.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
from long_audio import HEADING, Row, repeat, show_growth, time_ours, time_peer

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.separation.load import PART, add_separation, load_separator
from wavlm_meeting.separation.model import build_head
from wavlm_meeting.separation.pipeline import BATCH, SeparationPipeline
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.units import SAMPLE_RATE

SMALL = SeparationSettings(layers=4, width=128, ffn=256, window_s=4.0, history_s=1.0, future_s=1.0)
"""The head that a model without one gets."""

PEERS = """
import sys, time, warnings
warnings.filterwarnings("ignore")
from itertools import islice
import numpy as np, soundfile, torch
from wavlm_meeting.audio.windows import iter_windows

def sepformer():
    # The sizes of Subakan et al., "Attention is all you need in speech separation" (ICASSP 2021).
    from speechbrain.lobes.models.dual_path import (
        Decoder, Dual_Path_Model, Encoder, SBTransformerBlock
    )
    blocks = [
        SBTransformerBlock(
            8, 256, 8, d_ffn=1024, dropout=0.0, use_positional_encoding=True, norm_before=True
        )
        for _ in range(2)
    ]
    encoder = Encoder(kernel_size=16, out_channels=256)
    masks = Dual_Path_Model(256, 256, *blocks, num_layers=2, norm="ln", K=250)
    decoder = Decoder(in_channels=256, out_channels=1, kernel_size=16, stride=8, bias=False)

    class SepFormer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.masks, self.decoder = encoder, masks, decoder

        def forward(self, mixture):
            hidden = self.encoder(mixture)
            return torch.stack([self.decoder(hidden * mask) for mask in self.masks(hidden)], 1)

    return SepFormer()

def convtasnet():
    from asteroid.models import ConvTasNet
    return ConvTasNet(n_src=2, sample_rate=16000)

path, name, window, hop, batch = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
torch.manual_seed(0)
network = {"sepformer": sepformer, "convtasnet": convtasnet}[name]().eval()
samples, _ = soundfile.read(path, dtype="float32")
windows = (each.samples for each in iter_windows([samples], window, hop))
start = time.perf_counter()
with torch.inference_mode():
    while group := list(islice(windows, batch)):
        network(torch.from_numpy(np.stack(group)))
print(time.perf_counter() - start)
"""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("audio", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 10.0, 60.0])
    parser.add_argument("--peer-minutes", type=float, default=1.0)
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    samples = read_audio(options.audio)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = with_head(options.model, folder)
        separator = load_separator(model, "cpu")
        print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads; {described(separator)}")
        print(HEADING)
        minutes = sorted(options.minutes)
        rows = [report(repeat(samples, 60 * m, folder), model, "cpu") for m in minutes]
        if torch.cuda.is_available():
            report(repeat(samples, 60 * minutes[-1], folder), model, "cuda")
        show_growth(rows)
        if options.peer_minutes:
            path = repeat(samples, 60 * options.peer_minutes, folder)
            for peer in ("sepformer", "convtasnet"):
                time_peer(peer, PEERS, path, rows, peer, *separator.sizes(), BATCH)


def with_head(model: str, folder: Path) -> str:
    """Return a model that separates: this one, or a copy with a small head of random weights."""
    bundle = load_model(model)
    if PART in bundle.state:
        return model
    torch.manual_seed(0)
    head = build_head(bundle.card.encoder, SMALL)
    add_separation(bundle, head, SMALL, folder / "separating")
    return str(folder / "separating")


def described(separator: SeparationPipeline) -> str:
    """Say what is timed."""
    millions = sum(parameter.numel() for parameter in separator.head.parameters()) / 1e6
    window, hop = (size / SAMPLE_RATE for size in separator.sizes())
    return f"a head of {millions:.1f} million parameters, windows of {window:g} s every {hop:g} s"


def report(path: Path, model: str, device: str) -> Row:
    """Time the command on a file."""
    out = path.with_suffix("")
    return time_ours(path, device, "separate", path, "--model", model, "--out", out)


if __name__ == "__main__":
    main()
