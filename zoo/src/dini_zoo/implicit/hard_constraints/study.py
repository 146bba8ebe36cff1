"""Diffusion-sorption learned without solutions: as a soft constraint, a hard one, and hard ones split over experts.

The same network, the same batches and the same loss. What differs is how the network's functions become a prediction:
as they are, combined so that the equation holds on the whole mesh, or combined so in each of four boxes. Then what the
two hard constraints cost, and the split over devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import dini
from dini_zoo.kit.measure import compile_program, side_by_side, take_turns
from dini_zoo.kit.modes import distance
from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.seeds import Estimate, Paired

from .constraint import Constraint, LeastSquaresConstraint, SoftConstraint
from .diffusion_sorption import DiffusionSorption
from .fourier import FourierOperator
from .mixture import MixtureOfConstraints
from .partition import DomainPartition
from .reference import method_of_lines
from .scaling import Cost, Devices, Workload, forward_and_backward, over_devices
from .training import ConstrainedOperator, Course, Training, loss, train, trainer

SOFT, HARD, MIXTURE = "soft constraint", "PI-HC", "PI-HC-MoE"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

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
    seeds: tuple[int, ...] = (0, 1, 2, 0, 1, 2)
    """Of networks, orders of the data, and samples."""
    data_seeds: tuple[int, ...] = (0, 0, 0, 11, 11, 11)
    """Of the initial conditions to learn from and to test on: one for each of `seeds`."""
    networks: int = 2
    """So many of the trained networks, from the first, lend their functions where constraints are timed."""
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
    emphasis: tuple[float, ...] = (1.0, 30.0, 1000.0)
    """Weights of the equation beside its conditions with which both constraints are compared for untrained networks."""
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
            seeds=(0,),
            data_seeds=(0,),
            methods=(MIXTURE,),
            fine=(12, 16),
            totals=(),
            batch=1,
            compare_gradients=False,
            networks=1,
            rounds=1,
            emphasis=(),
            devices=(),
        )

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.data_seeds):
            raise ValueError(f"data_seeds must be one for each of seeds, {self.seeds}: given {self.data_seeds}.")
        if not 1 <= self.networks <= len(self.seeds):
            raise ValueError(
                f"networks must be from 1 to {len(self.seeds)}, the number of seeds: given {self.networks}."
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
class Data:
    """Initial concentrations, which are constant in space."""

    train: Float[np.ndarray, " train"]
    test: Float[np.ndarray, " test"]
    places: int

    @classmethod
    def draw(cls, settings: Settings, seed: int) -> Data:
        """Uniform ones."""
        random = np.random.RandomState(seed)
        draw = lambda count: random.uniform(settings.lowest, settings.highest, count)
        return cls(draw(settings.train), draw(settings.test), settings.places)

    def everywhere(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n x"]:
        """The values at all places."""
        return np.asarray(values)[:, None] * np.ones(self.places)


@dataclass(frozen=True)
class Learned:
    """What one method has learned, for each seed."""

    courses: list[Course]
    predictions: Float[np.ndarray, "seeds test t x"]
    errors: Float[np.ndarray, "seeds test"]
    """Relative distance from the reference."""
    seconds: float
    """Training of all seeds, two at a time."""

    @property
    def by_seed(self) -> list[float]:
        """The mean error over initial conditions, for each seed."""
        return [float(one) for one in self.errors.mean(axis=1)]

    @property
    def estimate(self) -> Estimate:
        """The mean over seeds, with its interval."""
        return Estimate.of(self.by_seed)

    @property
    def mean(self) -> float:
        """Of the error, over initial conditions and seeds."""
        return float(self.errors.mean())

    @property
    def spread(self) -> float:
        """The standard deviation of the error over initial conditions, the mean over seeds."""
        return float(self.errors.std(axis=1).mean())


@dataclass(frozen=True)
class Emphasis:
    """Both hard constraints on the functions of untrained networks, with another weight of the equation."""

    weight: float
    """Of the equation's residuals; those of the initial and boundary conditions, which all experts share, have one."""
    whole: Estimate
    """The relative error of one constraint, over networks."""
    experts: Estimate
    """That of experts."""
    apart: float
    """The relative distance of the predictions from one another, the mean over networks."""


