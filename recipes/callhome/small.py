"""A small corpus, laid out as CALLHOME: the same recipe then runs on it from start to table.

    python -m wavlm_meeting.recipes.callhome.small CORPUS OUT

CORPUS is as `recipes/small_conversations.py` says. Calls of two and more of its labelled speakers
are simulated at 8 kHz in mu-law, in SPHERE files as LDC's: of dev speakers for part 1, of test
speakers for part 2. Training speech lies in `speech/`, for the mixtures.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import soundfile
import soxr
from pyannote.core import Annotation, Segment

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.simulate import (
    ConversationSettings,
    Samples,
    Utterance,
    draw_conversation,
    render,
)
from wavlm_meeting.errors import SettingsError, WavLMMeetingError
from wavlm_meeting.formats.rttm import write_rttm
from wavlm_meeting.recipes.callhome.prepare import PARTS, REFERENCE
from wavlm_meeting.recipes.small_conversations import Line, lay_out_material, read_lines
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.speech import FRAME, speech_of

RATE = 8_000
SPEAKERS = 60
"""Speakers whose speech is copied, to simulate mixtures from."""
COUNTS = (2, 2, 2, 3, 3, 4)
"""Numbers of speakers of the calls, over and over; two is the most frequent in CALLHOME."""
SETTINGS = ConversationSettings(telephone=1.0, one_channel=0.5, noise=0.0, turn_s=2.5)
SPLITS = ("dev", "test")
"""Whose speakers are in part 1 and in part 2."""

log = logging.getLogger(__name__)


def lay_out(
    corpus: Path, out: Path, calls: int = 12, length_s: float = 60.0, speakers: int = SPEAKERS
) -> None:
    """Write the tree with so many calls in each part; raises SettingsError for too few speakers."""
    lines = read_lines(corpus)
    key = out / "sre2000-key"
    key.mkdir(parents=True, exist_ok=True)
    texts = []
    for part, (split, name) in enumerate(zip(SPLITS, PARTS, strict=True)):
        waves, voices = _voices(corpus, lines, split)
        if len(voices) < max(COUNTS):
            raise SettingsError(f"{corpus}: {len(voices)} speakers of {split}; give {max(COUNTS)}.")
        paths = []
        for number in range(calls):
            call = f"i{'ab'[part]}{number:02d}"
            paths.append(out / f"LDC2001S97/data/eng/{call}.sph")
            reference = _write_call(
                paths[-1], waves, voices, COUNTS[number % len(COUNTS)], length_s, (part, number)
            )
            write_rttm(reference, key / REFERENCE)
            texts.append((key / REFERENCE).read_text(encoding="utf-8"))
        scp = out / name
        scp.parent.mkdir(parents=True, exist_ok=True)
        listed = "".join(f"{path.stem} sph2pipe -f wav -p {path} |\n" for path in paths)
        scp.write_text(listed, encoding="utf-8")
    (key / REFERENCE).write_text("".join(texts), encoding="utf-8")
    lay_out_material(corpus, out, lines, speakers)
    log.info("%s: %d calls", out, len(texts))


def _voices(
    corpus: Path, lines: list[Line], split: str
) -> tuple[list[Samples], dict[str, list[Utterance]]]:
    """Return speech of a split, and its speakers."""
    waves: list[Samples] = []
    voices: dict[str, list[Utterance]] = {}
    for line in lines:
        if line.kind != "speech" or line.split != split or not line.speaker:
            continue
        wave = read_audio(corpus / line.path)
        frames = np.concatenate([[False], speech_of(wave).frames, [False]])
        edges = np.flatnonzero(np.diff(frames.astype(np.int8))).reshape(-1, 2) * FRAME
        if len(edges):
            spans = tuple((int(start), int(end)) for start, end in edges)
            utterance = Utterance(len(waves), line.speaker, spans)
            voices.setdefault(line.speaker, []).append(utterance)
            waves.append(wave)
    return waves, voices


def _write_call(
    path: Path,
    waves: list[Samples],
    voices: dict[str, list[Utterance]],
    count: int,
    length_s: float,
    seed: tuple[int, int],
) -> Annotation:
    """Write a call and return who speaks when."""
    rng = np.random.default_rng(seed)
    names = rng.choice(sorted(voices), count, replace=False).tolist()
    plan = draw_conversation(
        rng, {name: voices[name] for name in names}, int(length_s * SAMPLE_RATE), SETTINGS
    )
    heard = soxr.resample(render(plan, waves.__getitem__), SAMPLE_RATE, RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, heard.clip(-1.0, 1.0), RATE, format="NIST", subtype="ULAW")
    reference = Annotation(uri=path.stem)
    for track, (start, end, name) in enumerate(plan.turns()):
        letter = "ABCDEFGH"[names.index(name)]  # the key names the voices of a call so
        reference[Segment(start / SAMPLE_RATE, end / SAMPLE_RATE), track] = letter
    return reference.support()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Lay a small corpus out as CALLHOME.")
    parser.add_argument("corpus", type=Path, help="folder with manifest.csv")
    parser.add_argument("out", type=Path, help="folder for the tree")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        lay_out(chosen.corpus, chosen.out)
    except WavLMMeetingError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
