"""The command line: `dini list`, `dini run NAME`, `dini repeat NAME`, `dini new NAME`, `dini pages`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from . import registry

USAGE = """\
Experiments that show the claims of published methods, built on dini.

  dini list [FIELD]         the systems, a line each; `--full` shows what each does, and its paper
  dini run NAME [OPTIONS]   run one; `dini run NAME --help` shows its options
  dini run all [OPTIONS]    run all of them, or those of a field: `dini run FIELD`
  dini repeat NAME          run one again with other seeds, and show the range of each figure
  dini new NAME FIELD       lay out a new system that passes the tests
  dini pages                make the README's table from the results that are there

Compiled programs are kept for the next run (`dini.keep_programs`), but not with --save: saved times are those of a
first run. `dini run NAME --compile-anew`, or DINI_KEEP_PROGRAMS=0 for all runs, keeps none.
"""

#: an environment variable: of these values, no programs are kept
KEEP, NO = "DINI_KEEP_PROGRAMS", ("0", "false", "no", "off")

#: The exit status of a program that was asked for what it cannot do, that missed a bar, that was interrupted.
MISUSED, MISSED, INTERRUPTED = 2, 1, 130


class Refusal(Exception):
    """What was asked for cannot be done; the text says why."""


@dataclass(frozen=True)
class HowToRun:
    """How to run"""

    tiny: bool = False
    """Run in seconds, too small to show the claim; other options change the tiny settings."""
    save: Path | None = None
    """Save the picture as FILE.png, the figures as FILE.json, or both in a folder under the system's name."""
    resume: bool = False
    """Go on where an interrupted run of the same settings stopped."""
    strict: bool = False
    """End with status 1 if a bar is missed."""
    compile_anew: bool = False
    """Compile all programs again, and keep none for the next run."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says, and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {"list": _list, "run": _run, "repeat": _repeat, "new": _new, "pages": _pages}
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0)
    try:
        if given[0] not in commands:
            raise Refusal(f"There is no command {given[0]!r}. There are: {', '.join(commands)}.")
        status = commands[given[0]](given[1:])
    except (Refusal, registry.UnknownSystemError, registry.BrokenSystemError, registry.MissingExtraError) as error:
        _complain(str(error))
        status = MISUSED
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dini"):
            raise
        _complain(str(error))
        status = MISUSED
    sys.exit(status)


def _complain(message: str) -> None:
    Console(stderr=True).print(f"Error: {message}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def _options(cls: Any, given: Sequence[str], command: str, description: str, default: Any = None) -> Any:
    config = (tyro.conf.FlagCreatePairsOff,)
    more = {} if default is None else {"default": default}
    try:
        return tyro.cli(cls, prog=f"dini {command}", args=list(given), description=description, config=config, **more)
    except ValueError as error:  # of settings that cannot be
        raise Refusal(str(error)) from None


# list


@dataclass(frozen=True)
class List:
    """What to list"""

    field: Annotated[str, tyro.conf.Positional] = ""
    """A field; all if it is not given."""
    full: bool = False
    """Show what each system shows to its last word, and its paper, in several lines."""


def _list(given: Sequence[str]) -> int:
    asked = _options(List, given, "list", "Show the systems, field by field.")
    known = registry.fields()
    names = [field.name for field in known]
    if asked.field and asked.field not in names:
        raise Refusal(f"There is no field {asked.field!r}. There are: {', '.join(names)}.")
    _show(Console(), [field for field in known if field.systems and asked.field in ("", field.name)], full=asked.full)
    return 0


def _show(console: Console, shown: Sequence[registry.Field], *, full: bool = False) -> None:
    """The systems of some fields: a line each, or all that they say of themselves."""
    width = max((len(entry.name) for field in shown for entry in field.systems), default=1)
    for field in shown:
        console.print(Text(f"{field.name}: {field.title}", style="bold"), soft_wrap=True)
        for entry in field.systems:
            # a name is there to be typed: it is never cut
            name, room = f"  {entry.name:<{width}}  ", max(console.width - width - 4, 1)
            if not full:
                text = Text(entry.title)
                text.truncate(room, overflow="ellipsis")
                console.print(Text(name) + text, soft_wrap=True)
                continue
            console.print(Text(f"  {entry.name}"), soft_wrap=True)
            for text in (entry.title, entry.summary, entry.paper):
                console.print(Padding(Text(text), (0, 0, 0, 6)))


# run


def _run(given: Sequence[str]) -> int:
    if not given:
        print(
            "`dini run NAME` runs a system, a field, or `all`; `dini run NAME --help` shows the options. There are:\n"
        )
        _show(Console(), [field for field in registry.fields() if field.systems])
        return 0
    if given[0] in ("-h", "--help"):
        _options(HowToRun, ["--help"], "run NAME", "Run an experiment: NAME is a system, a field, or `all`.")
    name, options = given[0], list(given[1:])
    groups = {field.name: field.systems for field in registry.fields()} | {"all": registry.systems()}
    if name not in groups:
        return _run_one(registry.find(name), options)
    how = _options(HowToRun, options, f"run {name}", f"Run the {len(groups[name])} experiments, one after the other.")
    return _run_many(groups[name], how)


def _keep_programs(how: HowToRun) -> None:
    """Keep compiled programs for the next run, but not where figures are saved: their times are a first run's."""
    if how.compile_anew or how.save is not None or os.environ.get(KEEP, "").lower() in NO:
        return
    import dini

    try:
        dini.keep_programs()
    except OSError as error:  # an experiment can run without writing to the home folder
        print(f"Compiled programs are not kept: {error}", file=sys.stderr)


