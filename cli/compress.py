"""`wavlm-meeting compress`: a smaller encoder from a larger one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.options import Quiet, make_folder
from wavlm_meeting.cli.output import show_line, show_note, show_table
from wavlm_meeting.cli.training import quieten_lightning, training_bar
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.training.compression import Compressed


def compress(
    teacher: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH|HUB-ID", help="Model: an embedded name, a folder or a hub id."
        ),
    ],
    target_size: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of the encoder that stays, such as 20%.")
    ],
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Speech: a manifest, a folder of audio, or shards.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the model; a stopped run goes on there.")
    ],
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file with all other choices.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Prune a model's encoder while it learns to give what it gave; its heads stay.

    Heads, feed-forward and frontend channels go until the share is reached, layer by layer as many
    as are missed least. The model is in DIR/model: `wavlm-meeting diarize FILE --model DIR/model`.
    """
    from wavlm_meeting.compression.settings import CompressionSettings, parse_share
    from wavlm_meeting.config import read_toml

    parse_share(target_size)  # before seconds go by and a folder is made
    choices = CompressionSettings()
    if settings is not None:
        choices = read_toml(settings, CompressionSettings)
    try:
        from wavlm_meeting.training.compression import compress as run
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}: training needs the extra 'train'; pip install 'wavlm-meeting[train]'."
        ) from None
    quieten_lightning()
    with training_bar(quiet=quiet) as report:
        found = run(teacher, target_size, data, make_folder(out), choices, report)
    if not quiet:
        _show(found)
    show_line(f"{found.model}: done.")


def _show(found: "Compressed") -> None:
    """Show how small it has become, and how near it is to its teacher."""
    share = found.after / found.before
    show_note(
        f"encoder of {found.before:,} parameters, now {found.after:,}: {share:.1%}; asked for were "
        f"{found.target / found.before:.1%}."
    )
    if not found.near:
        show_note("whole heads and channels come no nearer.")
    rows = [
        (f"hidden state {number}", f"{before:.4f}", f"{after:.4f}")
        for number, (before, after) in enumerate(zip(found.pruned, found.recovered, strict=True))
    ]
    show_table("", ("cosine with the teacher", "pruned", "recovered"), rows)
