"""An equilibrium classifier of the digits of scikit-learn, trained in each of dini's modes of differentiation.

The same layer, the same solver, the same start and the same batches: only the mode differs. What each mode learns, how
far its gradient is from the exact one before and after training, and what the gradient costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

import dini
from dini_zoo.kit.data import Sample, Split, digits
from dini_zoo.kit.measure import Program, Timed, compile_program, take_turns
from dini_zoo.kit.modes import cosine, distance
from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.training import Trainer

from .equilibrium import Params, initial, layer
from .reference import Contraction, Reference, contraction, fixed_point
from .training import Course, look, loss, train, trainer

IMPLICIT, AUTO, FREE, ONE_STEP = "implicit", "auto", "Jacobian-free", "one step"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    train: int = 1200
    """Images to learn from; the rest of the 1797 is for testing."""
    batch: int = 100
    hidden: int = 40
    gain: float = 0.5
    """About the spectral norm of `W` at the start."""
    learning_rate: float = 3e-3
    """Of Adam."""
    epochs: int = 25
    tol: float = 1e-8
    """Of Anderson's method, for a whole batch."""
    max_steps: int = 100
    few: int = 5
    """Steps of the short unroll."""
    many: int = 40
    """Steps of the long unroll."""
    terms: int = 4
    """Of the Neumann series, and last steps to unroll."""
    series: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of terms at which the series' error is measured."""
    early: int = 5
    """Epochs after which the series is looked at, too."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of starts and orders of the data. All modes have the first, implicit and Jacobian-free training all."""
    data_seed: int = 0
    """Of the division into images to learn from and to test on."""
    doubling: bool = True
    """Whether to compare the implicit gradient's memory with that where twice as many steps are allowed."""
    rounds: int = 40
    """Turns in which the gradients are timed."""
    trained: tuple[str, ...] | None = None
    """The names of the modes to train in; all if it is not given."""
    measured: tuple[str, ...] | None = None
    """The names of the modes whose gradient is measured; all if it is not given."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            train=100,
            batch=10,
            hidden=8,
            epochs=2,
            early=1,
            few=2,
            many=6,
            terms=2,
            series=(1,),
            seeds=(0, 1),
            rounds=2,
            doubling=False,
            trained=(IMPLICIT,),
            measured=(IMPLICIT, FREE),
        )

    @property
    def solver(self) -> dini.Anderson:
        return dini.Anderson(tol=self.tol, max_steps=self.max_steps)

    @property
    def modes(self) -> dict[str, dini.Differentiation]:
        """The ways to differentiate, by name."""
        return {
            IMPLICIT: dini.Implicit(),
            AUTO: dini.Auto(),
            self.neumann: dini.Neumann(self.terms),
            FREE: dini.JacobianFree(),
            ONE_STEP: dini.OneStep(),
            f"unrolled, last {self.terms}": dini.Unrolled(last=self.terms),
            f"unrolled, {self.few} steps": dini.Unrolled(steps=self.few, checkpoint=False),
            self.longest: dini.Unrolled(steps=self.many, checkpoint=False),
        }

    @property
    def neumann(self) -> str:
        """The name of the truncated series."""
        return f"Neumann, {self.terms} terms"

    @property
    def unrolls(self) -> tuple[str, ...]:
        """The modes that take a fixed number of steps, without a stopping test."""
        return f"unrolled, {self.few} steps", self.longest

    @property
    def longest(self) -> str:
        """The name of the long unroll."""
        return f"unrolled, {self.many} steps"

    @property
    def checkpointed(self) -> dict[str, dini.Differentiation]:
        """A way whose gradient is that of the long unroll: it is timed and not trained."""
        return {f"{self.longest}, checkpoints": dini.Unrolled(steps=self.many)}


@dataclass(frozen=True)
class Way(Timed):
    """The gradient of one mode: how exact it is, and what it costs."""

    errors: list[float]
    """Relative distance from the exact gradient, before, early in, and after training in the implicit mode."""
    cosine: float
    """Of the angle to the exact gradient, after training."""
    memory: int
    """Bytes for intermediate results."""
    times: list[float]
    """Of one gradient after training, in seconds, with those of the other ways in turns."""


@dataclass(frozen=True)
class Result:
    """What was learned in each mode, and what its gradients are worth."""

    settings: Settings
    ways: dict[str, Way]
    courses: dict[str, Course]
    contraction: list[Contraction]
    """Before, early in, and after training in the implicit mode."""
    contractions: dict[str, Contraction]
    """After training in each mode."""
    central: list[float]
    """Relative distance of the exact gradient's slope from a central difference, at the same three points."""
    series: np.ndarray
    """Errors of the Neumann series by number of terms: a row for each of the three points."""
    doubled: int | None
    """Bytes of the implicit gradient where twice as many steps are allowed."""
    choice: dini.Choice
    """What `Auto` does after training."""
    seeds: dict[str, list[float]]
    """Test accuracy by seed."""

    @property
    def radii(self) -> list[float]:
        """Contraction factors at the three points."""
        return [found.radius for found in self.contraction]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    split = digits(10, settings.train, 0, settings.data_seed)
    sample = Sample(split.train.X[: settings.batch], split.train.Y[: settings.batch])
    solver, modes = settings.solver, settings.modes
    # the model of a fixed number of steps consists of them; all others have the same fixed point
    names = settings.trained or tuple(modes)
    run.plan({f"training, {name}": 6.0 for name in names} | {"gradients": 40.0, "timing": 4.0})
    looks = {name: look(split, modes[name], solver) for name in (IMPLICIT, *settings.unrolls)}
    courses: dict[str, Course] = {}
    seeds: dict[str, list[float]] = {}
    for name in names:
        fit = trainer(
            modes[name],
            solver,
            looks[name if name in settings.unrolls else IMPLICIT],
            examples=settings.train,
            batch=settings.batch,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
        )

        def course(seed: int, phase: Phase, fit: Trainer[Params] = fit) -> Course:
            return train(fit, begin(settings, split, seed), split.train, seed, phase.advance)

        repeated = name in (IMPLICIT, FREE)
        found = run.each(
            f"training, {name}", settings.seeds if repeated else settings.seeds[:1], course, steps=fit.steps
        )
        courses[name] = found[0]
        if repeated:
            seeds[name] = [float(one.accuracy[-1]) for one in found]

    with run.phase("gradients"):
        points = [courses[IMPLICIT].at(n) for n in (0, settings.early, -1)]
        references = [Reference.at(point, sample) for point in points]
        measured = modes | settings.checkpointed
        programs = {
            name: gradient(points[-1], sample, measured[name], solver) for name in settings.measured or tuple(measured)
        }
        found = {name: [program.at(point) for point in points] for name, program in programs.items()}
        series_names = {1: FREE, settings.terms: settings.neumann}
        known = {terms: programs[name] for terms, name in series_names.items() if name in programs}
        sums = [
            known[terms] if terms in known else gradient(points[0], sample, dini.Neumann(terms), solver)
            for terms in settings.series
        ]
        series = [
            [distance(program.at(point), reference.gradient) for program in sums]
            for point, reference in zip(points, references, strict=True)
        ]
        longer = dini.Anderson(tol=settings.tol, max_steps=2 * settings.max_steps)
        doubled = gradient(points[0], sample, dini.Implicit(), longer).memory if settings.doubling else None
        z = jnp.asarray(fixed_point(points[-1], sample.X))
        choice = dini.Auto().explain(dini.FixedPoint(layer), z, jnp.asarray(sample.X), points[-1])
    times = run.part("timing", lambda _: take_turns(list(programs.values()), settings.rounds))

    ways = {
        name: Way(
            [distance(slope, reference.gradient) for reference, slope in zip(references, found[name], strict=True)],
            cosine(found[name][-1], references[-1].gradient),
            programs[name].memory,
            own,
        )
        for name, own in zip(programs, times, strict=True)
    }
    return Result(
        settings=settings,
        ways=ways,
        courses=courses,
        contraction=[contraction(point, sample.X) for point in points],
        contractions={name: contraction(course.at(-1), sample.X) for name, course in courses.items()},
        central=[reference.slope_error(point, sample) for point, reference in zip(points, references, strict=True)],
        series=np.array(series),
        doubled=doubled,
        choice=choice,
        seeds=seeds,
    )


def begin(settings: Settings, split: Split, seed: int) -> Params:
    """The weights before training; of double precision where that is on."""
    inputs, classes = split.train.X.shape[1], split.train.Y.shape[1]
    return _initial(jax.random.key(seed), inputs, settings.hidden, classes, settings.gain)


_initial = jax.jit(initial, static_argnums=(1, 2, 3))


def gradient(params: Params, sample: Sample, mode: dini.Differentiation, solver: dini.Solver) -> Program:
    """The gradient of the loss on a sample: a function of the parameters."""
    sample = jax.device_put(sample)
    slope = jax.grad(lambda params: loss(params, sample, mode, solver, on_failure="ignore")[0])
    return compile_program(slope, params)