def _set_up_compilation(how: HowToRun) -> None:
    """Keep programs, and compile without most optimizations what takes longer to compile than to run."""
    _keep_programs(how)
    if how.tiny:
        import jax

        jax.config.update("jax_disable_most_optimizations", True)


def _run_one(entry: registry.Entry, given: Sequence[str]) -> int:
    experiment = entry.load()
    cls = experiment.settings
    # the options say what to change, in the tiny settings if those are asked for
    default = cls.tiny() if "--tiny" in given else cls()
    flat = tyro.conf.arg(name="")
    both = dataclasses.make_dataclass(
        "Options", [("settings", Annotated[cls, flat]), ("how", Annotated[HowToRun, flat])]
    )
    described = f"{entry.summary} ({entry.paper})"
    asked = _options(both, given, f"run {entry.name}", described, both(default, HowToRun()))
    if asked.how.save is not None:
        check_target(asked.how.save)
    console = Console()
    _set_up_compilation(asked.how)
    command = f"dini run {entry.name} {' '.join(given)}".strip()
    try:
        missed = show(entry, experiment, asked.settings, asked.how, console)
    except KeyboardInterrupt:
        _say_how_to_go_on(console, command, asked.how)
        return INTERRUPTED
    return MISSED if missed and asked.how.strict else 0


def _run_many(entries: Sequence[registry.Entry], how: HowToRun) -> int:
    import jax

    if how.save is not None and not (how.save.is_dir() or not how.save.suffix):
        raise Refusal(f"Several experiments are saved in a folder: '{how.save}' is none.")
    if how.save is not None:
        check_target(how.save)
    console = Console()
    _set_up_compilation(how)
    summary = Table("name", "bars met", "missed", "not measured", "time", title="All runs", title_style="bold")
    missed = failed = 0
    for entry in entries:
        start = time.perf_counter()
        try:
            experiment = entry.load()
            settings = experiment.settings.tiny() if how.tiny else experiment.settings()
            outcome = show(entry, experiment, settings, how, console, counts := {})
            counts = [str(counts[name]) for name in ("met", "MISSED", "not measured")]
            missed += outcome
        except KeyboardInterrupt:
            _say_how_to_go_on(console, f"dini run {entry.name}{' --tiny' if how.tiny else ''}", how)
            return INTERRUPTED
        except Exception:
            failed += 1
            console.print(traceback.format_exc(), markup=False, highlight=False)
            counts = ["failed", "", ""]
        summary.add_row(entry.name, *counts, f"{time.perf_counter() - start:.0f} s")
        # the programs of one are of no use to the next
        jax.clear_caches()
    console.print(summary)
    return MISSED if failed or (missed and how.strict) else 0


def show(
    entry: registry.Entry,
    experiment: Any,
    settings: Any,
    how: HowToRun,
    console: Console,
    counts: dict[str, int] | None = None,
) -> int:
    """Run an experiment, print its tables and save what is asked for. Returns the number of bars missed."""
    from .experiment import perform
    from .run import Memory, Run
    from .tables import ABSENT, MET
    from .tables import MISSED as MISS

    console.print(f"{entry.name}: {entry.summary} ({entry.paper})", markup=False, highlight=False)
    memory = Memory(entry.name, settings, source=entry.source())
    run = Run(settings, console, memory, resume=how.resume)
    done = perform(entry.name, experiment, settings, run)
    record = done.record
    for table in (*record.tables, record.verdict.table()):
        console.print(table.rich())
    console.print(record.headline, style="bold", markup=False, highlight=False)
    if how.save is not None:
        for path in save(how.save, entry.name, experiment, done):
            console.print(f"Saved {path}.", markup=False, highlight=False, soft_wrap=True)
    earlier = sum(record.remembered.values())
    before = f", {earlier:.1f} s of it in earlier runs, whose results were reused" if earlier else ""
    console.print(f"Took {record.seconds:.1f} s{before}.", highlight=False)
    if counts is not None:
        counts.update({verdict: record.verdict.count(verdict) for verdict in (MET, MISS, ABSENT)})
    return record.verdict.count(MISS)


def _say_how_to_go_on(console: Console, command: str, how: HowToRun) -> None:
    resumed = command if how.resume else f"{command} --resume"
    console.print(f"\nInterrupted. `{resumed}` goes on from the last finished part.", markup=False, highlight=False)