@dataclass(frozen=True)
class Result:
    """What was learned, and what the constraints cost."""

    settings: Settings
    initials: Float[np.ndarray, "seeds test"]
    reference: Float[np.ndarray, "seeds test t x"]
    learned: dict[str, Learned]
    without: tuple[float, float] | None
    """Relative distance of the gradient with constant weights from the implicit one, before and after training."""
    costs: dict[int, dict[str, Cost]]
    """Of the constraint by number of points and method."""
    emphasis: list[Emphasis]
    devices: list[Devices]

    @property
    def gain(self) -> Paired:
        """The error of one constraint minus that of experts, seed by seed: experts win where it is positive."""
        return Paired.of(self.learned[HARD].by_seed, self.learned[MIXTURE].by_seed)


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan(
        {
            "reference solutions": 3,
            SOFT: 45,
            HARD: 55,
            MIXTURE: 60,
            "gradients": 8,
            "costs": 12,
            "emphasis": 20,
            "devices": 10,
        }
    )
    pairs = list(zip(settings.seeds, settings.data_seeds, strict=True))
    data = {seed: Data.draw(settings, seed) for seed in settings.data_seeds}
    solutions = run.part(
        "reference solutions",
        lambda _: {
            seed: np.stack([method_of_lines(settings.equation, one) for one in own.test]) for seed, own in data.items()
        },
    )
    reference = np.stack([solutions[seed] for seed in settings.data_seeds])
    learned = {}
    for method in settings.methods:
        fit, predict = trainer(settings.training), _predictor(settings.test)

        def one(
            pair: tuple[int, int], phase: Phase, method: str = method, fit: Any = fit, predict: Any = predict
        ) -> tuple[Course, Any]:
            seed, own = pair[0], data[pair[1]]
            course = train(fit, settings.model(method, seed), own.everywhere(own.train), seed, phase.advance)
            return course, np.asarray(predict(course.model, own.everywhere(own.test)))

        found = run.each(method, pairs, one, steps=settings.training.steps, pairs=True)
        predictions = np.stack([prediction for _, prediction in found])
        apart = np.linalg.norm(predictions - reference, axis=(2, 3)) / np.linalg.norm(reference, axis=(2, 3))
        learned[method] = Learned([course for course, _ in found], predictions, apart, run.phases[method])

    trained = [course.model for course in learned[MIXTURE].courses[: settings.networks]]
    without = None
    if settings.compare_gradients:
        first, own = settings.model(MIXTURE, settings.seeds[0]), data[settings.data_seeds[0]]
        batch = jnp.asarray(own.everywhere(own.train[: settings.training.batch]))
        without = run.part("gradients", lambda _: _without(settings, first, trained[0], batch))
    costs = run.part("costs", lambda _: _costs(settings, trained)) if settings.totals else {}
    own, truth = data[settings.data_seeds[0]], reference[0]
    emphasis = run.each("emphasis", settings.emphasis, lambda weight, _: _emphasis(settings, weight, own, truth))
    devices = run.part("devices", lambda _: _devices(settings)) if settings.devices else []
    initials = np.stack([data[seed].test for seed in settings.data_seeds])
    return Result(settings, initials, reference, learned, without, costs, emphasis, devices)


def _predictor(count: int) -> Any:
    """The prediction for so many initial conditions: a compiled function of a model and these."""
    keys = jax.random.split(jax.random.key(1), count)
    return eqx.filter_jit(lambda model, tests: jax.vmap(lambda one, key: model(one, key).u)(jnp.asarray(tests), keys))


def _without(
    settings: Settings, first: ConstrainedOperator, last: ConstrainedOperator, initials: Any
) -> tuple[float, float]:
    """How far the loss' gradient is from the implicit one if the weights are taken for constants."""

    def program(derivative: str) -> Any:
        model = replace(first, constraint=settings.constraint(MIXTURE, derivative=derivative))
        slope = jax.grad(lambda params: loss(model.at(params), initials, jax.random.key(0))[0])
        return compile_program(slope, first.parameters)

    exact, rough = side_by_side(program, ("gauss-newton", "none"))

    def apart(model: ConstrainedOperator) -> float:
        return distance(rough.at(model.parameters), exact.at(model.parameters))

    return apart(first), apart(last)


def _emphasis(settings: Settings, weight: float, data: Data, truth: Float[np.ndarray, "test t x"]) -> Emphasis:
    """Both hard constraints on the functions of untrained networks, one for each seed."""
    equation = DiffusionSorption(settings.times, settings.places, weights=(weight, 1.0, 1.0))
    initials = jnp.asarray(data.everywhere(data.test))
    keys = jax.random.split(jax.random.key(1), len(initials))
    whole = settings.hard(equation, settings.num_points)
    constraints = (whole, MixtureOfConstraints(whole, settings.partition))

    def compiled(constraint: Constraint) -> Any:
        def predict(network: Any) -> Any:
            one = lambda initial, key: constraint(equation.terms(network(equation.inputs(initial)), initial), key).u
            return jax.vmap(one)(initials, keys)

        return eqx.filter_jit(predict)

    networks = [settings.model(HARD, seed).network for seed in sorted(set(settings.seeds))]
    found = [[np.asarray(predict(network)) for network in networks] for predict in map(compiled, constraints)]
    size = np.linalg.norm(truth, axis=(1, 2))
    errors = [[float(np.mean(np.linalg.norm(u - truth, axis=(1, 2)) / size)) for u in own] for own in found]
    apart = np.mean([distance(a, b) for a, b in zip(*found, strict=True)])
    return Emphasis(weight, Estimate.of(errors[0]), Estimate.of(errors[1]), float(apart))


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
