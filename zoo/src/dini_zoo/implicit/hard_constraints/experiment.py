"""Diffusion-sorption learned without solutions: as a soft constraint, a hard one, and hard ones split over experts.

The same network, the same batches and the same loss. What differs is how the network's functions become a prediction:
as they are, combined so that the equation holds on the whole mesh, or combined so in each of four boxes. Then what the
two hard constraints cost, and the split over devices.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import dini
from dini_zoo.kit.measure import compile_program, take_turns

from . import report
from .constraint import Constraint, LeastSquaresConstraint, SoftConstraint
from .diffusion_sorption import DiffusionSorption
from .fourier import FourierOperator
from .mixture import MixtureOfConstraints
from .partition import DomainPartition
from .reference import method_of_lines
from .scaling import Cost, Devices, Workload, forward_and_backward, over_devices, side_by_side
from .training import ConstrainedOperator, Course, Training, compile_training, loss, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

SOFT, HARD, MIXTURE = "soft constraint", "PI-HC", "PI-HC-MoE"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    times: int = 32
    places: int = 64
    lowest: float = 0.02
    """Of the initial concentrations, which are constant in space."""
    highest: float = 0.2
    train: int = 64
    """Initial concentrations to learn from."""
    test: int = 8
    functions: int = 8
    """Of the basis. A soft constraint has one function, the prediction itself."""
    width: int = 16
    depth: int = 3
    modes: int = 6
    projection: int = 32
    padding: int = 8
    experts: int = 4
    """Boxes along space."""
    num_points: int = 400
    """Of the whole mesh for one constraint, and of each expert's box."""
    tol: float = 1e-6
    """Of the solver."""
    iterations: int = 20
    """Limit of the solver's, in training and testing."""
    training: Training = field(default_factory=Training)
    seeds: int = 2
    """Networks, orders of the data, and samples."""
    methods: tuple[str, ...] = (SOFT, HARD, MIXTURE)
    fine: tuple[int, int] = (64, 128)
    """Times and places of the mesh on which the constraints are timed."""
    totals: tuple[int, ...] = (400, 1600, 6400)
    """Points to sample there, of all experts together."""
    batch: int = 4
    """Constraints that are timed together."""
    compare_gradients: bool = True
    """Whether to compute the gradient without the implicit part, too."""
    rounds: int = 7
    """Turns in which the constraints are timed."""
    devices: tuple[int, ...] = (1, 2, 4)
    """Numbers of virtual devices over which the experts are distributed."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            times=12,
            places=16,
            train=4,
            test=2,
            functions=3,
            width=4,
            depth=1,
            modes=3,
            projection=4,
            padding=2,
            experts=2,
            num_points=60,
            training=Training(steps=4, batch=2, chunk=2),
            seeds=1,
            methods=(MIXTURE,),
            fine=(12, 16),
            totals=(100,),
            batch=1,
            compare_gradients=False,
            rounds=1,
            devices=(),
        )

    @property
    def equation(self) -> DiffusionSorption:
        return DiffusionSorption(self.times, self.places)

    @property
    def partition(self) -> DomainPartition:
        return DomainPartition((1, self.experts))

    def hard(self, equation: DiffusionSorption, num_points: int, **rest: Any) -> LeastSquaresConstraint:
        """The constraint that samples so many points."""
        solver = dini.LevenbergMarquardt(hessian="gauss-newton", tol=self.tol, max_steps=self.iterations)
        return LeastSquaresConstraint(equation.residual, solver, num_points=num_points, **rest)

    def constraint(self, method: str, **rest: Any) -> Constraint:
        """What turns functions into a prediction."""
        if method == SOFT:
            return SoftConstraint()
        hard = self.hard(self.equation, self.num_points, **rest)
        return hard if method == HARD else MixtureOfConstraints(hard, self.partition)

    def model(self, method: str, seed: int) -> ConstrainedOperator:
        """A network before training."""
        network = FourierOperator(
            3,
            1 if method == SOFT else self.functions,
            width=self.width,
            depth=self.depth,
            modes=self.modes,
            projection=self.projection,
            padding=(self.padding, self.padding),
            key=jax.random.key(seed),
        )
        return ConstrainedOperator(network, self.equation, self.constraint(method))


@dataclass(frozen=True)
class Learned:
    """What one method has learned, for each seed."""

    courses: list[Course]
    predictions: Float[np.ndarray, "seeds test t x"]
    errors: Float[np.ndarray, "seeds test"]
    """Relative distance from the reference."""
    seconds: float
    """Training of all seeds, side by side."""

    @property
    def mean(self) -> float:
        """Of the error, over initial conditions and seeds."""
        return float(self.errors.mean())

    @property
    def spread(self) -> float:
        """The standard deviation of the error over initial conditions, the mean over seeds."""
        return float(self.errors.std(axis=1).mean())


@dataclass(frozen=True)
class Result:
    """What was learned, and what the constraints cost."""

    settings: Settings
    initials: Float[np.ndarray, " test"]
    reference: Float[np.ndarray, "test t x"]
    learned: dict[str, Learned]
    without: tuple[float, float] | None
    """Relative distance of the gradient with constant weights from the implicit one, before and after training."""
    costs: dict[int, dict[str, Cost]]
    """Of the constraint by number of points and method."""
    devices: list[Devices]

    def tables(self) -> list[Table]:
        return report.tables(self)

    def figure(self) -> Figure:
        from .picture import draw

        return draw(self)


def run(settings: Settings, console: Console) -> Result:
    """Run the experiment in double precision."""
    random = np.random.RandomState(0)
    flat = lambda count: random.uniform(settings.lowest, settings.highest, count)
    initials, tests = flat(settings.train), flat(settings.test)
    everywhere = lambda values: np.asarray(values)[:, None] * np.ones(settings.places)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with jax.enable_x64(True), Progress(*columns, console=console, transient=True) as progress:
        steps = settings.training.steps * settings.seeds * len(settings.methods)
        bar = progress.add_task("reference solutions", total=steps)
        reference = np.stack([method_of_lines(settings.equation, one) for one in tests])
        progress.update(bar, description="compiling")
        compiled = side_by_side(lambda method: _compiled(settings, method, everywhere(tests)), settings.methods)
        learned = {}
        for method, (program, predict) in zip(settings.methods, compiled, strict=True):
            progress.update(bar, description=f"training, {method}")

            def course(seed: int, method: str = method, program: Any = program) -> Course:
                advance = lambda steps: progress.advance(bar, steps)
                return train(
                    program, settings.model(method, seed), settings.training, everywhere(initials), seed, advance
                )

            start = time.perf_counter()
            courses = side_by_side(course, range(settings.seeds))
            seconds = time.perf_counter() - start
            predictions = np.stack([np.asarray(predict(one.model.parameters)) for one in courses])
            apart = np.linalg.norm(predictions - reference, axis=(2, 3))
            learned[method] = Learned(courses, predictions, apart / np.linalg.norm(reference, axis=(1, 2)), seconds)

        first, last = settings.model(MIXTURE, 0), learned[MIXTURE].courses[0].model
        without = None
        if settings.compare_gradients:
            progress.update(bar, description="gradients")
            without = _without(settings, first, last, jnp.asarray(everywhere(initials[: settings.training.batch])))
        progress.update(bar, description="timing the constraints")
        costs = _costs(settings, [one.model for one in learned[MIXTURE].courses])
        progress.update(bar, description="timing the devices")
        devices = _devices(settings) if settings.devices else []
    return Result(settings, tests, reference, learned, without, costs, devices)


def _compiled(settings: Settings, method: str, tests: Float[np.ndarray, "test x"]) -> tuple[Any, Any]:
    """A few steps of training, and the prediction of the test data: a function of the parameters."""
    model = settings.model(method, 0)
    keys = jax.random.split(jax.random.key(1), len(tests))

    def predict(params: Any) -> Any:
        return jax.vmap(lambda initial, key: model.at(params)(initial, key).u)(jnp.asarray(tests), keys)

    program = compile_training(model, settings.training, tests)
    return program, compile_program(predict, model.parameters).at


def _without(
    settings: Settings, first: ConstrainedOperator, last: ConstrainedOperator, initials: Any
) -> tuple[float, float]:
    """How far the loss' gradient is from the implicit one if the weights are taken for constants."""

    def program(derivative: str) -> Any:
        model = replace(first, constraint=settings.constraint(MIXTURE, derivative=derivative))
        slope = jax.grad(lambda params: loss(model.at(params), initials, jax.random.key(0))[0])
        return compile_program(slope, first.parameters)

    exact, rough = side_by_side(program, ("gauss-newton", "none"))

    def distance(model: ConstrainedOperator) -> float:
        one, other = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(program.at(model.parameters))])
            for program in (rough, exact)
        )
        return float(np.linalg.norm(one - other) / np.linalg.norm(other))

    return distance(first), distance(last)


