"""Speed and memory of WavLM Base: this project, transformers and torchaudio in one run.

    python benchmarks/encoder.py [--seconds 5 15 60 300] [--batch 1] [--dtype float32 bfloat16]
                                 [--device cpu|cuda] [--threads N] [--json PATH]

Weights are random, since they change no timing. Every measurement runs in a process of its own,
so that its peak memory is its own: the largest resident size on a CPU, which includes PyTorch and
the weights, or the memory allocated on a GPU. The floor is what the architecture's products and
convolutions would take at the speed of a large matrix product, measured in the same run. Needs
`transformers` and `torchaudio`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import BASE
from wavlm_meeting.wavlm.flops import encoder_flops
from wavlm_meeting.wavlm.model import WavLM

PEERS = ("ours", "transformers", "torchaudio")
PEER_LIMIT_S = 120.0
"""Longer inputs are not given to the peers: their (heads, T, T) tensors, several a layer at once,
would take tens of GB at 300 s."""
BATCH_ON_GPU = (32, 15.0)
MIN_RUNS, MAX_RUNS, TIME_BUDGET_S = 3, 15, 20.0


def build(peer: str) -> Callable[[torch.Tensor], object]:
    """Build WavLM Base of a peer; in all of them the result holds every hidden state."""
    if peer == "ours":
        return WavLM(BASE)
    if peer == "transformers":
        from transformers import WavLMConfig as TheirConfig
        from transformers import WavLMModel

        return WavLMModel(TheirConfig(output_hidden_states=True))
    from torchaudio.models import wavlm_base

    return _AllLayers(wavlm_base())


class _AllLayers(torch.nn.Module):
    """torchaudio's way to all hidden states."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveforms: torch.Tensor) -> object:
        return self.model.extract_features(waveforms)


def measure(peer: str, seconds: float, batch: int, dtype: str, device: str) -> dict[str, float]:
    """Time one model here, in this process."""
    torch.manual_seed(0)
    model = build(peer).eval().to(device)
    half = getattr(torch, dtype)
    waveforms = torch.randn(batch, int(seconds * SAMPLE_RATE), device=device)
    if half != torch.float32:
        model.to(half)
        waveforms = waveforms if peer == "ours" else waveforms.to(half)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        once = timed(lambda: model(waveforms), device)
        runs = min(MAX_RUNS, max(MIN_RUNS, int(TIME_BUDGET_S / once)))
        times = [timed(lambda: model(waveforms), device) for _ in range(runs)]
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(times), "fastest": min(times), "peak_gb": peak / 1e9}


def timed(run: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def product_speed(dtype: str, device: str) -> dict[str, float]:
    """Measure operations per second of a large matrix product."""
    size = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device).to(getattr(torch, dtype))
    times = [timed(lambda: a @ b, device) for _ in range(8)]
    return {"flops_per_s": 2.0 * size**3 / min(times)}


def in_own_process(*arguments: object) -> dict[str, float] | str:
    """Run a measurement in a fresh process; a failure gives its last line."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def cpu_lacks(dtype: str) -> bool:
    """Tell whether the CPU has no instructions for this half, so that timings say nothing."""
    kind = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype)
    if kind is None:
        return False
    flags = Path("/proc/cpuinfo")
    text = flags.read_text(encoding="utf-8") if flags.exists() else ""
    return not any(name in text for name in (f"avx512_{kind}", f"amx_{kind}", f"avx10_{kind}"))


def rows(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Measure everything that was asked for, printing each row as it comes."""
    device = arguments.device
    inputs = [(arguments.batch, seconds) for seconds in arguments.seconds]
    if device == "cuda":
        inputs.append(BATCH_ON_GPU)
    table: list[dict[str, object]] = []
    for dtype in arguments.dtype:
        if device == "cpu" and cpu_lacks(dtype) and not arguments.force:
            print(f"{dtype}: skipped, this CPU has no instructions for it (--force to run)")
            continue
        speed = in_own_process("product", dtype, device)
        if isinstance(speed, str):
            print(f"{dtype}: {speed}")
            continue
        print(f"{dtype} on {device}: a product runs at {speed['flops_per_s'] / 1e9:.0f} GFLOP/s")
        print(f"{'input':>12} {'model':<13} {'median':>9} {'ours is':>8} {'peak':>8} {'floor':>6}")
        for batch, seconds in inputs:
            work = batch * encoder_flops(BASE, int(seconds * SAMPLE_RATE)).total
            least = work / speed["flops_per_s"]
            ours = None
            for peer in PEERS:
                label = f"{batch} x {seconds:g} s"
                row: dict[str, object] = {"input": label, "model": peer, "dtype": dtype}
                result: dict[str, float] | str
                if peer != "ours" and seconds > PEER_LIMIT_S:
                    result = f"skipped: its bias tensors need too much memory at {seconds:g} s"
                else:
                    result = in_own_process(peer, seconds, batch, dtype, device)
                if isinstance(result, str):
                    print(f"{label:>12} {peer:<13} {result}", flush=True)
                    table.append(row | {"problem": result})
                    continue
                ours = result["seconds"] if peer == "ours" else ours
                ratio = result["seconds"] / ours if ours else float("nan")
                share = least / result["seconds"]
                print(
                    f"{label:>12} {peer:<13} {result['seconds']:>7.2f} s {ratio:>7.2f}x "
                    f"{result['peak_gb']:>5.2f} GB {share:>6.0%}",
                    flush=True,
                )
                table.append(row | result | {"ours_is_faster": ratio, "share_of_floor": share})
    return table


def main() -> None:
    """Read the options and print the table."""
    if sys.argv[1:2] == ["--one"]:
        peer, *rest = sys.argv[2:]
        if peer == "product":
            print(json.dumps(product_speed(*rest)))
        else:
            seconds, batch, dtype, device = rest
            print(json.dumps(measure(peer, float(seconds), int(batch), dtype, device)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[5, 15, 60, 300])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if not given")
    parser.add_argument("--force", action="store_true", help="time halves the CPU has to emulate")
    parser.add_argument("--json", type=Path, help="write the table here as well")
    arguments = parser.parse_args()
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(arguments.threads)
    table = rows(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
