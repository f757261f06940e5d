"""The probes of frozen encoders measure what they say."""

import csv
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavlm_meeting.errors import FormatError, SettingsError, TrainingError, WavLMMeetingError
from wavlm_meeting.formats.trials import Trials
from wavlm_meeting.heads.layer_mix import LayerMix
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
pytest.importorskip("silero_vad", reason="training needs the extra 'train'")
pytest.importorskip("resemblyzer", reason="training needs the extra 'train'")
pytest.importorskip("torchaudio", reason="training needs the extra 'train'")

from wavlm_meeting.recipes.tiny_pretrain.probe_activity import (
    detection,
    frames_of,
    probe_activity,
)
from wavlm_meeting.recipes.tiny_pretrain.probe_data import ProbeDataSettings, ProbeSet, load_set
from wavlm_meeting.recipes.tiny_pretrain.probe_features import (
    FrameFeatures,
    encode,
    encoder_features,
    fbank_features,
)
from wavlm_meeting.recipes.tiny_pretrain.probe_heads import HeadSettings
from wavlm_meeting.recipes.tiny_pretrain.probe_speaker import (
    SpeakerHead,
    SpeakerProbeSettings,
    moments_of,
    probe_speakers,
)
from wavlm_meeting.recipes.tiny_pretrain.probe_words import probe_words
from wavlm_meeting.recipes.tiny_pretrain.probes import (
    ProbeSettings,
    prepare_probes,
    probe_features,
    run_probes,
)

RATE = 16_000
HOP, FIELD = 640, 880
TRIALS = "trials_test.txt"
SHORT = HeadSettings(steps=150, batch=128, learning_rate=0.01)
SMALL = ProbeSettings(
    data=ProbeDataSettings(
        speaker_utterances=2,
        speaker_s=1.5,
        trials=(TRIALS,),
        trial_s=1.5,
        speakers=(2,),
        conversations=(1, 1, 1),
        conversation_s=12.0,
    ),
    speaker=SpeakerProbeSettings(steps=3, batch=4),
    activity=HeadSettings(steps=3),
    words=HeadSettings(steps=3),
)


@pytest.fixture(scope="module")
def encoder() -> WavLM:
    """Give a very small random encoder."""
    torch.manual_seed(0)
    config = WavLMConfig(
        conv_layers=((16, 400, 160), (16, 4, 4)),
        frontend_norm="layer",
        normalize_waveform=True,
        width=32,
        layers=2,
        heads=2,
        ffn=32,
        pre_norm=True,
        position_kernel=16,
        position_groups=2,
    )
    return WavLM(config)


