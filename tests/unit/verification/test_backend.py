"""Scores, s-norm and log-likelihood ratios: laws, slow versions, and what calibration is worth."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from wavlm_meeting.errors import CheckpointError, SettingsError, TrainingError
from wavlm_meeting.scoring.verification import cllr, min_cllr
from wavlm_meeting.verification.backend import (
    BACKEND,
    Backend,
    BackendSettings,
    Voices,
    backend_of,
    fit_backend,
    load_backend,
    plain_backend,
    probability,
    quality_measures,
    save_backend,
)
from wavlm_meeting.verification.calibration import fit_calibration
from wavlm_meeting.verification.normalisation import cohort_statistics, make_cohort, unit_length

SIZE = 24
MODEL = "a" * 64


def recordings(
    people: int, each: int, seed: int, spread: tuple[float, float] = (0.6, 0.6)
) -> tuple[Voices, NDArray[np.int64]]:
    """Draw recordings: the noisier, the shorter, as real ones are; `owner` says of whom."""
    rng = np.random.default_rng(seed)
    owner = np.arange(people).repeat(each)
    noise = rng.uniform(*spread, len(owner))
    voices = rng.standard_normal((people, SIZE))[owner]
    voices = voices + noise[:, None] * rng.standard_normal((len(owner), SIZE))
    # Channels shift all voices alike, so that cosines of strangers lie above 0.
    voices = voices + 0.5
    return Voices(voices.astype(np.float32), 4.0 / noise**2), owner


def trials(owner: NDArray[np.int64], seed: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Draw pairs of recordings, the targets all there are."""
    first, second = np.triu_indices(len(owner), 1)
    targets = owner[first] == owner[second]
    kept = targets | (np.random.default_rng(seed).random(len(targets)) < 0.1)
    return targets[kept], np.stack([first, second], axis=1)[kept]


@pytest.fixture(scope="module")
def cohort() -> NDArray[np.float32]:
    """Give the voices of 60 people."""
    voices, owner = recordings(60, 4, seed=1)
    return make_cohort(voices.embeddings, [f"{number:03}" for number in owner])


@pytest.fixture(scope="module")
def fitted(cohort: NDArray[np.float32]) -> Backend:
    """Give a backend with all there is."""
    voices, owner = recordings(80, 5, seed=2, spread=(0.3, 1.6))
    settings = BackendSettings(top=20)
    return fit_backend(MODEL, cohort, voices, *trials(owner, 3), settings)


def test_a_cohort_is_the_mean_direction_of_each_speaker() -> None:
    """However loud or many a speaker's recordings are, in the order of the names."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((6, 5)).astype(np.float32)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = np.stack([units[[1, 4]].mean(axis=0), units[[0, 2, 3, 5]].mean(axis=0)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = make_cohort(embeddings * rng.uniform(0.1, 9, (6, 1)).astype(np.float32), list("babbab"))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_s_norm_equals_its_formula(cohort: NDArray[np.float32]) -> None:
    """Trial by trial, with sorted cohort scores; more recordings and trials than fit a block."""
    rng = np.random.default_rng(5)
    voices = Voices(rng.standard_normal((4200, SIZE)).astype(np.float32), np.ones(4200))
    backend = Backend(MODEL, 20, cohort)
    enrol, test = backend.describe(voices), backend.describe(recordings(10, 3, 6)[0])
    pairs = np.stack([rng.integers(0, 4200, 9000), rng.integers(0, 30, 9000)], axis=1)
    found = backend.normalised(enrol, test, pairs)
    for place in (0, 1, 2047, 2048, 8999):
        left, right = enrol.units[pairs[place, 0]], test.units[pairs[place, 1]]
        score, halves = float(left @ right), []
        for side in (left, right):
            closest = np.sort((cohort @ side).astype(np.float64))[-20:]
            halves.append((score - closest.mean()) / closest.std())
        assert found[place] == pytest.approx(np.mean(halves), abs=1e-4)
        assert backend.cosine(enrol, test, pairs)[place] == pytest.approx(score, abs=1e-6)


def test_a_small_cohort_counts_whole(cohort: NDArray[np.float32]) -> None:
    """`top` may exceed it; one voice over and over leaves scores finite."""
    units, _ = unit_length(recordings(4, 2, 7)[0].embeddings)
    whole = cohort_statistics(units, cohort, 1000)
    np.testing.assert_allclose(whole[0], (units @ cohort.T).mean(axis=1), atol=1e-6)
    means, deviations = cohort_statistics(units, cohort[[0, 0, 0]], 300)
    assert np.isfinite(means).all()
    assert (deviations > 0).all()


def test_a_part_of_the_cohort_is_whitened_by_all(cohort: NDArray[np.float32]) -> None:
    """What a file keeps are whole rows, from the first to the last; more than all are all."""
    whole = plain_backend(MODEL, cohort, BackendSettings(whitening=0.5))
    part = plain_backend(MODEL, cohort, BackendSettings(whitening=0.5, kept=5))
    assert whole.cohort is not None
    assert part.cohort is not None
    places = np.linspace(0, len(cohort) - 1, 5).round().astype(int)
    np.testing.assert_array_equal(part.cohort, whole.cohort[places])
    beyond = BackendSettings(whitening=0.5, kept=len(cohort) + 1)
    more = plain_backend(MODEL, cohort, beyond).cohort
    np.testing.assert_array_equal(more, whole.cohort)


def test_every_score_is_the_same_both_ways(fitted: Backend) -> None:
    """It does not matter who is enrolled and who is tested, nor how loud an embedding's twin is."""
    described = fitted.describe(recordings(6, 3, 8)[0])
    _, pairs = trials(np.arange(18), 9)
    for score in (fitted.cosine, fitted.normalised, fitted.log_likelihood_ratio):
        np.testing.assert_allclose(
            score(described, described, pairs),
            score(described, described, pairs[:, ::-1]),
            atol=1e-12,
        )
    louder = Voices(*(2 * each for each in (recordings(6, 3, 8)[0].embeddings, np.ones(18))))
    again = fitted.describe(louder)
    np.testing.assert_allclose(
        fitted.normalised(described, described, pairs),
        fitted.normalised(again, again, pairs),
        atol=1e-9,
    )


