"""`wavlm-meeting models`: which there are, what they are, and from one layout to another."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavlm_meeting.cli.options import AsJson
from wavlm_meeting.cli.output import show_json, show_line, show_note
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.checkpoints.bundle import Bundle

app = typer.Typer(help="List, show, fetch and convert models.", no_args_is_help=True)

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="An embedded name, a folder or file, or an id on the hub."
    ),
]


class Layout(StrEnum):
    """What a model can be written as."""

    BUNDLE = "bundle"
    HUGGINGFACE = "huggingface"
    MICROSOFT = "microsoft"
    PYANNOTE = "pyannote"


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models inside the package, and those on the hub that are known to load."""
    from wavlm_meeting.checkpoints.card import read_card
    from wavlm_meeting.checkpoints.catalog import embedded_models
    from wavlm_meeting.checkpoints.hub import KNOWN, MICROSOFT_LICENCE_NOTE, is_cached

    cards = {name: read_card(folder) for name, folder in embedded_models().items()}
    rows = [
        {"name": name, "where": "embedded", "use": card.description, "licence": card.licence}
        for name, card in cards.items()
    ] + [
        {
            "name": model.name,
            "where": "fetched" if is_cached(model.name) else "on the hub",
            "use": model.use,
            "licence": model.licence,
        }
        for model in KNOWN
    ]
    if as_json:
        show_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        show_line(f"{row['name']:<{width}}  {row['where']:<10}  {row['use']} [{row['licence']}]")
    show_note(MICROSOFT_LICENCE_NOTE)


@app.command(no_args_is_help=True)
def show(source: Source, as_json: AsJson = False) -> None:
    """Say what a model is: architecture, size, hash, licence, data, figures."""
    from wavlm_meeting.checkpoints.catalog import resolve

    path = resolve(source)  # before torch is imported: a wrong name is told at once
    from wavlm_meeting.checkpoints import load_model
    from wavlm_meeting.checkpoints.formats import weights_file
    from wavlm_meeting.files import sha256_of, size_of

    model = load_model(source)
    file = weights_file(path)
    facts = {
        **model.card.model_dump(mode="json", exclude={"weights"}),
        "parameters": _parameters(model),
        "path": str(path),
        "file": {"name": file.name, "bytes": size_of(file), "sha256": sha256_of(file)},
    }
    if as_json:
        show_json(facts)
        return
    for line in _describe(facts):
        show_line(line)


@app.command(no_args_is_help=True)
def fetch(source: Source) -> None:
    """Bring a model of the Hugging Face hub into the local cache, and check that it loads."""
    from wavlm_meeting.checkpoints.catalog import resolve

    path = resolve(source)
    from wavlm_meeting.checkpoints import load_model

    show_line(f"{source}: {_parts(_parameters(load_model(source)))}; in {path}")


@app.command(no_args_is_help=True)
def convert(
    source: Source,
    dest: Annotated[
        Path,
        typer.Argument(metavar="DEST", help="Folder to write; a file for --to microsoft."),
    ],
    to: Annotated[Layout, typer.Option("--to", help="Layout to write.")],
    encoder_only: Annotated[
        bool, typer.Option("--encoder-only", help="Leave out the heads of tasks.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model that is at DEST.")
    ] = False,
) -> None:
    """Write a model in another layout, exactly: whole or not at all."""
    if dest.exists() and not force:
        raise SettingsError(f"{dest}: is there already; name another place, or add --force.")
    from wavlm_meeting.checkpoints.catalog import resolve

    resolve(source)
    from wavlm_meeting.checkpoints import load_model
    from wavlm_meeting.checkpoints.formats import write_model

    model = load_model(source)
    if encoder_only:
        model = model.encoder_only()
    write_model(dest, model, to.value)
    show_line(f"{dest}: {_parts(_parameters(model))}; {to.value}")


def _parameters(model: "Bundle") -> dict[str, int]:
    """Count each part's parameters."""
    return {
        part: sum(tensor.numel() for tensor in state.values())
        for part, state in model.state.items()
    }


def _parts(parameters: dict[str, int]) -> str:
    """Write the parts out with their sizes."""
    counts = (f"{part} {count / 1e6:.2f} M" for part, count in parameters.items())
    return f"{', '.join(counts)} parameters"


def _describe(facts: dict[str, Any]) -> list[str]:
    """Write a model's facts out for people, one line each; what is not known is left out."""
    encoder, training, file = facts["encoder"], facts["training"], facts["file"]
    sizes = f"{encoder['layers']} layers of {encoder['width']}, {encoder['heads']} heads"
    norms = "before" if encoder["pre_norm"] else "after"
    title = " ".join(word for word in (facts["name"], facts["version"]) if word)
    rows = [
        ("about", facts["description"]),
        ("licence", facts["licence"] or "not stated"),
        ("encoder", f"{sizes}, feed-forward {encoder['ffn']}, norms {norms} each part"),
        ("size", _parts(facts["parameters"])),
        *(("data", _material(item)) for item in training["data"]),
        *(("teacher", _material(item)) for item in training["teachers"]),
        ("made by", training["recipe"]),
        ("path", facts["path"]),
        ("file", f"{file['name']}, {file['bytes'] / 1e6:.1f} MB"),
        ("sha256", file["sha256"]),
    ]
    figures = [(name, str(value)) for name, value in facts["figures"].items()]
    measured = ["measured", *_aligned(figures)] if figures else []
    return [title, *_aligned([(name, value) for name, value in rows if value]), *measured]


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    """Write names and what they are as two columns."""
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {value}" for name, value in rows]


def _material(item: dict[str, str]) -> str:
    """Write out what a model was made from."""
    use = f": {item['use']}" if item["use"] else ""
    return f"{item['name']} ({item['licence']}){use}"