@pytest.fixture(scope="module")
def corpus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a corpus of few real files: voices, words and a noise in each split, and trials."""
    source, small = shared_dir / "corpus", tmp_path_factory.mktemp("corpus")
    with (source / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept: list[dict[str, str]] = []
    for split in ("train", "dev", "test"):
        for name, speakers, utterances in (("commonvoice", 3, 2), ("speech_commands", 2, 1)):
            own = [r for r in rows if (r["split"], r["source"]) == (split, name)]
            said: dict[str, list[dict[str, str]]] = {}
            for row in own:
                said.setdefault(row["speaker"], []).append(row)
            several = [found for found in said.values() if len(found) >= utterances]
            kept += [row for found in several[:speakers] for row in found[:utterances]]
        kept += [r for r in rows if (r["split"], r["source"]) == (split, "esc10")][:1]
    for row in kept:
        (small / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row["path"], small / row["path"])
    write_manifest(small, kept)
    tried = [r for r in kept if (r["split"], r["source"]) == ("test", "commonvoice")]
    (small / TRIALS).write_text(
        "".join(
            f"{int(a['speaker'] == b['speaker'])} {a['path']} {b['path']}\n"
            for number, a in enumerate(tried)
            for b in tried[:number]
        )
    )
    return small


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write the rows as the manifest of a corpus."""
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def noise_set(lengths: Sequence[int], labels: NDArray[np.generic], seed: int) -> ProbeSet:
    """Give recordings of noise, each unlike all others, with these labels."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(-2000, 2000, sum(lengths)).astype(np.int16)
    return ProbeSet(samples, np.array(lengths), labels)


def noise_like(wave: Tensor, channels: int = 8) -> Tensor:
    """Give random frames (T, C) that are the same each time a waveform is seen."""
    seed = zlib.crc32(wave.numpy().tobytes())
    frames = (len(wave) - FIELD) // HOP + 1
    return torch.randn(frames, channels, generator=torch.Generator().manual_seed(seed))


def features_of(answers: list[tuple[ProbeSet, list[Tensor]]] | None) -> FrameFeatures:
    """Give a state of noise and one that holds the answers (T, C), or, without them, noise too."""
    known = {
        (wave.astype(np.float32) / 32768).tobytes(): answer
        for recordings, own in answers or []
        for wave, answer in zip(recordings.recordings(), own, strict=True)
    }

    def states(waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        waves = [wave[:length] for wave, length in zip(waveforms, lengths.tolist(), strict=True)]
        noise = [noise_like(wave) for wave in waves]
        found = [known[wave.numpy().tobytes()] for wave in waves] if known else noise
        return [pad_sequence(noise, batch_first=True), pad_sequence(found, batch_first=True)]

    return FrameFeatures(states, HOP, FIELD)


def frame_middles(length: int) -> NDArray[np.int64]:
    """Count the middles of frames by hand."""
    return np.array([t * HOP + FIELD // 2 for t in range((length - FIELD) // HOP + 1)])


@pytest.mark.parametrize("planted", [True, False])
def test_speakers_are_found_where_they_are_and_not_in_noise(*, planted: bool) -> None:
    """Voices in the states of speakers never trained on give EER 0; noise gives a half."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((60, 8)).astype(np.float32)
    train = noise_set([9_000] * 90, np.array([f"s{n // 3}" for n in range(90)]), 1)
    paths = [f"{speaker}/{number}" for speaker in range(30, 60) for number in range(4)]
    tried = noise_set(rng.integers(8_000, 12_000, 120).tolist(), np.array(paths), 2)
    whose = {path: int(path.split("/")[0]) for path in paths}
    pairs = [(a, b) for a in paths for b in paths if a < b and rng.random() < 0.2]
    pairs += [(f"{n}/0", f"{n}/{k}") for n in range(30, 60) for k in (1, 2, 3)]
    places = np.array([[paths.index(a), paths.index(b)] for a, b in pairs], np.int32)
    targets = np.array([whose[a] == whose[b] for a, b in pairs])
    trials = Trials(targets, places, tuple(paths))
    answers = None
    if planted:
        answers = [
            (own, [torch.tensor(codes[s]).expand(len(frame_middles(n)), -1) for n, s in spoken])
            for own, spoken in (
                (train, [(9_000, n // 3) for n in range(90)]),
                (tried, [(n, whose[p]) for n, p in zip(tried.lengths, paths, strict=True)]),
            )
        ]
    settings = SpeakerProbeSettings(steps=150, batch=30, learning_rate=0.01, embedding=16)
    rates, shares = probe_speakers(
        features_of(answers), train, tried, {"list": trials}, settings, seed=1
    )
    assert sum(shares) == pytest.approx(1.0)
    if planted:
        assert rates["list"] < 0.01
        assert shares[1] > 0.6
    else:
        assert 0.4 < rates["list"] < 0.6


@pytest.mark.parametrize("planted", [True, False])
def test_speech_and_overlap_are_found_where_they_are(*, planted: bool) -> None:
    """The number of talkers in the states gives F1 1; noise is no better than saying yes always."""
    rng = np.random.default_rng(0)
    length = 8 * RATE
    counts = {
        split: rng.choice(3, p=(0.3, 0.5, 0.2), size=(6, 40)).repeat(length // 40, axis=1)
        for split in ("train", "dev", "test")
    }
    sets = {
        split: noise_set([length] * 6, own[:, 80::160].astype(np.uint8), seed)
        for seed, (split, own) in enumerate(counts.items())
    }
    answers = [
        (sets[split], [torch.tensor(row[frame_middles(length)])[:, None] * 1.0 for row in own])
        for split, own in counts.items()
    ]
    # Three levels in one channel: two thresholds on a line tell them apart.
    features = features_of([(s, [a.expand(-1, 8) for a in own]) for s, own in answers])
    speech, overlap, shares = probe_activity(
        features if planted else features_of(None), sets, SHORT, seed=1
    )
    for kind, least in ((speech, 1), (overlap, 2)):
        share = np.mean([a.numpy() >= least for a in answers[2][1]])
        assert kind.share == pytest.approx(share)
        if planted:
            assert kind.f1 > 0.99
        else:
            assert kind.f1 < 2 * share / (1 + share) + 0.03
    assert (shares[1] > 0.6) == planted


@pytest.mark.parametrize("planted", [True, False])
def test_words_are_found_where_they_are(*, planted: bool) -> None:
    """Words in the states are all right but for those that train lacks; noise gives chance."""
    rng = np.random.default_rng(0)
    known = [f"word {n}" for n in range(8)]
    labels = {split: rng.choice(known, 200) for split in ("train", "dev", "test")}
    labels["test"][:20] = "another"
    lengths = [RATE * n for n in (3, 5, 4, 8)] * 10
    sets = {split: noise_set(lengths, own, n) for n, (split, own) in enumerate(labels.items())}
    answers = []
    for split, own in labels.items():
        codes = torch.tensor([[word == name for name in known] for word in own]).float()
        starts = np.cumsum(lengths) // RATE - np.array(lengths) // RATE
        states = [
            codes[start + torch.from_numpy(frame_middles(length) // RATE)]
            for start, length in zip(starts, lengths, strict=True)
        ]
        answers.append((sets[split], states))
    accuracy, _ = probe_words(features_of(answers if planted else None), sets, SHORT, seed=1)
    if planted:
        assert accuracy == {"dev": 1.0, "test": 0.9}
    else:
        assert accuracy["dev"] < 1 / 8 + 0.1
        assert accuracy["test"] < 1 / 8 + 0.1


def test_the_threshold_comes_from_dev() -> None:
    """What is best on test does not count: the threshold of dev is applied there as it is."""
    dev, test = np.array([False, False, True, True]), np.array([False, True, True, True])
    scores = np.array([0.1, 0.4, 0.6, 0.9], np.float32)
    found = detection(scores, dev, scores, test)
    assert found.f1_dev == 1.0
    assert found.f1 == pytest.approx(2 * 2 / (2 * 2 + 1))  # 0.4 is missed
    assert found.share == 0.75


def test_pooled_moments_are_those_of_the_weighted_sum() -> None:
    """Mean and deviation from moments equal those of the frames, summed and scaled first."""
    recordings = noise_set([20_000, 9_000], np.array(["a", "b"]), 0)
    states = [noise_like(torch.from_numpy(w)) for w in recordings.recordings()]
    wide = [torch.stack([s, s.cumsum(0) + 3, 2 * s.roll(1, 0)]) for s in states]  # (S, T, C)
    order = iter(wide[::-1])  # short ones are encoded first

    def planted(waveforms: Tensor, _: Tensor) -> list[Tensor]:
        batch = pad_sequence([next(order).transpose(0, 1) for _ in waveforms], batch_first=True)
        return list(batch.unbind(2))

    found = moments_of(FrameFeatures(planted, HOP, FIELD), recordings)
    head = SpeakerHead(found, 4)
    head.mix.weights.data = torch.tensor([0.3, -1.0, 1.2])
    with torch.inference_mode():
        pooled = head.pool(found)
        for row, own in zip(pooled, wide, strict=True):
            mix: LayerMix = head.mix
            frames = mix(
                [(x - m) / d for x, m, d in zip(own, head.mean, head.deviation, strict=True)]
            )
            direct = torch.cat([frames.mean(0), frames.std(0, correction=0)])
            torch.testing.assert_close(row, direct, rtol=1e-4, atol=1e-4)


def test_a_recording_is_encoded_as_it_is_alone(encoder: WavLM) -> None:
    """Neighbours in a batch and their lengths change nothing, and every recording comes once."""
    recordings = noise_set([20_000, 9_000, 16_001], np.array([]), 3)
    for features in (encoder_features(encoder.eval()), fbank_features()):
        together = dict(encode(features, recordings))
        assert sorted(together) == [0, 1, 2]
        for number, wave in enumerate(recordings.recordings()):
            alone = ProbeSet(wave, np.array([len(wave)]), np.array([]))
            ((_, states),) = encode(features, alone)
            assert states.shape[1] == (len(wave) - FIELD) // HOP + 1
            torch.testing.assert_close(together[number], states, rtol=1e-4, atol=1e-4)


def test_states_that_are_not_finite_stop_the_probe() -> None:
    """An encoder that has diverged gives no score."""
    broken = FrameFeatures(lambda w, _: [torch.full((len(w), 20, 4), torch.nan)], HOP, FIELD)
    with pytest.raises(TrainingError, match="not finite; probe an earlier checkpoint"):
        list(encode(broken, noise_set([9_000], np.array([]), 0)))


def test_an_encoder_is_probed_on_real_audio(corpus: Path, tmp_path: Path, encoder: WavLM) -> None:
    """All scores lie in range and come again; recordings are made once and shared."""
    encoder.train()
    scores = run_probes(encoder, corpus, tmp_path, SMALL)
    assert encoder.training
    assert set(scores.eer) == {"trials_test"}
    figures = [scores.eer["trials_test"], scores.word_accuracy, scores.word_accuracy_dev]
    figures += [scores.speech.f1, scores.overlap.f1, scores.speech.f1_dev, scores.overlap.f1_dev]
    assert all(0 <= figure <= 1 for figure in figures)
    assert 0.1 <= scores.overlap.share / scores.speech.share <= 0.3
    for shares in scores.layer_shares.values():
        assert len(shares) == 3
        assert sum(shares) == pytest.approx(1.0)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(made) == 8
    assert run_probes(encoder, corpus, tmp_path, SMALL) == scores
    floor = probe_features(fbank_features(), corpus, tmp_path, SMALL)
    assert floor.layer_shares == dict.fromkeys(("speaker", "activity", "words"), (1.0,))
    assert made == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    longer = SMALL.model_copy(update={"data": SMALL.data.model_copy(update={"trial_s": 2.0})})
    prepare_probes(corpus, tmp_path, longer)
    again = {n for n, when in made.items() if (tmp_path / n).stat().st_mtime_ns != when}
    assert again == {"speakers_train.npz", "speakers_trials.npz"}
    assert load_set(tmp_path, "speakers_trials").lengths.max() == 2 * RATE


def test_labels_lie_where_speech_is_heard(corpus: Path, tmp_path: Path) -> None:
    """In conversations without rooms and noise, frames with speech are the loud ones."""
    from sklearn.metrics import roc_auc_score

    dry = SMALL.data.conversation.model_copy(update={"room": 0.0, "noise": 0.0, "telephone": 0.0})
    data = SMALL.data.model_copy(update={"conversation": dry})
    prepare_probes(corpus, tmp_path, SMALL.model_copy(update={"data": data}))
    (energies,), targets = frames_of(fbank_features(), load_set(tmp_path, "conversations_test"))
    assert roc_auc_score(targets[:, 0], energies.float().mean(dim=1)) > 0.95


def test_a_corpus_that_lacks_something_is_refused(corpus: Path, tmp_path: Path) -> None:
    """One line names what to do: manifest, trials, transcripts, words, speakers."""
    work, broken = tmp_path / "work", tmp_path / "corpus"
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    word = next(row for row in rows if row["source"] == "speech_commands")
    cases: list[tuple[list[dict[str, str]], type[WavLMMeetingError], str]] = [
        ([row | {"transcript": ""} for row in rows], SettingsError, "no transcript; write its"),
        ([word | {"transcript": "yes"}], FormatError, "must name one for each second"),
        (
            [row for row in rows if row["source"] != word["source"]],
            SettingsError,
            "lists no recording for words_train; add some",
        ),
    ]
    with pytest.raises(SettingsError, match=r"no manifest\.csv there; give the folder"):
        prepare_probes(tmp_path, work, SMALL)
    shutil.copytree(corpus, broken)
    four = SMALL.data.model_copy(update={"speakers": (4,)})
    with pytest.raises(SettingsError, match="no source has more than 3 speakers"):
        prepare_probes(corpus, work, SMALL.model_copy(update={"data": four}))
    for changed, error, line in cases:
        write_manifest(broken, changed)
        with pytest.raises(error, match=line):
            prepare_probes(broken, work, SMALL)
    (broken / TRIALS).write_text("1 a b\n1 c d\n")
    with pytest.raises(FormatError, match=r"trials_test\.txt: .* needs trials of both kinds"):
        prepare_probes(broken, work, SMALL)
    (broken / TRIALS).unlink()
    with pytest.raises(FormatError, match=r"trials_test\.txt: no such file; check the path"):
        prepare_probes(broken, work, SMALL)
