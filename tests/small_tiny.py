"""A corpus of a few real files and settings of a small model, for tests of the recipe `tiny`."""

import csv
import shutil
from pathlib import Path

SMALL = """
seed = 3
[encoder]
conv_layers = [[32, 400, 160], [16, 3, 2]]
frontend_norm = "layer"
normalize_waveform = true
width = 32
layers = 1
heads = 2
ffn = 32
pre_norm = true
position_kernel = 16
position_groups = 2
[data]
window_s = 4.0
batch = 2
speaker_shares = [0.5, 0.5]
meetings = 0.5
[task]
steps = 3
[pretraining]
crops = 4
noises = 1
frames = 2000
layer = 1
[pretraining.mfcc]
clusters = 8
restarts = 2
[pretraining.units]
clusters = 8
restarts = 2
[pretraining.first]
size = "tiny"
[pretraining.first.encoder]
position_bias = "none"
[pretraining.first.mixing]
probability = 0.0
[pretraining.first.optimizer]
steps = 2
[pretraining.second]
size = "tiny"
[pretraining.second.optimizer]
steps = 2
[separation.head]
layers = 1
width = 16
heads = 2
ffn = 16
kernel = 5
[separation.task]
steps = 2
[separation.batches]
window_s = 2.4
mixtures = 2
[evaluation]
speakers = [2]
conversations = 1
solos = 1
calls = 1
short_s = 10.0
length_s = 12.0
overlap = [0.0, 1.0]
[diarization]
window_s = 4.0
hop_s = 2.0
"""


def lay_out(shared_dir: Path, folder: Path) -> Path:
    """Copy three speakers of each split to `folder`, two utterances each, a noise and a meeting."""
    source, small = shared_dir / "corpus", folder
    with (source / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept: list[dict[str, str]] = []
    for split in ("train", "dev", "test"):
        own = [r for r in rows if r["split"] == split and r["source"] == "commonvoice"]
        names = list(dict.fromkeys(row["speaker"] for row in own))
        several = [n for n in names if sum(r["speaker"] == n for r in own) > 1][:3]
        for name in several:
            kept += [row for row in own if row["speaker"] == name][:2]
        kept += [r for r in rows if r["split"] == split and r["source"] == "esc10"][:1]
        kept += [r for r in rows if r["split"] == split and r["path"].startswith("meetings/")][:1]
    for row in kept:
        target = small / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row["path"], target)
        for kind in (".rttm", ".uem"):
            if (source / row["path"]).with_suffix(kind).exists():
                shutil.copy((source / row["path"]).with_suffix(kind), target.parent)
    with (small / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)
    return small
