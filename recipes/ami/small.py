"""A small corpus, laid out as AMI: the same recipe then runs on it from start to table.

    python -m wavlm_meeting.recipes.ami.small CORPUS OUT

CORPUS is as `recipes/small_conversations.py` says; its `meetings/ami_<meeting>_*.flac` have RTTM
and UEM files beside them. They become the headset mix; the distant microphone is simulated, with a
room's echo and noise.
"""

import argparse
import logging
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import oaconvolve

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.room import Room, room_response
from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.errors import SettingsError, WavLMMeetingError
from wavlm_meeting.formats.rttm import read_rttm, write_rttm
from wavlm_meeting.formats.uem import read_uem, write_uem
from wavlm_meeting.recipes.ami.prepare import AUDIO, SETUP, SPLITS
from wavlm_meeting.recipes.ami.settings import DISTANT, HEADSET
from wavlm_meeting.recipes.small_conversations import lay_out_material, read_lines
from wavlm_meeting.units import SAMPLE_RATE

SPEAKERS = 60
"""Speakers whose speech is copied, to simulate conversations from."""
NOISE_DB = -30.0
"""Level of the distant microphone's noise below the meeting."""

_MEETING = re.compile(r"ami_([A-Z]{2}\d{4}[a-d])_")

log = logging.getLogger(__name__)


def lay_out(corpus: Path, out: Path, speakers: int = SPEAKERS) -> None:
    """Write the tree; raises SettingsError where a split has no meeting."""
    lines = read_lines(corpus)
    meetings: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.kind == "meetings" and (named := _MEETING.search(line.path)):
            meetings[line.split].append(named[1])
            _lay_out_meeting(corpus / line.path, named[1], line.split, out)
    for split in SPLITS:
        if not meetings[split]:
            raise SettingsError(f"{corpus}: no meetings/ami_<meeting>_*.flac of the split {split}.")
        path = out / SETUP / f"lists/{split}.meetings.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in meetings[split]), encoding="utf-8")
    lay_out_material(corpus, out, lines, speakers)
    log.info("%s: %d meetings", out, sum(map(len, meetings.values())))


def _lay_out_meeting(path: Path, meeting: str, split: str, out: Path) -> None:
    samples = read_audio(path)
    folder = out / AUDIO / meeting / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    for microphone, heard in ((HEADSET, samples), (DISTANT, _from_afar(samples, meeting))):
        soundfile.write(folder / f"{meeting}.{microphone}.wav", heard, SAMPLE_RATE)
    setup = out / SETUP
    for kind in ("only_words/rttms", "uems"):
        (setup / kind / split).mkdir(parents=True, exist_ok=True)
    target = setup / f"only_words/rttms/{split}/{meeting}.rttm"
    target.touch()  # nobody may speak
    for annotation in read_rttm(path.with_suffix(".rttm")).values():
        annotation.uri = meeting
        write_rttm(annotation, target)
    for timeline in read_uem(path.with_suffix(".uem")).values():
        timeline.uri = meeting
        write_uem(timeline, setup / f"uems/{split}/{meeting}.uem")


def _from_afar(samples: Samples, meeting: str) -> Samples:
    """Return what a microphone in the middle of the table hears, the same each time."""
    rng = np.random.default_rng(list(meeting.encode()))
    room = Room(0.4, -3.0, tuple(rng.normal(0.0, 3.0, 8).tolist()), int(rng.integers(2**31)))
    wet = oaconvolve(samples, room_response(room))[: len(samples)]
    level = float(np.sqrt(np.mean(np.square(wet)))) * 10 ** (NOISE_DB / 20)
    return (wet + level * rng.standard_normal(len(wet))).clip(-1.0, 1.0).astype(np.float32)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Lay a small corpus out as AMI.")
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