def test_calibration_finds_the_truth() -> None:
    """Scores that are LLRs, scaled and shifted, become LLRs again; useless measures weigh nothing.

    However few the targets are among the trials.
    """
    rng = np.random.default_rng(0)
    targets = rng.random(100_000) < 0.1
    llrs = np.where(targets, 4.5, -4.5) + 3.0 * rng.standard_normal(len(targets))
    measures = rng.standard_normal((len(targets), 2))
    for prior in (0.5, 0.05):
        found = fit_calibration(0.05 * llrs + 0.3, measures, targets, prior)
        assert found.weight == pytest.approx(20.0, rel=0.05)
        assert found.offset == pytest.approx(-6.0, rel=0.05)
        np.testing.assert_allclose(found.measure_weights, 0.0, atol=0.08)
        calibrated = found(0.05 * llrs + 0.3, measures)
        assert cllr(targets, calibrated) < min_cllr(targets, llrs) + 0.002
        # The empirical threshold lets as many strangers in as was asked for, new ones too.
        fresh = 3.0 * rng.standard_normal(100_000) - 4.5
        accepted = found(0.05 * fresh + 0.3, measures) >= found.threshold(0.01)
        assert accepted.mean() == pytest.approx(0.01, rel=0.1)


def test_quality_measures_are_worth_something(cohort: NDArray[np.float32]) -> None:
    """Where recordings are of unequal quality, LLRs of others cost less than by score alone."""
    voices, owner = recordings(80, 5, seed=2, spread=(0.3, 1.6))
    targets, pairs = trials(owner, 3)
    fresh, fresh_owner = recordings(80, 5, seed=12, spread=(0.3, 1.6))
    fresh_targets, fresh_pairs = trials(fresh_owner, 13)
    costs = {}
    for name, speech_s in (("known", voices.speech_s), ("unknown", np.ones(len(owner)))):
        backend = fit_backend(
            MODEL,
            cohort,
            Voices(voices.embeddings, speech_s),
            targets,
            pairs,
            BackendSettings(top=20),
        )
        described = backend.describe(fresh)
        llrs = backend.log_likelihood_ratio(described, described, fresh_pairs)
        costs[name] = cllr(fresh_targets, llrs)
        scores = backend.normalised(described, described, fresh_pairs)
    own = backend.describe(voices)
    alone = fit_calibration(
        backend.normalised(own, own, pairs), np.empty((len(pairs), 0)), targets, 0.5
    )
    costs["score alone"] = cllr(fresh_targets, alone(scores, np.empty((len(scores), 0))))
    assert costs["known"] < 0.97 * costs["score alone"]
    assert costs["unknown"] < costs["score alone"]


