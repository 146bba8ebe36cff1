"""What the tests of all systems do with a run."""

import io
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from dini_zoo.kit.experiment import perform
from dini_zoo.kit.run import Run


def performed(name, experiment, settings=None):
    """A run that nobody watches; with the default settings if none are given."""
    settings = experiment.settings() if settings is None else settings
    return perform(name, experiment, settings, Run(settings))


def printed(tables):
    """Tables in a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    for table in tables:
        console.print(table.rich())
    return console.file.getvalue()


def assert_fits(tables):
    """No cell of a terminal of 80 columns is cut off."""
    text = printed(tables)
    assert "…" not in text, text
    assert max(map(len, text.splitlines())) <= 80


def assert_drawn(figure):
    """There is something on the picture: more than a few of its dots are not white."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        figure.savefig(path, dpi=40)
        from matplotlib.image import imread

        dots = imread(path)[..., :3]
    assert np.mean(np.any(dots < 0.9, axis=-1)) > 0.01


def assert_bars_met(name, experiment, settings=None, but=()):
    """No bar is missed or left out in the full run, `but` those that the page tells of. Returns its result."""
    done = performed(name, experiment, settings)
    wrong = [
        check for check in done.record.verdict.checks if check.verdict not in ("met", "") and check.quantity not in but
    ]
    assert not wrong, wrong
    return done.result
