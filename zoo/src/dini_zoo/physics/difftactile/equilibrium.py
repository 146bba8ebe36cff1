"""The equilibrium of the experiment: certified gradients, the material from one image, and the dome under a sphere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

import dini
from dini_zoo.kit.run import Run

from .calibration import relative_error
from .scenes import START, TRUTH, PressedBlock, PressedDome
from .settings import Settings

_STEP = 1e-4


@dataclass(frozen=True)
class Pressed:
    """The block at rest."""

    unknowns: int
    tets: int
    nonzeros: int
    colors: int
    newton: int
    """Steps of Newton's method, trials among them."""
    gradient_seconds: float
    """Of an equilibrium with its certified gradient, once it is compiled."""
    gradient: np.ndarray
    """Of the mismatch at the start, in the logarithms of ``E`` and ``kn``."""
    differences: np.ndarray
    estimated: float
    """The certificate's estimate of the gradient's relative error."""
    reliable: bool
    solves: int
    """Equilibria that the identification needed."""
    course: np.ndarray
    """The mismatch at each of them, without noise."""
    ratio: np.ndarray
    """Of what was identified without noise to the truth."""
    noisy: np.ndarray
    """The same with noise, for each seed."""


@dataclass(frozen=True)
class DomeResult:
    """The dome under a sphere."""

    unknowns: int
    tets: int
    nonzeros: int
    colors: int
    newton: int
    seconds: float
    force: float
    rest: np.ndarray
    """Pixels of the markers."""
    moved: np.ndarray
    nodes: np.ndarray
    """Of the outer layer, in place."""
    shift: np.ndarray
    """How far they moved."""
    slope: np.ndarray
    """The derivative of the markers by the depth."""
    slope_error: float
    """Of it beside central differences, relative."""


