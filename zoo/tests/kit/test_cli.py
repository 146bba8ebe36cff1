"""The command line, with systems of the tests' own."""

import json
import subprocess
import sys
import types
from dataclasses import dataclass

import pytest

from dini_zoo.kit import cli, registry
from dini_zoo.kit.experiment import Experiment
from dini_zoo.kit.pictures import canvas
from dini_zoo.kit.tables import Check, Table, at_least


@dataclass(frozen=True)
class Settings:
    """What can be told."""

    points: int = 100
    """Of the parabola."""
    seed: int = 0
    """Of nothing."""
    broken: bool = False
    """Whether to be interrupted."""

    def __post_init__(self):
        if self.points < 1:
            raise ValueError(f"points must be at least 1: given {self.points}.")

    @classmethod
    def tiny(cls):
        return cls(points=3)


@dataclass(frozen=True)
class Result:
    settings: Settings
    points: int
    drawn: list


CALLS = []


def run(settings, run):
    def first(phase):
        CALLS.append("first")
        return settings.points

    points = run.part("counting", first)
    if CALLS.count("interrupt"):
        CALLS.remove("interrupt")
        raise KeyboardInterrupt
    return Result(settings, points, list(range(points)))


def tables(result):
    return [Table("Points", ("quantity", "value"), [["points", str(result.points)]])]


def checks(result):
    yield Check("points", result.points, at_least(50), reference=100.0, form=".0f")
    yield Check("lines", None, at_least(1))


def draw(result):
    figure = canvas("Points")
    figure.subplots().plot(result.drawn)
    return figure


EXPERIMENT = Experiment(Settings, run, tables, checks, draw, lambda result: f"{result.points} points")


@pytest.fixture(autouse=True)
def parabola(monkeypatch, tmp_path):
    """A system called `parabola-fit`, and another that nothing may import."""
    monkeypatch.setenv("DINI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    entries = [
        registry.Entry(
            "parabola-fit", "Parabolas", "Fits a parabola.", "Nobody, Parabolas, 2000", tmp_path / "f" / "p"
        ),
        registry.Entry("absent", "Absent", "Cannot be [imported].", "Nobody, Nothing, 2001", tmp_path / "f" / "absent"),
    ]
    fields = (registry.Field("curves", tuple(entries), "# Curves and lines\n"),)
    monkeypatch.setattr(registry, "fields", lambda: fields)
    package = types.ModuleType("dini_zoo.f.p.experiment")
    package.experiment = EXPERIMENT
    monkeypatch.setitem(sys.modules, "dini_zoo.f.p.experiment", package)
    for name in ("dini_zoo.f", "dini_zoo.f.p"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    CALLS.clear()


@pytest.fixture
def dini(capsys):
    """Call the program: its exit status, and what it printed to both outputs."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        told = capsys.readouterr()
        return types.SimpleNamespace(code=ended.value.code or 0, out=told.out, err=told.err)

    return call


def test_list_shows_systems_by_field_without_importing_them(dini):
    found = dini("list")
    assert found.code == 0
    for text in ("parabola-fit", "Parabolas", "Absent", "Curves and"):
        assert text in found.out
    for text in ("Parabolas", "Fits a parabola.", "Nobody, Parabolas, 2000", "Cannot be [imported]."):
        assert text in dini("list", "--full").out
    assert "parabola-fit" in dini("list", "curves").out
    wrong = dini("list", "cures")
    assert wrong.code == 2
    assert "no field 'cures'" in wrong.err


@pytest.mark.parametrize("columns", [20, 80])
def test_list_has_a_line_for_each_system_and_cuts_no_name(dini, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    heading, *lines = dini("list").out.splitlines()
    assert heading == "curves: Curves and lines"
    assert [row.split()[0] for row in lines] == ["parabola-fit", "absent"]
    assert all(row.endswith("…") == (columns < 80) for row in lines)
    if columns > len("  parabola-fit  "):
        assert max(map(len, lines)) <= columns
    full = dini("list", "--full").out
    assert "Nobody, Parabolas, 2000" in " ".join(full.split())


def test_run_without_a_name_shows_what_can_be_run(dini):
    found = dini("run")
    assert found.code == 0
    for text in ("dini run NAME", "parabola-fit", "absent", "curves", "all"):
        assert text in found.out
    assert found.err == ""
    assert dini().out == dini("--help").out


def test_the_package_is_a_program():
    found = subprocess.run([sys.executable, "-m", "dini_zoo", "list"], check=True, capture_output=True, text=True)
    assert "  svm " in found.stdout


def test_list_does_not_import_jax():
    code = """
import sys
from dini_zoo.kit.cli import main
try:
    main(["list"])
except SystemExit as ended:
    assert not ended.code
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("options", "points"), [([], 100), (["--tiny"], 3), (["--points", "7"], 7), (["--tiny", "--points", "5"], 5)]
)
def test_every_setting_is_an_option(dini, options, points):
    found = dini("run", "parabola-fit", *options)
    assert found.code == 0
    assert f"\n{points} points\n" in found.out
    assert "counting: " in found.out
    assert ("(other settings)" in found.out) == (points != 100)
    assert "not measured" in found.out


