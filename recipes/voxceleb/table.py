"""The table: one's own figures beside published ones."""

from collections.abc import Iterator, Mapping, Sequence

from wavlm_meeting.recipes.results import table_head, table_row
from wavlm_meeting.recipes.voxceleb.trials import Figures
from wavlm_meeting.scoring.verification import VerificationScore

PUBLISHED: dict[str, dict[str, float]] = {
    "ECAPA-TDNN on a filterbank": {"O": 0.87, "E": 1.12, "H": 2.12},
    "HuBERT Large, frozen": {"O": 0.888, "E": 0.912, "H": 1.853},
    "WavLM Large, frozen": {"O": 0.59, "E": 0.65, "H": 1.328},
    "WavLM Large, tuned": {"O": 0.505, "E": 0.579, "H": 1.176},
    "WavLM Large, large margin and calibration": {"O": 0.33, "E": 0.477, "H": 0.984},
}
"""EER in per cent on VoxCeleb1-O, E, H: the table of the WavLM authors' release
(https://github.com/microsoft/UniSpeech), which is that of arXiv 2110.13900 but for the last row's
0.33, where the paper prints 0.383."""


def table(figures: Figures) -> str:
    """Write figures as Markdown: equal error rates, then all else, with 95 % intervals.

    All systems were tried on the same lists.
    """
    names = list(next(iter(figures.values())))
    lines = table_head(["EER, %", *names])
    lines += [table_row([system, *_eers(own, names)]) for system, own in figures.items()]
    for system, rates in PUBLISHED.items():
        if rates.keys() & set(names):
            cells = [f"{rates[name]:g}" if name in rates else "" for name in names]
            lines.append(table_row([f"published: {system}", *cells]))
    titles = ["list", "system", "trials", "minDCF 0.01", "minDCF 0.05", "Cllr", "min Cllr"]
    lines += ["", *table_head(titles)]
    for name in names:
        lines += [table_row(_details(name, system, own[name])) for system, own in figures.items()]
    return "\n".join(lines) + "\n"


def _eers(own: Mapping[str, VerificationScore], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield _with_interval(own[name], "eer", 100.0, 2)


def _details(name: str, system: str, score: VerificationScore) -> list[str]:
    costs = [_with_interval(score, key, 1.0, 3) for key in ("min_dcf_01", "min_dcf_05")]
    # Only the calibrated scores claim to be log-likelihood ratios.
    cllr = _with_interval(score, "cllr", 1.0, 3) if system == "calibrated" else ""
    least = _with_interval(score, "min_cllr", 1.0, 3)
    return [name, system, str(score.targets + score.nontargets), *costs, cllr, least]


def _with_interval(score: VerificationScore, key: str, factor: float, digits: int) -> str:
    text = f"{factor * getattr(score, key):.{digits}f}"
    if key not in score.intervals:
        return text
    low, high = (f"{factor * edge:.{digits}f}" for edge in score.intervals[key])
    return f"{text} ({low} to {high})"
