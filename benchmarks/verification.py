"""Speaker embeddings and trial lists: ours beside SpeechBrain and transformers, in the same run.

    python benchmarks/verification.py [--rounds 10] [--threads 2] [--trials 10000000]
        [--recordings 5000]

All weights are random, the architectures are the released ones: SpeechBrain's `EncoderClassifier`
is a filterbank, its normalisation and an ECAPA-TDNN of 1,024 channels; transformers'
`WavLMForXVector` has WavLM Base below it. Ours load the peers' weights, and outputs are compared
before anything is timed. Systems take turns, and the median of each one's rounds counts. A trial
list is 10 million random pairs, scored by adaptive s-norm with a cohort of 3,000.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.backend import Backend, Voices
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.normalisation import unit_length

SIZES = {"channels": [1024] * 4 + [3072], "lin_neurons": 192}
CROPS = ((1, 3), (1, 10), (8, 3))
"""(Waveforms in a batch, seconds of each)."""
COHORT, TOP, SIZE = 3000, 300, 256

Embed = Callable[[Tensor], Tensor]


def ecapa() -> tuple[Embed, Embed]:
    """Return the two ways through a filterbank and ECAPA-TDNN."""
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    filterbank = Fbank(n_mels=80)
    normalize = InputNormalization(norm_type="sentence", std_norm=False)
    network = ECAPA_TDNN(80, **SIZES).eval()

    def theirs(waveforms: Tensor) -> Tensor:
        whole = torch.ones(len(waveforms))
        return network(normalize(filterbank(waveforms), whole), whole)[:, 0]

    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "embedding_model.ckpt")
        (Path(folder) / "hyperparams.yaml").touch()
        return load_speaker_model(folder), theirs


def xvector() -> tuple[Embed, Embed]:
    """Return the two ways through WavLM Base and an x-vector head."""
    from transformers import WavLMConfig, WavLMForXVector

    network = WavLMForXVector(WavLMConfig(use_weighted_layer_sum=True)).eval()
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        ours = load_speaker_model(folder)
    return ours, lambda waveforms: network(waveforms).embeddings


def compare(name: str, ours: Embed, theirs: Embed, rounds: int) -> None:
    """Time both on each kind of batch, and print embeddings per second."""
    for batch, seconds in CROPS:
        waveforms = 0.1 * torch.randn(batch, seconds * SAMPLE_RATE)
        difference = torch.nn.functional.cosine_similarity(ours(waveforms), theirs(waveforms))
        took: list[list[float]] = [[], []]
        for _ in range(rounds):
            for own, system in zip(took, (ours, theirs), strict=True):
                started = time.perf_counter()
                system(waveforms)
                own.append(time.perf_counter() - started)
        own, other = (batch / statistics.median(each) for each in took)
        print(
            f"{name}, {batch} x {seconds} s: {own:.2f} embeddings a second, peer {other:.2f}: "
            f"{own / other:.2f}x (cosine of outputs {float(difference.min()):.6f})",
            flush=True,
        )


def score_list(trials: int, recordings: int) -> None:
    """Score random trials with s-norm, and print seconds and the peak of memory."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((recordings, SIZE), dtype=np.float32)
    cohort = unit_length(rng.standard_normal((COHORT, SIZE), dtype=np.float32))[0]
    pairs = rng.integers(0, recordings, (trials, 2)).astype(np.int32)
    backend = Backend("", TOP, cohort)
    started = time.perf_counter()
    voices = backend.describe(Voices(embeddings, rng.uniform(2, 20, recordings)))
    described = time.perf_counter()
    backend.normalised(voices, voices, pairs)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{trials} trials of {recordings} recordings, cohort {COHORT}: {ended - started:.1f} s "
        f"({described - started:.1f} s of it for the recordings), peak {peak:.2f} GiB"
    )


@torch.inference_mode()
def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, default=10_000_000)
    parser.add_argument("--recordings", type=int, default=5000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    # The list first: what is loaded for the others would count as its memory.
    score_list(options.trials, options.recordings)
    compare("ECAPA-TDNN of 1,024 channels", *ecapa(), options.rounds)
    compare("x-vector on WavLM Base", *xvector(), max(2, options.rounds // 3))


if __name__ == "__main__":
    main()
