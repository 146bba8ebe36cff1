"""What a constraint costs, forward and backward, split over experts or not, and over devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.measure import Program, Timed, compile_program, side_by_side, take_turns

from .constraint import Constraint, LeastSquaresConstraint
from .diffusion_sorption import DiffusionSorption
from .fourier import FourierOperator
from .mixture import MixtureOfConstraints
from .partition import DomainPartition


def forward_and_backward(
    equation: Any, constraint: Constraint, basis: Float[Array, "batch *mesh n"], initials: Float[Array, "batch ..."]
) -> Program:
    """The constraint of a batch and the derivative of its prediction: a function of the basis functions.

    It returns the steps of the solves, the prediction, and the derivative of the prediction's mean square.
    """
    keys = jax.random.split(jax.random.key(0), len(basis))

    def value(basis: Array) -> tuple[Array, tuple[Array, Array]]:
        found = jax.vmap(lambda b, initial, key: constraint(equation.terms(b, initial), key))(basis, initials, keys)
        steps = jnp.zeros(1) if found.info is None else found.info.steps
        return jnp.mean(found.u**2), (steps, found.u)

    def both(basis: Array) -> tuple[Array, Array, Array]:
        (_, (steps, u)), slope = jax.value_and_grad(value, has_aux=True)(basis)
        return steps, u, slope

    return compile_program(both, basis)


@dataclass(frozen=True)
class Cost(Timed):
    """What the constraints of a batch cost, forward and backward, the mean of some networks."""

    iterations: float
    """Of the solver, the mean over the solves."""
    times: list[float]
    """In seconds, with those of others in turns."""


@dataclass(frozen=True)
class Devices(Timed):
    """The experts' constraints on some devices: times in seconds, and the distance from one batch on one device."""

    count: int
    times: list[float]
    prediction: float
    """Largest distance of the prediction from that of `jax.vmap`, relative to its size."""
    derivative: float
    """The same of the derivative in the basis functions."""


@dataclass(frozen=True)
class Workload:
    """What is measured over devices: the mesh, the network's functions, the experts, and how often."""

    times: int
    places: int
    functions: int
    experts: int
    num_points: int
    batch: int
    rounds: int


def over_devices(counts: Sequence[int], work: Workload) -> list[Devices]:
    """Measure on so many virtual devices of this machine, and as one batch, in a process of its own.

    The number of devices is fixed where a process first uses JAX.
    """
    given = {"counts": list(counts), "work": asdict(work)}
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={max(counts)}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", __name__, json.dumps(given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The measurement on {max(counts)} devices failed: {done.stderr}")
    return [Devices(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def measure(counts: Sequence[int], work: Workload) -> list[Devices]:
    """Measure in this process, which needs as many devices as the largest count. Zero stands for `jax.vmap`.

    The functions are an untrained network's, which are nearly dependent: what devices differ by is rounding, times the
    condition number of the solves.
    """
    equation = DiffusionSorption(work.times, work.places)
    initials = jnp.linspace(0.05, 0.2, work.batch)[:, None] * jnp.ones(work.places)
    sizes = {"width": 8, "depth": 1, "modes": 3, "projection": 16, "padding": (0, 0)}
    network = FourierOperator(3, work.functions, **sizes, key=jax.random.key(0))
    basis = jax.jit(jax.vmap(lambda initial: network(equation.inputs(initial))))(initials)
    solver = dini.LevenbergMarquardt(hessian="gauss-newton", tol=1e-11, max_steps=50)
    constraint = LeastSquaresConstraint(equation.residual, solver, num_points=work.num_points)
    partition = DomainPartition((1, work.experts))

    def program(count: int) -> Program:
        if not count:
            mixture = MixtureOfConstraints(constraint, partition)
        else:
            auto = (jax.sharding.AxisType.Auto,)
            mesh = jax.make_mesh((count,), ("expert",), axis_types=auto, devices=jax.devices()[:count])
            mixture = MixtureOfConstraints(constraint, partition, "expert", mesh)
        return forward_and_backward(equation, mixture, basis, initials)

    programs = side_by_side(program, (0, *counts))
    found = [[np.asarray(part) for part in one()[1:]] for one in programs]
    spent = take_turns(programs, work.rounds)
    distance = lambda one, other: float(np.max(np.abs(one - other)) / np.max(np.abs(other)))
    return [
        Devices(count, own, *(distance(a, b) for a, b in zip(parts, found[0], strict=True)))
        for count, own, parts in zip((0, *counts), spent, found, strict=True)
    ]


if __name__ == "__main__":
    with jax.enable_x64(True):
        asked = json.loads(sys.argv[1])
        print(json.dumps([asdict(one) for one in measure(asked["counts"], Workload(**asked["work"]))]))
