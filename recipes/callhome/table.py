"""The table: one's own figures beside published ones, by the number of speakers."""

from collections.abc import Iterator, Mapping, Sequence

from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.recipes.diarization import Results
from wavlm_meeting.recipes.results import table_head, table_row
from wavlm_meeting.training.diarization_recordings import Conversation
from wavlm_meeting.training.diarization_tuning import Figures, score

COLLAR = 0.25
ALL = "all"
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "EEND-VC": {"2": 7.96, "3": 11.93, "4": 16.38, "5": 21.21, "6": 23.1, ALL: 12.49},
    "HuBERT Base": {"2": 7.93, "3": 12.07, "4": 15.21, "5": 19.59, "6": 23.32, ALL: 12.63},
    "WavLM Base": {"2": 6.99, "3": 11.12, "4": 15.20, "5": 16.48, "6": 21.61, ALL: 11.75},
    "WavLM Large": {"2": 6.46, "3": 10.69, "4": 11.84, "5": 12.89, "6": 20.70, ALL: 10.35},
}
"""DER in per cent on part 2 with a collar of 0.25 s, numbers of speakers estimated: the table of
diarization in arXiv 2110.13900."""


def table(results: Results) -> str:
    """Write figures as Markdown, a column for each number of speakers; overlap is scored."""
    ((recordings, found),) = results.values()
    figures = dict(_by_count(recordings, found))
    lines = table_head([f"DER %, collar {COLLAR:g} s; speakers", *figures])
    own = [f"{100 * each.counts[COLLAR].der:.2f}" for each in figures.values()]
    lines.append(table_row(["this model", *own]))
    for system, ders in PUBLISHED.items():
        cells = [f"{ders[name]:.2f}" if name in ders else "" for name in figures]
        lines.append(table_row([f"published: {system}", *cells]))
    lines += ["", *table_head(["this model; speakers", *figures])]
    for title, cells in {
        "calls": [str(each.recordings) for each in figures.values()],
        "missed/false/confused, collar 0.25 s": [_parts(each) for each in figures.values()],
        "DER %, no collar": [f"{100 * each.counts[0.0].der:.2f}" for each in figures.values()],
        "JER %": [f"{100 * each.counts[0.0].jer:.2f}" for each in figures.values()],
        "counts right": [f"{each.counted_right}" for each in figures.values()],
    }.items():
        lines.append(table_row([title, *cells]))
    return "\n".join(lines) + "\n"


def _by_count(
    recordings: Sequence[Conversation], found: Sequence[Diarization]
) -> Iterator[tuple[str, Figures]]:
    """Give the figures of the calls of each number of speakers, then of all."""
    pairs = list(zip(recordings, found, strict=True))
    for count in sorted({len(each.speakers) for each in recordings}):
        own = [pair for pair in pairs if len(pair[0].speakers) == count]
        yield str(count), score([each for each, _ in own], [each for _, each in own])
    yield ALL, score(recordings, found)


def _parts(figures: Figures) -> str:
    counts = figures.counts[COLLAR]
    total_s = counts.total_s or 1.0
    wrong = (counts.missed_s, counts.false_alarm_s, counts.confusion_s)
    return "/".join(f"{100 * part / total_s:.1f}" for part in wrong)