def test_measures_are_taken_from_both_sides(fitted: Backend) -> None:
    """Lower and higher of lengths, log durations and cohort means."""
    voices = Voices(np.array([[3.0] * SIZE, [1.0] * SIZE], np.float32), np.array([2.0, 8.0]))
    described = fitted.describe(voices)
    (row,) = quality_measures(described, described, np.array([[0, 1]]))
    root = np.sqrt(SIZE)
    np.testing.assert_allclose(row[:4], [root, 3 * root, np.log(2), np.log(8)], rtol=1e-6)
    assert row[4] == pytest.approx(row[5])


def test_what_calibration_has_not_seen_is_bounded(fitted: Backend) -> None:
    """A recording of hours, or of nothing, counts as the longest or shortest that it knows."""
    voices, _ = recordings(4, 2, 20)
    pairs = np.array([[0, 1], [0, 7]])
    long, longer, none = (
        fitted.describe(Voices(voices.embeddings, np.full(8, seconds)))
        for seconds in (1e3, 1e9, 0.0)
    )
    found = [fitted.log_likelihood_ratio(each, each, pairs) for each in (long, longer, none)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.isfinite(found[2]).all()


def test_thresholds_rise_as_rates_fall(fitted: Backend) -> None:
    """They never fall, and beyond what is known none is above the bound of likelihood ratios."""
    assert fitted.calibration is not None
    rates = np.geomspace(1e-9, 0.999, 400)
    thresholds = [fitted.threshold(rate) for rate in rates]
    assert (np.diff(thresholds) <= 1e-9).all()
    least = fitted.calibration.rates[0]
    assert 1e-4 < least < 0.01
    assert fitted.threshold(least) < fitted.threshold(least / 1000) <= np.log(1000 / least)
    few = fit_calibration(
        np.array([0.0, 1, 0.2, 2]), np.empty((4, 0)), np.array([0, 1] * 2) > 0, 0.5
    )
    assert few.threshold(0.05) == pytest.approx(np.log(20))
    for rate in (0.0, 1.0, -1.0, 2.0, np.nan):
        with pytest.raises(SettingsError, match="give one between 0 and 1"):
            fitted.threshold(rate)


@pytest.mark.parametrize("tail", ["exponential", "gaussian"])
def test_rates_that_were_not_seen(tail: str) -> None:
    """A rate that 3,000 strangers are too few for is kept by a million others, and not for naught.

    Of an exponential tail about so many are let in; of a Gaussian one, which falls faster, fewer.
    """
    rng = np.random.default_rng(11)
    draw = rng.standard_exponential if tail == "exponential" else rng.standard_normal
    scores = np.concatenate([draw(3000), 6.0 + rng.standard_normal(500)])
    none = np.empty((len(scores), 0))
    found = fit_calibration(scores, none, np.arange(len(scores)) >= 3000, 0.5)
    strangers = found(draw(1_000_000), np.empty((1_000_000, 0)))
    for rate in (0.004, 0.001):
        assert rate < found.rates[0]
        accepted = np.mean(strangers >= found.threshold(rate))
        assert rate / 12 < accepted < 2 * rate
        if tail == "exponential":
            assert accepted > rate / 2


def test_probability() -> None:
    """Bayes: an LLR of 0 leaves the prior, odds multiply, nothing overflows."""
    assert probability(0.0, 0.3) == pytest.approx(0.3)
    assert probability(np.log(9.0), 0.5) == pytest.approx(0.9)
    assert probability(np.log(99.0), 0.01) == pytest.approx(0.5)
    assert (probability(-1e4, 0.5), probability(1e4, 0.5)) == (0.0, 1.0)
    for prior in (0.0, 1.0):
        with pytest.raises(SettingsError, match="give one between 0 and 1"):
            probability(1.0, prior)


def test_trials_that_allow_no_calibration() -> None:
    """One kind alone, or scores that say the opposite."""
    scores, measures = np.arange(40.0), np.empty((40, 0))
    with pytest.raises(TrainingError, match="of one speaker and of two; add some"):
        fit_calibration(scores, measures, scores < 99, 0.5)
    with pytest.raises(TrainingError, match="check their labels"):
        fit_calibration(scores, measures, scores < 20, 0.5)


def test_perfect_scores_leave_the_calibration_finite() -> None:
    """Kinds that fall apart would make an unbounded weight."""
    scores = np.array([0.0, 0.1, 5.0, 5.1])
    found = fit_calibration(scores, np.empty((4, 0)), scores > 1, 0.5)
    assert 0 < found.weight < 10


def test_what_a_backend_lacks_is_named(cohort: NDArray[np.float32]) -> None:
    """Cosine alone works always; the rest says how to get it."""
    voices, owner = recordings(12, 3, 30)
    targets, pairs = trials(owner, 31)
    bare = Backend(MODEL, 300)
    described = bare.describe(voices)
    assert bare.cosine(described, described, pairs).shape == (len(pairs),)
    with pytest.raises(SettingsError, match=r"s-norm needs a cohort.*or take the cosine"):
        bare.normalised(described, described, pairs)
    for backend in (bare, Backend(MODEL, 300, cohort)):
        with pytest.raises(SettingsError, match=r"need a calibration.*take the score alone"):
            backend.log_likelihood_ratio(described, described, pairs)
        with pytest.raises(SettingsError, match="need a calibration"):
            backend.threshold(0.01)
    without = fit_backend(MODEL, None, voices, targets, pairs)
    llrs = without.log_likelihood_ratio(described, described, pairs)
    assert llrs[targets].mean() > 0 > llrs[~targets].mean()


def test_embeddings_that_are_none_are_refused(cohort: NDArray[np.float32]) -> None:
    """Zero, not finite, or of another model's size."""
    backend, seconds = Backend(MODEL, 20, cohort), np.ones(2)
    for value in (0.0, np.nan, np.inf):
        embeddings = np.ones((2, SIZE), np.float32)
        embeddings[1] = value
        with pytest.raises(SettingsError, match="embedding 2 of 2 is zero or not finite"):
            backend.describe(Voices(embeddings, seconds))
    with pytest.raises(SettingsError, match="have 7 numbers, the backend's have 24"):
        backend.describe(Voices(np.ones((2, 7), np.float32), seconds))


@pytest.mark.parametrize("kind", ["whole", "no cohort", "cohort alone", "bare"])
def test_a_backend_comes_back(
    tmp_path: Path, fitted: Backend, cohort: NDArray[np.float32], kind: str
) -> None:
    """With equal scores, bit by bit; and nothing but the file is left."""
    voices, owner = recordings(12, 3, 40)
    targets, pairs = trials(owner, 41)
    backend = {
        "whole": fitted,
        "no cohort": fit_backend(MODEL, None, voices, targets, pairs),
        "cohort alone": plain_backend(MODEL, cohort, BackendSettings(top=7)),
        "bare": Backend(MODEL, 300),
    }[kind]
    path = tmp_path / BACKEND
    save_backend(path, backend)
    back = load_backend(path, MODEL)
    assert [each.name for each in tmp_path.iterdir()] == [BACKEND]
    assert (back.model_sha256, back.top) == (MODEL, backend.top)
    scores = {
        "whole": Backend.log_likelihood_ratio,
        "no cohort": Backend.log_likelihood_ratio,
        "cohort alone": Backend.normalised,
        "bare": Backend.cosine,
    }[kind]
    found = [scores(each, *[each.describe(voices)] * 2, pairs) for each in (backend, back)]
    np.testing.assert_array_equal(*found)
    if backend.calibration is not None:
        assert back.threshold(0.02) == backend.threshold(0.02)


def test_the_backend_of_another_model_is_refused(tmp_path: Path, fitted: Backend) -> None:
    """Its scores would mean nothing; files that are none are refused as well."""
    path = tmp_path / BACKEND
    save_backend(path, fitted)
    with pytest.raises(CheckpointError, match=r"made for the model aaaaaaaaaaaa\.\.\., not for bb"):
        load_backend(path, "b" * 64)
    assert load_backend(path).model_sha256 == MODEL
    with pytest.raises(CheckpointError, match="no such file; name a backend"):
        load_backend(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_backend(tmp_path / "cut.safetensors")
    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no backend of this version; make it again"):
        load_backend(tmp_path / "other.safetensors")


def test_the_backend_lies_with_its_model(tmp_path: Path, fitted: Backend) -> None:
    """In a model's folder, or beside a model's file."""
    assert backend_of(tmp_path) is None
    save_backend(tmp_path / BACKEND, fitted)
    (tmp_path / "model.pth").write_bytes(b"")
    assert backend_of(tmp_path) == tmp_path / BACKEND
    assert backend_of(tmp_path / "model.pth") == tmp_path / BACKEND


def test_memory_does_not_grow_with_the_trials() -> None:
    """Many trials need little more than their scores: vectors are gathered block by block."""
    code = """
import resource
import numpy as np
from wavlm_meeting.verification.normalisation import cosines
units = np.ones((100, 256), np.float32)
pairs = np.zeros((300_000, 2), np.int32)
cosines(units, units, pairs[:10])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cosines(units, units, pairs)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) < 60_000  # KiB; the vectors alone would be 600 MB