def _costs(settings: Settings, models: Sequence[ConstrainedOperator]) -> dict[int, dict[str, Cost]]:
    """The hard constraints on a finer mesh, with the functions of trained networks: means over these.

    A batch goes on until its last solve ends, and which network has a slow one is a matter of chance.
    """
    equation = DiffusionSorption(*settings.fine)
    values = np.linspace(settings.lowest, settings.highest, settings.batch)
    initials = jnp.asarray(values[:, None] * np.ones(equation.places))
    bases = [jax.vmap(lambda one, m=m: m.network(equation.inputs(one)))(initials) for m in models]

    def program(given: tuple[int, str]) -> Any:
        total, method = given
        experts = 1 if method == HARD else settings.experts
        constraint: Any = settings.hard(equation, total // experts)
        if method == MIXTURE:
            constraint = MixtureOfConstraints(constraint, settings.partition)
        return forward_and_backward(equation, constraint, bases[0], initials)

    methods = [method for method in (HARD, MIXTURE) if method in settings.methods]
    cases = [(total, method) for total in settings.totals for method in methods]
    compiled = side_by_side(program, cases)
    programs = [replace(one, arguments=(basis,)) for one in compiled for basis in bases]
    steps = [float(np.mean(one()[0])) for one in programs]
    times = take_turns(programs, settings.rounds)
    found: dict[int, dict[str, Cost]] = {total: {} for total in settings.totals}
    for k, (total, method) in enumerate(cases):
        own = slice(k * len(bases), (k + 1) * len(bases))
        turns = [float(np.mean(turn)) for turn in zip(*times[own], strict=True)]
        found[total][method] = Cost(float(np.mean(steps[own])), turns)
    return found


def _devices(settings: Settings) -> list[Devices]:
    times, places = settings.fine
    work = Workload(
        times=times,
        places=places,
        functions=settings.functions,
        experts=settings.experts,
        num_points=max(settings.totals) // settings.experts,
        batch=settings.batch,
        rounds=settings.rounds,
    )
    return over_devices(settings.devices, work)
