"""Speed of a full pretraining step: this project's encoder and transformers' in one run.

    python benchmarks/pretraining.py [--size tiny base] [--dtype float32 bfloat16]
                                     [--device cpu|cuda] [--batch N ...] [--seconds S]
                                     [--rounds N] [--threads N] [--profile] [--json PATH]

A step is mixing, masks, forward, backward, clipping and AdamW. Both sides are the same
`PretrainingTask`, with the same settings and batches; only the encoder inside differs. bfloat16
means autocast on both sides. The two take turns, step by step, so that a machine that slows down
slows both. Weights, waveforms and labels are random, since they change no timing; crops have their
full length, so that neither side gains from padding. On a GPU the batch is doubled until it does
not fit.

The share of peak is that of a large matrix product, measured in the same run, with three times the
forward pass's products counted for a step. Needs `transformers`; a GPU's figures need a GPU.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import cast

import torch
from encoder import timed
from torch import Tensor, nn
from torch.optim import AdamW

from wavlm_meeting.pretraining.settings import PretrainingSettings, named_settings
from wavlm_meeting.pretraining.task import PretrainingBatch, PretrainingTask
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.flops import encoder_flops
from wavlm_meeting.wavlm.frontend import normalize_waveforms, valid_mask
from wavlm_meeting.wavlm.model import WavLM

PEERS = ("ours", "transformers")
CLASSES = (500,)
ADAM = ("lr", "betas", "eps", "weight_decay", "foreach", "fused")
"""What both sides' optimiser takes from that of the task."""
PRODUCT = {"cpu": 2048, "cuda": 8192}
"""Rows of the square matrix whose product shows the peak."""
CROP_S = {"tiny": 8.0, "base": 15.6}
BATCHES = {("tiny", "cpu"): 12, ("base", "cpu"): 1, ("tiny", "cuda"): 12, ("base", "cuda"): 6}
"""Crops of a step: 96 s for tiny, as in its recipe; 93.6 s for Base, one crop of them on a CPU."""


