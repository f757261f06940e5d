"""`wavlm-meeting label`: pseudo-labels for the speech in shards."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.cli.options import AsJson
from wavlm_meeting.cli.output import show_json, show_table
from wavlm_meeting.errors import SettingsError

FRAME = 320
"""Samples for each label of MFCC, if nothing else is said: 20 ms, as the released models have."""


def label(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Shards of speech.")],
    name: Annotated[str, typer.Option(metavar="FIELD", help="What the labels are called.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Encoder to cluster a layer of; without one, MFCC."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Its layer; 0 is the first one's input.")
    ] = None,
    hop: Annotated[
        int, typer.Option(min=1, metavar="SAMPLES", help="Samples for each label of MFCC.")
    ] = FRAME,
    clusters: Annotated[int, typer.Option(min=1, metavar="K", help="Number of labels.")] = 500,
    frames: Annotated[
        int, typer.Option(min=1, metavar="N", help="Frames that clusters are found on.")
    ] = 1_000_000,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the clusters.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Cluster MFCC, or a layer of an encoder, and write the label of each frame beside the shards.

    Run again it goes on where it was stopped; started by torchrun, its processes share the work.
    """
    if (model is None) != (layer is None):
        raise SettingsError("--model and --layer go together; leave both out for MFCC.")
    try:
        from wavlm_meeting.pretraining.mfcc import mfcc_features
        from wavlm_meeting.training.labelling import make_labels
        from wavlm_meeting.training.processes import join_processes
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}: labels need the extra 'train'; pip install 'wavlm-meeting[train]'."
        ) from None
    from wavlm_meeting.checkpoints import load_encoder
    from wavlm_meeting.pretraining.kmeans import KMeansSettings
    from wavlm_meeting.pretraining.labels import layer_features

    if model is None or layer is None:
        features, source = mfcc_features(hop), f"MFCC each {hop} samples"
    else:
        join_processes()  # each takes the GPU that is its own
        encoder = load_encoder(model, "auto")
        features, hop = layer_features(encoder, layer), encoder.config.hop
        source = f"{model}, layer {layer}"
    kmeans = KMeansSettings(clusters=clusters, seed=seed)
    report = make_labels(shards, name, features, frames, kmeans, hop, source)
    if report is None:
        return
    facts = asdict(report)
    if as_json:
        show_json(facts)
        return
    quality = facts.pop("quality") or {}
    rows = [(key.replace("_", " "), f"{value:.6g}") for key, value in (facts | quality).items()]
    show_table("", (f"{name}: clusters of {source}", ""), rows)
