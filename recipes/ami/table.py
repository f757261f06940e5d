"""The table: one's own figures beside published ones."""

from collections.abc import Mapping

from wavlm_meeting.recipes.ami.settings import DISTANT
from wavlm_meeting.recipes.diarization import Results
from wavlm_meeting.recipes.results import table_head, table_row
from wavlm_meeting.training.diarization_tuning import COLLARS, score

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    DISTANT: {"DiariZen Large": 13.9, "DiariZen Base": 15.8, "pyannote community-1": 19.9},
}
"""DER in per cent without collar, overlap scored, by microphone: the README files of DiariZen
(pruned by 80 %, Large is v2) and of pyannote.audio."""


def table(results: Results) -> str:
    """Write figures as Markdown, a row for each microphone; overlap is scored."""
    titles = ["microphone", "system", "recordings"]
    for collar in COLLARS:
        titles += [f"DER %, collar {collar:g} s", "missed/false/confused"]
    titles += ["JER %", "counts right"]
    lines = table_head(titles)
    for microphone, (recordings, found) in results.items():
        figures = score(recordings, found)
        cells = [microphone, "this model", str(figures.recordings)]
        for counts in figures.counts.values():
            total_s = counts.total_s or 1.0
            wrong = (counts.missed_s, counts.false_alarm_s, counts.confusion_s)
            cells.append(f"{100 * counts.der:.2f}")
            cells.append("/".join(f"{100 * part / total_s:.1f}" for part in wrong))
        cells += [
            f"{100 * figures.counts[0.0].jer:.2f}",
            f"{figures.counted_right} of {figures.recordings}",
        ]
        lines.append(table_row(cells))
        for system, der in PUBLISHED.get(microphone, {}).items():
            blank = [""] * (len(titles) - 4)
            lines.append(table_row([microphone, f"published: {system}", "", f"{der:g}", *blank]))
    return "\n".join(lines) + "\n"