class TheirEncoder(nn.Module):
    """transformers' WavLM, called as `MaskedPrediction` calls ours."""

    def __init__(self, config: WavLMConfig) -> None:
        from transformers import WavLMConfig as TheirConfig
        from transformers import WavLMModel

        super().__init__()
        self.config = config
        self.mask_embedding = nn.Parameter(torch.rand(config.width))
        channels, kernels, strides = zip(*config.conv_layers, strict=True)
        self.model = WavLMModel(
            TheirConfig(
                conv_dim=channels,
                conv_kernel=kernels,
                conv_stride=strides,
                feat_extract_norm=config.frontend_norm,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.ffn,
                do_stable_layer_norm=config.pre_norm,
                feat_proj_dropout=config.dropout,
                hidden_dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                activation_dropout=config.activation_dropout,
                layerdrop=config.layer_drop,
            )
        )

    def extract(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, T, C) and frame lengths (B,)."""
        if self.config.normalize_waveform:
            waveforms = normalize_waveforms(waveforms, lengths)
        features = self.model.feature_extractor(waveforms).transpose(1, 2)
        return features, (lengths - self.config.receptive_field) // self.config.hop + 1

    def projection(self, features: Tensor) -> Tensor:
        """Map features (B, T, C) to (B, T, D)."""
        projected: Tensor = self.model.feature_projection(features)[0]
        return projected

    def contextualize(
        self,
        x: Tensor,
        lengths: Tensor,
        *,
        padded: bool,
        masked: Tensor,
        kept: None = None,  # noqa: ARG002 - all layers are
    ) -> tuple[Tensor]:
        """Mask (B, T, D) and run the Transformer: the last hidden state.

        Its own random masks are drawn only where none are given.
        """
        x = self.model._mask_hidden_states(x, mask_time_indices=masked)  # noqa: SLF001 - its only way
        attended = valid_mask(lengths, x.shape[1]) if padded else None
        return (self.model.encoder(x, attention_mask=attended).last_hidden_state,)


class Trainee:
    """One side: a task with its optimiser."""

    def __init__(self, peer: str, settings: PretrainingSettings, device: str) -> None:
        self.task = PretrainingTask(settings, CLASSES)
        chosen = cast("dict[str, AdamW]", self.task.configure_optimizers())["optimizer"]
        if peer != "ours":
            self.task.model.encoder = cast("WavLM", TheirEncoder(settings.encoder))
        self.task.to(device).train()
        self.optimizer = AdamW(
            self.task.parameters(), **{name: chosen.defaults[name] for name in ADAM}
        )
        self.clip = settings.optimizer.gradient_clip

    def step(self, batch: PretrainingBatch) -> None:
        """Do everything that a step of training does."""
        self.optimizer.zero_grad()
        self.task.losses(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.clip)
        self.optimizer.step()


def draw_batch(config: WavLMConfig, crops: int, seconds: float, device: str) -> PretrainingBatch:
    """Draw noise with random labels."""
    samples = int(seconds * SAMPLE_RATE)
    labels = torch.randint(CLASSES[0], (crops, config.frame_count(samples)), device=device)
    return PretrainingBatch(
        waveforms=0.1 * torch.randn(crops, samples, device=device),
        lengths=torch.full((crops,), samples, device=device),
        labels=[labels],
        ids=[str(crop) for crop in range(crops)],
    )


def take_turns(
    sides: dict[str, Trainee], batch: PretrainingBatch, square: Tensor, rounds: int
) -> dict[str, dict[str, float]]:
    """Time a step of each side and a matrix product in turn; the first round does not count.

    A side that runs out of a GPU's memory is missing from the result.
    """
    device = square.device.type
    runs: dict[str, Callable[[], object]] = {"product": lambda: square @ square}
    runs |= {peer: partial(side.step, batch) for peer, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, float] = {}
    for _ in range(rounds + 1):
        for name in list(times):
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                times[name].append(timed(runs[name], device))
            except torch.OutOfMemoryError:
                del times[name]
                sides[name].optimizer.zero_grad()
                torch.cuda.empty_cache()
            else:
                if device == "cuda":
                    peaks[name] = torch.cuda.max_memory_allocated() / 1e9
    found: dict[str, dict[str, float]] = {}
    for name, counted in times.items():
        found[name] = {"step_s": statistics.median(counted[1:])}
        if name in peaks:
            found[name]["peak_gb"] = peaks[name]
        if "ours" in times:
            pairs = zip(counted[1:], times["ours"][1:], strict=True)
            found[name]["ours_is_faster"] = statistics.median(own / our for own, our in pairs)
    return found


def rows(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Measure everything that was asked for, printing each row as it comes."""
    device = arguments.device
    table: list[dict[str, object]] = []
    print(
        f"{'size':<5} {'dtype':<9} {'crops':<11} {'encoder':<13} {'step':>9} "
        f"{'audio':>11} {'of peak':>8} {'ours is':>8}"
    )
    for dtype, size in product(arguments.dtype, arguments.size):
        seconds = arguments.seconds or CROP_S[size]
        settings = chosen_settings(size, dtype)
        sides = {peer: Trainee(peer, settings, device) for peer in PEERS}
        square = torch.randn(PRODUCT[device], PRODUCT[device], device=device)
        square = square.to(getattr(torch, dtype))
        for crops in batches(arguments, size):
            batch = draw_batch(settings.encoder, crops, seconds, device)
            found = take_turns(sides, batch, square, arguments.rounds)
            speed = 2 * len(square) ** 3 / found.pop("product")["step_s"]
            work = crops * encoder_flops(settings.encoder, batch.waveforms.shape[1]).training()
            for peer, result in found.items():
                result["audio_s_per_s"] = crops * seconds / result["step_s"]
                result["share_of_peak"] = work / speed / result["step_s"]
                print(
                    f"{size:<5} {dtype:<9} {f'{crops} x {seconds:g} s':<11} {peer:<13} "
                    f"{result['step_s']:>7.3f} s {result['audio_s_per_s']:>9.1f}/s "
                    f"{result['share_of_peak']:>8.0%} "
                    f"{result.get('ours_is_faster', float('nan')):>7.2f}x",
                    flush=True,
                )
                row: dict[str, object] = {"size": size, "dtype": dtype, "encoder": peer}
                table.append(row | {"crops": crops, "seconds": seconds} | result)
            if "ours" not in found:
                break
    return table


def batches(arguments: argparse.Namespace, size: str) -> list[int]:
    """Return the crops of the batches to measure, each twice the one before on a GPU."""
    if arguments.batch:
        return list(arguments.batch)
    first = BATCHES[size, arguments.device]
    return [first << doubled for doubled in range(10 if arguments.device == "cuda" else 1)]


def chosen_settings(size: str, dtype: str) -> PretrainingSettings:
    """Return a size's settings with products in this dtype.

    Layers are never dropped: it would make steps of different lengths.
    """
    settings = named_settings(size)
    encoder = settings.encoder.model_copy(update={"layer_drop": 0.0})
    optimizer = settings.optimizer.model_copy(update={"bfloat16": dtype == "bfloat16"})
    return settings.model_copy(update={"encoder": encoder, "optimizer": optimizer})


def profile(arguments: argparse.Namespace) -> None:
    """Print what our steps spend their time on."""
    device = arguments.device
    for dtype, size in product(arguments.dtype, arguments.size):
        settings = chosen_settings(size, dtype)
        side = Trainee("ours", settings, device)
        crops, seconds = batches(arguments, size)[0], arguments.seconds or CROP_S[size]
        batch = draw_batch(settings.encoder, crops, seconds, device)
        side.step(batch)
        with torch.profiler.profile() as profiler:
            side.step(batch)
        key = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
        print(f"A step of {size} in {dtype}, {crops} x {seconds:g} s")
        print(profiler.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=50))


def main() -> None:
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", default=list(CROP_S), choices=list(CROP_S))
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, nargs="+", help="crops of a step")
    parser.add_argument("--seconds", type=float, help="length of a crop")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each side that count")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if not given")
    parser.add_argument(
        "--profile", action="store_true", help="print our most expensive operations"
    )
    parser.add_argument("--json", type=Path, help="write the table here as well")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("not measured: PyTorch finds no GPU here")
        sys.exit(1)
    if arguments.profile:
        profile(arguments)
        return
    table = rows(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
