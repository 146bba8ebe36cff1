"""The command line, with an experiment of the tests' own."""

import subprocess
import sys
import types
from dataclasses import dataclass

import pytest
from matplotlib.figure import Figure
from rich.table import Table
from typer.testing import CliRunner

from dini_zoo import registry
from dini_zoo.cli import app

runner = CliRunner(env={"COLUMNS": "200"})


@dataclass(frozen=True)
class Settings:
    points: int = 100

    @classmethod
    def tiny(cls):
        return cls(points=3)


@dataclass(frozen=True)
class Result:
    points: int

    def tables(self):
        table = Table("quantity", "value")
        table.add_row("points", str(self.points))
        return [table]

    def figure(self):
        figure = Figure()
        figure.subplots().plot(range(self.points))
        return figure


def run(settings, console):
    console.print("working")
    return Result(settings.points)


@pytest.fixture(autouse=True)
def parabola(monkeypatch):
    """One experiment called `parabola-fit`, and another that nothing may import."""
    module = types.ModuleType("parabola_experiment")
    module.Settings, module.run = Settings, run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = (
        registry.Entry("parabola-fit", module.__name__, "Fits a parabola.", "Nobody, Parabolas, 2000"),
        registry.Entry("absent", "no.such.module", "Cannot be [imported].", "Nobody, Nothing, 2001"),
    )
    monkeypatch.setattr(registry, "EXPERIMENTS", entries)


def test_list_shows_names_summaries_and_papers_without_importing():
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    for text in ("parabola-fit", "Fits a parabola.", "Nobody, Parabolas, 2000", "absent", "Cannot be [imported]."):
        assert text in result.stdout


def test_list_cuts_no_name_in_a_narrow_terminal(monkeypatch):
    name = "an-experiment-with-a-long-name"
    long = registry.Entry(
        name, "no.such.module", "Shows a great deal of things. " * 3, "Several authors, A title, 2002"
    )
    monkeypatch.setattr(registry, "EXPERIMENTS", (*registry.EXPERIMENTS, long))
    assert f" {name} " in runner.invoke(app, ["list"], env={"COLUMNS": "70"}).stdout


def test_list_does_not_import_jax():
    code = """
import sys
from dini_zoo.cli import app
app(["list"], standalone_mode=False)
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(("options", "points"), [([], "100"), (["--tiny"], "3")])
def test_run_prints_the_tables(options, points):
    result = runner.invoke(app, ["run", "parabola-fit", *options])
    assert result.exit_code == 0
    assert "working" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "points" in line)
    assert points in row.split()


def test_run_saves_the_picture(tmp_path):
    path = tmp_path / "picture.png"
    result = runner.invoke(app, ["run", "parabola-fit", "--tiny", "--save", str(path)])
    assert result.exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert str(path) in result.stdout


@pytest.mark.parametrize("name", ["parabola", "parabola_fit", "Parabola-Fit", "parabla-fit"])
def test_an_unknown_name_gets_the_near_matches(name):
    result = runner.invoke(app, ["run", name])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.strip() == (
        f"Error: No experiment is called {name!r}. Did you mean 'parabola-fit'? `dini list` shows all of them."
    )


def test_an_unknown_name_like_no_other_gets_no_suggestion():
    result = runner.invoke(app, ["run", "zzz"])
    assert result.exit_code == 2
    assert "Did you mean" not in result.stderr
    assert "`dini list`" in result.stderr


@pytest.mark.parametrize(
    ("path", "reason"),
    [("picture.doc", "must end in one of"), ("nowhere/picture.png", "does not exist"), ("folder.png", "is a folder")],
)
def test_a_picture_that_cannot_be_saved_is_refused_before_the_run(tmp_path, path, reason):
    (tmp_path / "folder.png").mkdir()
    result = runner.invoke(app, ["run", "parabola-fit", "--save", str(tmp_path / path)])
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stdout == ""
