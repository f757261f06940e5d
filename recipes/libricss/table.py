"""The tables: one's own figures beside published ones."""

from collections.abc import Mapping

from wavlm_meeting.recipes.libricss.simulated import Figures
from wavlm_meeting.recipes.results import table_head, table_row

CONDITIONS = ("0S", "0L", "OV10", "OV20", "OV30", "OV40")
"""In the order of the paper's table."""
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "Conformer": (4.5, 4.4, 6.2, 8.5, 11.0, 12.6),
    "HuBERT Base": (4.7, 4.6, 6.1, 7.9, 10.6, 12.3),
    "WavLM Base+": (4.5, 4.4, 5.6, 7.5, 9.4, 10.9),
    "WavLM Large": (4.2, 4.1, 4.8, 5.8, 7.4, 8.5),
}
"""Word error rates in per cent, utterance by utterance: the table of speech separation in the WavLM
paper, arXiv 2110.13900."""


def simulated_table(found: Mapping[int, Figures]) -> str:
    """Write figures of simulated mixtures as Markdown, a row for each number of microphones."""
    titles = [
        "microphones",
        "two talkers: mixtures",
        "SI-SDR dB of mixture",
        "of tracks",
        "gain dB",
        "one talker: stretches",
        "SI-SDR dB of mixture",
        "of track",
        "loss dB",
        "other track dB",
        "DER % of mixture",
        "of tracks",
    ]
    lines = table_head(titles)
    for microphones, each in found.items():
        both = (each.mixed_db, each.separated_db, each.improvement_db)
        alone = (each.alone_mixed_db, each.alone_separated_db, each.loss_db, each.leaked_db)
        ders = (each.der_mixed, each.der_separated)
        cells = [str(microphones), str(each.mixtures), *map(_number, both)]
        cells += [str(each.stretches), *map(_number, alone)]
        cells += [_number(None if der is None else 100 * der) for der in ders]
        lines.append(table_row(cells))
    return "\n".join(lines) + "\n"


def card_figures(found: Mapping[int, Figures]) -> dict[str, float]:
    """Return what the card of a model says of simulated mixtures."""
    figures: dict[str, float] = {}
    for microphones, each in found.items():
        heard = f"{microphones} microphone" + "s" * (microphones > 1)
        values = {
            "SI-SDR improvement dB, two simulated talkers throughout": each.improvement_db,
            "SI-SDR loss dB, one talker of simulated conversations": each.loss_db,
        }
        figures |= {
            f"{name}, {heard}": round(value, 2)
            for name, value in values.items()
            if value is not None
        }
    return figures


def word_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Write word error rates as Markdown: a row for each way of evaluating, and published ones.

    `found` holds rates from 0 on by way and condition; what was not measured is left empty.
    """
    titles = ["LibriCSS, WER %", *CONDITIONS]
    lines = table_head(titles)
    for way, rates in found.items():
        cells = [f"{100 * rates[name]:.1f}" if name in rates else "" for name in CONDITIONS]
        lines.append(table_row([f"this model: {way}", *cells]))
    for system, published in PUBLISHED.items():
        cells = [f"{value:.1f}" for value in published]
        lines.append(table_row([f"published: {system}, utterance-wise", *cells]))
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    """Write a figure; what was not measured is left empty."""
    return "" if value is None else f"{value:.2f}"
