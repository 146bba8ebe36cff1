"""JAXopt's solvers with its own implicit differentiation, where it is installed.

JAXopt is no dependency: without it the experiment has a dash in its place. Its solvers differ from dini's
of the same names: its projected gradient never restarts its momentum, and its block coordinate descent takes steps that
are θ times shorter.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dini_zoo.kit.data import Sample

from ..support_vectors import center
from .solvers import BLOCKS, MIRROR_DESCENT, PROJECTED_GRADIENT, Limits

Solve = Callable[[Array, Sample], Array]


def peers(step_size: float, limits: Limits) -> dict[str, Solve]:
    """JAXopt's solvers by the names of dini's, each a function of `(theta, train)` that returns the dual solution."""
    if importlib.util.find_spec("jaxopt") is None:
        return {}
    import jaxopt  # pyright: ignore[reportMissingImports]

    dual = jaxopt.objective.multiclass_linear_svm_dual
    simplex = jaxopt.projection.projection_simplex
    mirror = jaxopt.MirrorDescent.make_projection_grad(
        lambda y, _: jax.nn.softmax(y, axis=1), lambda x: jnp.log(jnp.clip(x, 1e-30))
    )
    block = jaxopt.prox.make_prox_from_projection(simplex)

    def project(x: Array, _: None) -> Array:
        return jax.vmap(simplex)(x)

    solvers = {
        MIRROR_DESCENT: jaxopt.MirrorDescent(dual, mirror, stepsize=1.0, maxiter=limits.mirror, tol=0.0),
        PROJECTED_GRADIENT: jaxopt.ProjectedGradient(
            dual, project, stepsize=step_size, maxiter=limits.projected, tol=0.0, acceleration=True
        ),
        BLOCKS: jaxopt.BlockCoordinateDescent(dual, block, maxiter=limits.blocks, tol=0.0),
    }

    def solve(solver: object) -> Solve:
        run = solver.run  # pyright: ignore[reportAttributeAccessIssue]
        return lambda theta, train: run(center(train.Y), None, l2reg=theta, data=tuple(train)).params

    return {name: solve(solver) for name, solver in solvers.items()}
