"""A few speakers of the shared corpus, in its own form, for tests of the recipe `voxceleb`."""

import csv
from pathlib import Path

BACKEND_ALONE = """
start = "tiny"
resamples = 0
[data]
held_out = 4
workers = 1
lists = {test = "trials_test_cv.txt"}
[cohort]
speakers = 8
utterances = 1
[calibration]
recordings = 4
trials = 300
[backend]
top = 4
whitening = 0.5
"""
"""Settings of the recipe that give `tiny` a backend from such a corpus."""


def small_corpus(folder: Path, corpus: Path) -> Path:
    """Make a corpus of few speakers of the shared one: links, a manifest, lists and a room."""
    with (corpus / "manifest.csv").open(newline="") as file:
        table = csv.DictReader(file)
        keys, lines = table.fieldnames or (), list(table)
    sessions: dict[str, set[str]] = {}
    for line in lines:
        if line["source"] == "commonvoice":
            sessions.setdefault(line["speaker"], set()).add(line["session"])
    several = [name for name, own in sessions.items() if len(own) > 1]
    training = [line for line in lines if line["split"] == "train"]
    voices = {line["speaker"] for line in training if line["speaker"] in several}
    readers = {line["speaker"] for line in training if line["source"] == "librispeech"}
    chosen = {*sorted(voices)[:8], *sorted(readers)[:3]}
    trials = {}
    for name in ("trials_dev_cv.txt", "trials_test_cv.txt"):
        listed = [line.split() for line in (corpus / name).read_text().splitlines()]
        hits = [line for line in listed if line[0] == "1"][:6]
        people = {Path(path).parent for line in hits for path in line[1:]}
        others = [
            line
            for line in listed
            if line[0] == "0" and {Path(line[1]).parent, Path(line[2]).parent} & people
        ]
        trials[name] = hits + others[:12]
    tried = {path for listed in trials.values() for line in listed for path in line[1:]}
    first = {}
    for line in training:
        kind = line["path"].split("/")[0]
        if kind in ("noise", "rir"):
            first.setdefault((kind, line["source"]), line["path"])
    kept = [
        line
        for line in lines
        if line["path"] in tried
        or line["path"] in first.values()
        or (line["split"] == "train" and line["speaker"] in chosen)
    ]
    for line in kept:
        target = folder / line["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(corpus / line["path"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        written = csv.DictWriter(file, keys)
        written.writeheader()
        written.writerows(kept)
    for name, listed in trials.items():
        (folder / name).write_text("".join(" ".join(line) + "\n" for line in listed))
    return folder