def test_help_shows_the_settings_with_their_docstrings(dini):
    found = dini("run", "parabola-fit", "--help")
    assert found.code == 0
    assert "Of the parabola. (default: 100)" in found.out
    assert "(default: 3)" in dini("run", "parabola-fit", "--tiny", "--help").out


def test_settings_that_cannot_be_are_refused(dini):
    found = dini("run", "parabola-fit", "--points", "0")
    assert found.code == 2
    assert "points must be at least 1: given 0." in found.err


@pytest.mark.parametrize("strict", [True, False])
def test_a_missed_bar_is_in_the_exit_status_if_asked_for(dini, strict):
    options = ["--strict"] if strict else []
    assert dini("run", "parabola-fit", *options).code == 0
    found = dini("run", "parabola-fit", "--points", "7", *options)
    assert "MISSED" in found.out
    assert found.code == (1 if strict else 0)


@pytest.mark.parametrize(
    ("options", "variable", "kept"),
    [((), None, 1), ((), "1", 1), ((), "0", 0), (("--compile-anew",), None, 0), (("--save", "p.json"), None, 0)],
)
def test_programs_are_kept_but_where_somebody_wants_them_anew(dini, monkeypatch, tmp_path, options, variable, kept):
    calls = []
    monkeypatch.setattr("dini.keep_programs", lambda: calls.append(1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.KEEP, raising=False)
    if variable is not None:
        monkeypatch.setenv(cli.KEEP, variable)
    assert dini("run", "parabola-fit", *options).code == 0
    assert len(calls) == kept
    if not options:
        assert dini("run", "curves").code != cli.MISUSED
        assert len(calls) == 2 * kept


def test_a_home_that_cannot_be_written_to_keeps_nobody_from_a_run(dini, monkeypatch):
    def fail():
        raise PermissionError("keep_programs: folder 'programs' cannot be written to.")

    monkeypatch.setattr("dini.keep_programs", fail)
    told = dini("run", "parabola-fit")
    assert told.code == 0
    assert "not kept: keep_programs: folder" in told.err


def test_run_saves_pictures_and_figures(dini, tmp_path):
    picture, figures, folder = tmp_path / "a.png", tmp_path / "a.json", tmp_path / "folder"
    assert str(picture) in dini("run", "parabola-fit", "--save", str(picture)).out
    dini("run", "parabola-fit", "--save", str(figures))
    assert dini("run", "parabola-fit", "--tiny", "--save", str(folder)).code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["parabola-fit.json", "parabola-fit.png"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    full, tiny = (json.loads(path.read_text()) for path in (figures, folder / "parabola-fit.json"))
    assert full["settings"]["points"] == 100
    assert full["figures"][0] == {
        "quantity": "points",
        "value": 100,
        "ours": "100",
        "reference": "100",
        "paper": "",
        "bar": "≥ 50",
        "verdict": "met",
    }
    assert full["other_settings"] == {}
    assert tiny["other_settings"] == {"points": "3"}
    assert "jax" in full["versions"]


def test_repeat_adds_the_ranges_of_other_seeds_to_saved_figures(dini, tmp_path):
    figures = tmp_path / "parabola-fit.json"
    refused = dini("repeat", "parabola-fit", "--save", str(tmp_path))
    assert refused.code == 2
    assert "dini run parabola-fit --save" in refused.err
    dini("run", "parabola-fit", "--save", str(figures))
    before = json.loads(figures.read_text())
    other = dini("repeat", "parabola-fit", "--tiny", "--save", str(tmp_path))
    assert other.code == 2
    assert "is of other settings" in other.err
    assert json.loads(figures.read_text()) == before
    dini("run", "parabola-fit", "--tiny", "--save", str(figures))
    before = json.loads(figures.read_text())
    told = dini("repeat", "parabola-fit", "--seeds", "7", "5", "--tiny", "--save", str(tmp_path))
    assert "\n3 points\n" in told.out
    assert "missed with 2 of 2" in told.out
    after = json.loads(figures.read_text())
    again = after.pop("repetitions")
    assert after == before
    assert [one["seed"] for one in again] == [7, 5]
    assert [one["figures"][0]["verdict"] for one in again] == ["MISSED", "MISSED"]


@pytest.mark.parametrize("seeds", [(), ("3", "3")])
def test_repeat_needs_different_seeds(dini, seeds):
    found = dini("repeat", "parabola-fit", "--tiny", "--seeds", *seeds)
    assert found.code == 2
    assert "`--seeds` must be one or more different numbers" in found.err


@pytest.mark.parametrize(
    ("path", "reason"), [("picture.doc", "must end in one of"), ("nowhere/picture.png", "does not exist")]
)
def test_what_cannot_be_saved_is_refused_before_the_run(dini, tmp_path, path, reason):
    found = dini("run", "parabola-fit", "--save", str(tmp_path / path))
    assert found.code == 2
    assert reason in found.err
    assert found.out == ""


def test_an_interrupted_run_says_how_to_go_on_and_goes_on(dini):
    CALLS.append("interrupt")
    found = dini("run", "parabola-fit", "--points", "9")
    assert found.code == 130
    assert "`dini run parabola-fit --points 9 --resume` goes on" in found.out
    assert CALLS == ["first"]
    found = dini("run", "parabola-fit", "--points", "9", "--resume")
    assert found.code == 0
    assert "counting: remembered, " in found.out
    assert "in earlier runs, whose results were reused." in found.out
    assert "\n9 points\n" in found.out
    assert CALLS == ["first"]
    # without being asked to, nothing is remembered
    dini("run", "parabola-fit", "--points", "9")
    assert CALLS == ["first", "first"]


def test_all_systems_run_one_after_the_other(dini, tmp_path):
    found = dini("run", "all", "--tiny", "--save", str(tmp_path / "out"))
    # one cannot be imported: the others run nevertheless
    assert found.code == 1
    summary = found.out.partition("All runs")[2]
    rows = [line.replace("│", " ").split() for line in summary.splitlines()]
    assert [row[:4] for row in rows if row[:1] == ["parabola-fit"]] == [["parabola-fit", "0", "1", "1"]]
    assert [row[:2] for row in rows if row[:1] == ["absent"]] == [["absent", "failed"]]
    assert (tmp_path / "out" / "parabola-fit.png").exists()


@pytest.mark.parametrize("name", ["parabola", "parabola_fit", "Parabola-Fit", "parabla-fit"])
def test_an_unknown_name_gets_the_near_matches(dini, name):
    found = dini("run", name)
    assert found.code == 2
    assert found.out == ""
    assert found.err.strip() == (
        f"Error: No system is called {name!r}. Did you mean 'parabola-fit'? `dini list` shows all of them."
    )


def test_an_unknown_name_like_no_other_gets_no_suggestion(dini):
    found = dini("run", "zzz")
    assert found.code == 2
    assert "Did you mean" not in found.err
    assert "`dini list`" in found.err


def test_an_unknown_command_gets_those_that_there_are(dini):
    found = dini("ru")
    assert found.code == 2
    assert "There are: list, run, repeat, new, pages." in found.err
    assert "dini run NAME" in dini("--help").out