class Identification:
    """The bilevel problem: stiffness of the material and of the contact from a force and markers in equilibrium."""

    def __init__(self, scene: PressedBlock, depth: float):
        self.scene, self.depth = scene, depth
        sparse = scene.statics.linear_solver
        self.solver, self.how = dini.Newton(linear_solver=sparse), dini.Implicit(linear_solver=sparse)
        self._at = jax.jit(self._evaluated)

    def load(self, theta: Any) -> Any:
        """What acts, by the logarithms of ``E`` and ``kn``."""
        E, kn = jnp.exp(theta)
        return self.scene.load(E, kn, self.depth)

    def measured(self, unknown: Any, theta: Any) -> tuple[Any, Any]:
        """The force and the markers."""
        load = self.load(theta)
        return self.scene.measured(self.scene.statics.positions(unknown, load.positions), load)

    def outer(self, unknown: Any, theta: Any, observed: tuple[Any, Any]) -> Any:
        """The mismatch."""
        pairs = zip(self.measured(unknown, theta), observed, strict=True)
        return sum(relative_error(*pair) for pair in pairs)

    def at(self, theta: Any, observed: tuple[Any, Any], state: Any = None) -> Any:
        """The mismatch at the equilibrium, with its certified gradient; compiled once."""
        first = self.scene.statics.unknown(self.scene.lowered(self.depth))
        return self._at(jnp.asarray(theta), observed, state or dini.bilevel.Warm(first, jnp.zeros_like(first)))

    def _evaluated(self, theta: Any, observed: tuple[Any, Any], state: Any) -> Any:
        found = dini.bilevel.value_and_hypergradient(
            self.outer,
            lambda theta: self.scene.statics.under(self.load(theta)),
            theta,
            state.x,
            outer_args=(observed,),
            solver=self.solver,
            state=state,
            differentiation=self.how,
            certify=True,
            # near a minimum of the mismatch its gradient is a difference of equal numbers: no relative error is small
            on_failure="ignore",
        )
        return found.value, found.gradient, found.state, found.solution, found.certificate

    def observed(self, theta: Any) -> tuple[Any, Any]:
        """What is measured in equilibrium."""
        zero = (jnp.ones(3), jnp.ones((len(self.scene.bottom), 3)))
        return self.measured(self.at(theta, zero)[2].x, jnp.asarray(theta))

    def found(self, observed: tuple[Any, Any], start: Any) -> tuple[np.ndarray, list[float]]:
        """The logarithms that fit best, by a quasi-Newton method, and the mismatch at each equilibrium."""
        course: list[float] = []
        state = None

        def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal state
            mismatch, gradient, state, solution, _ = self.at(theta, observed, state)
            if solution.status != dini.Status.CONVERGED:
                raise RuntimeError(f"No equilibrium was found at E, kn = {np.exp(theta)}: {solution}.")
            course.append(float(mismatch))
            return float(mismatch), np.asarray(gradient)

        ended = minimize(value, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
        return ended.x, course


def pressed(settings: Settings, run: Run) -> Pressed:
    """The block at rest: its equilibrium, the gradient and the identification."""
    problem = Identification(PressedBlock(settings.cells), settings.depth)
    pattern = problem.scene.statics.pattern
    truth = np.log([TRUTH.E, TRUTH.kn])
    start = truth + np.log(START[:2])
    observed = problem.observed(truth)
    _, gradient, _, solution, certificate = problem.at(start, observed)
    began = time.perf_counter()
    jax.block_until_ready(problem.at(start, observed)[1])
    gradient_seconds = time.perf_counter() - began
    value = lambda theta: float(problem.at(theta, observed)[0])
    shifts = _STEP * np.eye(2)
    differences = np.array([(value(start + h) - value(start - h)) / (2 * _STEP) for h in shifts])
    found, course = problem.found(observed, start)
    noisy = []
    for seed in settings.seeds:
        random = run.random("noise", seed)
        blurred = tuple(
            one + settings.noise * float(jnp.sqrt(jnp.mean(one**2))) * random.normal(size=one.shape) for one in observed
        )
        noisy.append(np.exp(problem.found(blurred, start)[0] - truth))
    return Pressed(
        unknowns=pattern.shape[0],
        tets=len(problem.scene.statics.mesh.tets),
        nonzeros=pattern.count,
        colors=pattern.coloring[0],
        newton=int(solution.stats.steps),
        gradient_seconds=gradient_seconds,
        gradient=np.asarray(gradient),
        differences=differences,
        estimated=float(certificate.error),
        reliable=bool(certificate.reliable),
        solves=len(course),
        course=np.array(course),
        ratio=np.exp(found - truth),
        noisy=np.stack(noisy),
    )


def pressed_dome(settings: Settings) -> DomeResult:
    """The dome under a sphere that comes from aside, and what its markers do."""
    scene = PressedDome(settings.dome, settings.layers, 5)
    statics = scene.statics
    place = np.array([0.25, 0.15])

    @jax.jit
    def equilibrium(depth: Any, init: Any) -> Any:
        load = scene.load(TRUTH.E, 3e4, place, depth)
        x, found = statics.solve(load, init)
        return x, scene.markers(x), statics.contact_forces(x, load).sum(axis=0), found.stats.steps

    x = scene.mesh.nodes
    steps, depths = 0, np.linspace(0, 0.3, 4)[1:]
    for depth in depths:
        x, moved, force, taken = equilibrium(depth, x)
        steps += int(taken)
    began = time.perf_counter()
    jax.block_until_ready(equilibrium(depths[-1], x))
    seconds = time.perf_counter() - began
    slope = np.asarray(jax.jvp(lambda depth: equilibrium(depth, x)[1], (depths[-1],), (1.0,))[1])
    above, below = (np.asarray(equilibrium(depths[-1] + h, x)[1]) for h in (_STEP, -_STEP))
    difference = (above - below) / (2 * _STEP)
    rest = statics.mesh.nodes
    return DomeResult(
        unknowns=statics.pattern.shape[0],
        tets=len(statics.mesh.tets),
        nonzeros=statics.pattern.count,
        colors=statics.pattern.coloring[0],
        newton=steps,
        seconds=seconds,
        force=float(jnp.linalg.norm(force)),
        rest=np.asarray(scene.markers(rest)),
        moved=np.asarray(moved),
        nodes=np.asarray(x)[scene.outer],
        shift=np.asarray(jnp.linalg.norm(x - rest, axis=1))[scene.outer],
        slope=slope,
        slope_error=float(np.linalg.norm(slope - difference) / np.linalg.norm(difference)),
    )
