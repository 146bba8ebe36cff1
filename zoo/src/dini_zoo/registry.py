"""The table of experiments, and the shape that each of them has.

To add an experiment, write a module of the shape of `Experiment` and add one `Entry` to `EXPERIMENTS`. The table holds
module names and not modules, so that listing it imports none of them.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table


class Settings(Protocol):
    """What an experiment can be told: a frozen dataclass. Its defaults show the claim in minutes on a laptop."""

    @classmethod
    def tiny(cls) -> Self:
        """Settings with which the experiment runs in seconds. It need not show the claim."""
        ...


class Result(Protocol):
    """What an experiment found."""

    def tables(self) -> Sequence[Table]:
        """The figures beside the paper's, as tables to print."""
        ...

    def figure(self) -> Figure:
        """The picture of the claim."""
        ...


class Experiment(Protocol):
    """An experiment: a module with a class `Settings` and a function `run`."""

    Settings: type[Settings]

    def run(self, settings: Any, console: Console) -> Result:
        """Run the experiment. `settings` is one of the module's own `Settings`; progress goes to `console`."""
        ...


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    name: str
    """What a user types: lower case, words joined by hyphens."""
    module: str
    """The dotted path of the experiment's module."""
    summary: str
    """One line that says what the experiment shows."""
    paper: str
    """Authors, short title and year."""

    def load(self) -> Experiment:
        """Import the experiment's module."""
        return cast(Experiment, importlib.import_module(self.module))


EXPERIMENTS: tuple[Entry, ...] = (
    Entry(
        "convergent-graph-solvers",
        "dini_zoo.convergent_graphs.experiment",
        "Learns long-range properties of graphs through fixed points of learned contractions.",
        "Park et al., Convergent graph solvers, 2022",
    ),
    Entry(
        "deep-equilibrium",
        "dini_zoo.deep_equilibrium.experiment",
        "Trains an equilibrium classifier in each mode of differentiation, and measures what its gradients are worth.",
        "Bai et al., Deep equilibrium models, 2019",
    ),
    Entry(
        "dictionary",
        "dini_zoo.dictionary_learning.experiment",
        "Learns a dictionary for the task of its sparse codes, to predict metastasis from the activity of genes.",
        "Mairal et al., Task-driven dictionary learning, 2012",
    ),
    Entry(
        "distill",
        "dini_zoo.distillation.experiment",
        "Distills the digits into one image a class, by implicit and by unrolled hypergradients.",
        "Blondel et al., Efficient and modular implicit differentiation, 2022",
    ),
    Entry(
        "hard-constraints-moe",
        "dini_zoo.hard_constraints.experiment",
        "Enforces a differential equation by least squares in a network's last layer, whole and split over experts.",
        "Chalapathi et al., Scaling physics-informed hard constraints with mixture-of-experts, 2024",
    ),
    Entry(
        "jacobian-error",
        "dini_zoo.jacobian_error.experiment",
        "Sets the error of a Jacobian, implicit or unrolled, against the error of the solution and the bound on it.",
        "Blondel et al., Efficient and modular implicit differentiation, 2022",
    ),
    Entry(
        "molecular-dynamics",
        "dini_zoo.molecular_dynamics.experiment",
        "Differentiates the positions of packed disks in a diameter, though the packing is not unique.",
        "Blondel et al., Efficient and modular implicit differentiation, 2022",
    ),
    Entry(
        "svm",
        "dini_zoo.svm.experiment",
        "Tunes a support vector machine by hypergradients: any solver, differentiated through any fixed point.",
        "Blondel et al., Efficient and modular implicit differentiation, 2022",
    ),
    Entry(
        "svm-scaling",
        "dini_zoo.svm_scaling.experiment",
        "Times hypergradients of a support vector machine, implicit and unrolled, as its features grow in number.",
        "Blondel et al., Efficient and modular implicit differentiation, 2022",
    ),
)


class UnknownExperimentError(LookupError):
    """No experiment has the name that was asked for."""


def find(name: str) -> Entry:
    """The entry of that name. Raises `UnknownExperimentError`, which names those that come near."""
    entries = {entry.name: entry for entry in EXPERIMENTS}
    if name in entries:
        return entries[name]
    near = _near(name, list(entries))
    suggestion = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise UnknownExperimentError(f"No experiment is called {name!r}.{suggestion} `dini list` shows all of them.")


def _near(name: str, names: list[str]) -> list[str]:
    """At most three names that `name` is a misspelling or a part of."""
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    containing = [known for known in names if len(wanted) > 1 and wanted in known]
    similar = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    return list(dict.fromkeys(containing + similar))[:3]
