"""The corpora by name, each read from its published folder layout into sources for shards.

Lhotse's own preparation (`lhotse.recipes`) collects all recordings and supervisions of LibriSpeech
and Libri-Light in memory before it gives the first, and knows VoxPopuli's transcribed speech alone:
for millions of files that will not do. The functions here give Lhotse's cuts one by one, in an
order that is the same in every run, and hold the names of one folder at a time.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.mix94k.folders import folders_of
from wavlm_meeting.recipes.mix94k.gigaspeech import gigaspeech
from wavlm_meeting.recipes.mix94k.librilight import librilight
from wavlm_meeting.recipes.mix94k.librispeech import librispeech
from wavlm_meeting.training.sources import Source, files_below, folder_cuts


def voxpopuli(root: Path) -> Iterator[Source]:
    """Give VoxPopuli's unlabelled English: its pieces, or else its sessions in even pieces.

    `get_unlabelled_data` of its authors cuts `raw_audios/en/<year>/*.ogg`, whole sessions, into
    `unlabelled_data/en/<year>/*.ogg`, the voiced pieces: where both are there, they are the same
    speech. Raises SettingsError if neither is.
    """
    folder = folders_of(root, ("unlabelled_data/en", "raw_audios/en"), "VoxPopuli")[0]
    return folder_cuts(files_below(folder, {".ogg"}), root)


def dns_noise(root: Path) -> Iterator[Source]:
    """Give the noise of the DNS challenge, at 16 kHz or else at 48 kHz: the same clips.

    Raises SettingsError if neither is there.
    """
    wanted = ("datasets/noise", "datasets_fullband/noise_fullband")
    folder = folders_of(root, wanted, "DNS-challenge noise")[0]
    return folder_cuts(files_below(folder, {".wav"}), root)


CORPORA: dict[str, Callable[[Path], Iterator[Source]]] = {
    "librispeech": librispeech,
    "librilight": librilight,
    "gigaspeech": gigaspeech,
    "voxpopuli": voxpopuli,
    "dns-noise": dns_noise,
}


def corpus_cuts(name: str, root: Path) -> Iterator[Source]:
    """Give what a corpus below `root` holds, in the same order in every run.

    Raises SettingsError for a name that is none, and where the corpus is not at `root`.
    """
    if name not in CORPORA:
        raise SettingsError(f"no corpus '{name}': there are {', '.join(CORPORA)}.")
    return CORPORA[name](root)
