"""`wavlm-meeting label` as typed: MFCC, a layer of a model, and what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import Command, assert_refused
from wavlm_meeting import load_encoder
from wavlm_meeting.audio import read_audio

pytest.importorskip("lhotse", reason="shards need the extra 'train'")
pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")

from wavlm_meeting.training.shards import read_shards

SMALL = ("--clusters", "8", "--frames", "400")


@pytest.fixture(autouse=True)
def _shards(command: Command, shared_dir: Path) -> None:
    """Write half a minute of real speech into shards."""
    samples = read_audio(shared_dir / "corpus" / "meetings" / "pyannote_sample.flac")
    (command.folder / "speech").mkdir()
    for number, piece in enumerate(np.array_split(samples, 5)):
        soundfile.write(command.folder / "speech" / f"{number}.wav", piece, 16_000)
    assert command("manifest", "speech", "--out", "shards").returncode == 0


def test_every_frame_gets_a_label(command: Command) -> None:
    """MFCC at a model's hop, then its second layer: one label a frame, used as reported."""
    config = load_encoder("tiny").config
    words = ("label", "shards", *SMALL, "--json", "--name")
    for name, of in (
        ("mfcc", ("--hop", str(config.hop))),
        ("units", ("--model", "tiny", "--layer", "2")),
    ):
        answer = command(*words, name, *of)
        assert answer.returncode == 0, answer.stderr
        report = json.loads(answer.stdout)
        labels = [cut.load_custom(name) for cut in read_shards(command.folder / "shards", [name])]
        lengths = [cut.num_samples for cut in read_shards(command.folder / "shards")]
        if name == "units":
            frames = [config.frame_count(length) for length in lengths]
            assert [len(own) for own in labels] == frames
        assert report["frames"] == sum(map(len, labels))
        assert report["used"] == len(np.unique(np.concatenate(labels)))
        assert report["quality"] is None
    table = command("label", "shards", *SMALL, "--name", "units", "--model", "tiny", "--layer", "2")
    assert "units: clusters of tiny, layer 2" in table.stdout


def test_what_does_not_fit_is_one_line(command: Command) -> None:
    """A model without its layer, a layer that is none, labels of something else, no shards."""
    words = ("label", "shards", *SMALL, "--name", "units")
    assert_refused(command(*words, "--model", "tiny"), "--layer")
    assert_refused(command(*words, "--model", "tiny", "--layer", "9"), "layers 0 to 6")
    assert command(*words).returncode == 0
    assert_refused(command(*words, "--hop", "640"), "'units' has 8 clusters of MFCC each 320")
    assert_refused(command("label", "speech", *SMALL, "--name", "units"), "no index")
