"""The command line: `dini list` and `dini run NAME`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dini_zoo import registry

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Experiments that show the claims of published methods, built on dini.",
)


def _refuse(message: str) -> typer.Exit:
    """Print `message` to the standard error and return the exception that ends the program as misused."""
    Console(stderr=True).print(f"Error: {message}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code=2)


def _check_picture(path: Path) -> None:
    """Refuse a file that could not be written, before any time is spent on the experiment."""
    from matplotlib.backend_bases import FigureCanvasBase

    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in formats:
        raise _refuse(f"Cannot save a picture as '{path}': its name must end in one of .{', .'.join(formats)}.")
    if path.is_dir():
        raise _refuse(f"Cannot save a picture as '{path}': it is a folder.")
    if not path.parent.is_dir():
        raise _refuse(f"Cannot save a picture as '{path}': the folder '{path.parent}' does not exist.")


@app.command("list")
def list_experiments() -> None:
    """Show the experiments, what each shows, and its paper."""
    entries = sorted(registry.EXPERIMENTS, key=lambda entry: entry.name)
    table = Table("name", "shows", "paper")
    # a name is there to be typed: it is never cut
    table.columns[0].min_width = max(len(entry.name) for entry in entries)
    for entry in entries:
        table.add_row(*map(escape, (entry.name, entry.summary, entry.paper)))
    Console().print(table)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="The experiment's name, as `dini list` shows it.", metavar="NAME")],
    save: Annotated[
        Path | None, typer.Option(help="Save the picture there; the ending says the format.", metavar="FILE.png")
    ] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Run in seconds, too small to show the claim.")] = False,
) -> None:
    """Run an experiment, print its tables, and save its picture if asked."""
    try:
        entry = registry.find(name)
    except registry.UnknownExperimentError as error:
        raise _refuse(str(error)) from None
    if save is not None:
        _check_picture(save)

    console = Console()
    console.print(f"{entry.name}: {entry.summary} ({entry.paper})", markup=False, highlight=False)
    start = time.perf_counter()
    experiment = entry.load()
    settings = experiment.Settings.tiny() if tiny else experiment.Settings()
    result = experiment.run(settings, console)
    for table in result.tables():
        console.print(table)
    if save is not None:
        result.figure().savefig(save)
        console.print(f"Saved the picture as {save}.", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Took {time.perf_counter() - start:.1f} s.", highlight=False)