def check_target(path: Path) -> None:
    """Refuse what could not be written, before any time is spent on the experiment; make a folder that is missing."""
    from matplotlib.backend_bases import FigureCanvasBase

    if path.is_dir() or not path.suffix:
        if not path.is_dir() and path.exists():
            raise Refusal(f"Cannot save in '{path}': it is a file.")
        path.mkdir(parents=True, exist_ok=True)
        return
    formats = sorted([*FigureCanvasBase.get_supported_filetypes(), "json"])
    if path.suffix.lower().removeprefix(".") not in formats:
        raise Refusal(f"Cannot save '{path}': its name must end in one of .{', .'.join(formats)}, or be a folder's.")
    if not path.parent.is_dir():
        raise Refusal(f"Cannot save '{path}': the folder '{path.parent}' does not exist.")


def save(target: Path, name: str, experiment: Any, done: Any) -> list[Path]:
    """Write a run's picture, figures, or both into a folder."""
    from .pictures import save_small

    if target.is_dir():
        picture, figures = target / f"{name}.png", target / f"{name}.json"
        save_small(experiment.draw(done.result), picture)
        done.record.write(figures)
        return [picture, figures]
    if target.suffix.lower() == ".json":
        done.record.write(target)
    else:
        experiment.draw(done.result).savefig(target)
    return [target]


# repeat


@dataclass(frozen=True)
class Repeat:
    """What to repeat"""

    name: Annotated[str, tyro.conf.Positional]
    """The system."""
    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """One run for each."""
    tiny: bool = False
    """Run in seconds, too small to show the claim."""
    save: Path | None = None
    """The folder of the figures that `dini run NAME --save FOLDER` has saved: the ranges are added to them."""
    resume: bool = False
    """Use what an interrupted run of the same settings has finished."""


def _repeat(given: Sequence[str]) -> int:
    asked = _options(Repeat, given, "repeat", "Run an experiment with other seeds, and show the range of each figure.")
    from . import repetitions
    from .experiment import perform
    from .run import Memory, Run

    entry = registry.find(asked.name)
    saved = None if asked.save is None else asked.save / f"{entry.name}.json"
    if saved is not None and not saved.is_file():
        raise Refusal(f"There is no '{saved}': `dini run {entry.name} --save {asked.save}` makes it.")
    experiment = entry.load()
    settings = experiment.settings.tiny() if asked.tiny else experiment.settings()
    try:
        runs = [(seed, repetitions.seeded(settings, seed)) for seed in asked.seeds]
    except ValueError as error:
        raise Refusal(str(error)) from None
    if not asked.seeds or len(set(asked.seeds)) < len(asked.seeds):
        raise Refusal(f"`--seeds` must be one or more different numbers: {' '.join(map(str, asked.seeds)) or 'none'}.")
    before = {} if saved is None else json.loads(saved.read_text(encoding="utf-8"))
    if saved is not None and not repetitions.same_but_for_the_seed(before["settings"], settings):
        raise Refusal(f"'{saved}' is of other settings: its figures and the ranges would not belong together.")
    console, found = Console(), []
    _set_up_compilation(HowToRun(tiny=asked.tiny, save=asked.save))
    for seed, chosen in runs:
        console.print(f"Seed {seed}", style="bold", highlight=False)
        memory = Memory(entry.name, chosen, source=entry.source())
        done = perform(entry.name, experiment, chosen, Run(chosen, console, memory, resume=asked.resume))
        console.print(done.record.headline, markup=False, highlight=False)
        found.append(repetitions.Repetition.of(seed, done.record).json())
    console.print(repetitions.table(found).rich())
    console.print(repetitions.ranged([one["headline"] for one in found]), style="bold", markup=False, highlight=False)
    if saved is not None:
        text = json.dumps(before | {"repetitions": found}, indent=1, ensure_ascii=False)
        saved.write_text(text + "\n", encoding="utf-8")
        console.print(f"Saved {saved}.", markup=False, highlight=False, soft_wrap=True)
    return 0


# new, pages


@dataclass(frozen=True)
class New:
    """What to lay out"""

    name: Annotated[str, tyro.conf.Positional]
    """What a user types: lower case, words joined by hyphens."""
    field: Annotated[str, tyro.conf.Positional]
    """The field's folder; it is made if it is not there."""


def _new(given: Sequence[str]) -> int:
    from . import new

    asked = _options(New, given, "new", "Lay out a new system that passes the tests.")
    try:
        written = new.lay_out(asked.name, asked.field)
    except ValueError as error:
        raise Refusal(str(error)) from None
    console = Console()
    for path in written:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"`dini run {asked.name} --tiny` runs it.", markup=False, highlight=False)
    return 0


@dataclass(frozen=True)
class Pages:
    """What to do with the pages"""

    check: bool = False
    """Only say whether they are as the results are, with status 1 if not."""


def _pages(given: Sequence[str]) -> int:
    from . import pages

    asked = _options(Pages, given, "pages", "Make the README's table of systems from the results that are there.")
    if not pages.README.exists():
        raise Refusal("The pages are those of a checkout: `uv run dini pages` in one, not where dini is installed.")
    old = pages.outdated()
    if not asked.check:
        pages.write()
    for why in old:
        print(why if asked.check else f"{why}: updated")
    return MISSED if old and asked.check else 0
