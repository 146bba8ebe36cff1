r"""An equilibrium layer, and a classifier that consists of one.

A layer applied over and over, always with the same weights and the same input, tends to a point that it leaves where it
is. A deep equilibrium model takes that point as its output:

.. math:: z^\star(x, \theta) = T(z^\star, x; \theta), \qquad T(z, x; \theta) = \tanh(W z + U x + b),

and is differentiated without the iterations that led there. With :math:`D = \operatorname{diag}(1 - z^{\star 2})` and
:math:`\partial_1 T = D W`, the implicit function theorem gives the gradient of a loss :math:`\ell(z^\star)`,

.. math:: \nabla_\theta \ell = \partial_2 T^\top u, \qquad (I - D W)^\top u = \nabla \ell(z^\star) .

The modes of dini differ in what they do about :math:`u`: `Implicit` solves for it, `Neumann` sums
:math:`\sum_{i<k} ((D W)^\top)^i \nabla \ell`, `JacobianFree` takes :math:`u = \nabla \ell`.

**The parametrization** is a monotone one (Winston and Kolter 2020),

.. math:: W = (1 - m) I - A^\top A + B - B^\top ,

so that :math:`v^\top (I - W) v \ge m \|v\|^2`. As :math:`0 < D \le I`, the matrix :math:`I - D W` is then invertible
and the fixed point unique, whatever `A` and `B` are. A plain `W` was tried first: with the exact gradient, training
takes it to where :math:`I - D W` is nearly singular, and the loss rises again. The first `A` is nearly
:math:`\sqrt{1 - m}\, I`, which makes `W` small: the layer contracts at first. Nothing keeps it so, as `W` may grow in
all but the positive directions, and the truncated modes must live with that.

References
----------
Bai, Kolter, Koltun, "Deep Equilibrium Models", NeurIPS 2019 (arXiv 1909.01377). Winston and Kolter, "Monotone operator
equilibrium networks", NeurIPS 2020 (arXiv 2006.08591).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini

#: The margin `m` of monotonicity.
MARGIN = 0.5


class Params(NamedTuple):
    """The weights of the layer and of the linear map that reads it out."""

    A: Float[Array, "d d"]
    B: Float[Array, "d d"]
    U: Float[Array, "d p"]
    b: Float[Array, " d"]
    V: Float[Array, "k d"]
    c: Float[Array, " k"]


def initial(key: Any, inputs: int, hidden: int, classes: int, gain: float = 0.5) -> Params:
    """Random weights, with `W` of a spectral norm of about `gain`."""
    keys = jax.random.split(key, 4)
    A, B = (jax.random.normal(key, (hidden, hidden)) / jnp.sqrt(hidden) for key in keys[:2])
    return Params(
        jnp.sqrt(1 - MARGIN) * jnp.eye(hidden) + gain / 8 * A,
        gain / 4 * B,
        jax.random.normal(keys[2], (hidden, inputs)) / jnp.sqrt(inputs),
        jnp.zeros(hidden),
        jax.random.normal(keys[3], (classes, hidden)) / jnp.sqrt(hidden),
        jnp.zeros(classes),
    )


def recurrent(params: Params) -> Float[Array, "d d"]:
    """The matrix `W`."""
    A, B = params.A, params.B
    return (1 - MARGIN) * jnp.eye(len(A), dtype=A.dtype) - A.T @ A + B - B.T


def layer(z: Float[Array, "*m d"], x: Float[Array, "*m p"], params: Params) -> Float[Array, "*m d"]:
    """The map `T`, for one input or a batch of them."""
    return jnp.tanh(z @ recurrent(params).T + x @ params.U.T + params.b)


_problem = dini.FixedPoint(layer)


def equilibrium(
    params: Params,
    x: Float[Array, "*m p"],
    mode: dini.Differentiation | None = None,
    solver: dini.Solver | None = None,
    *,
    on_failure: Any = "raise",
) -> dini.Solution:
    """The fixed point of the layer for one input or a batch; its derivative in `params` and `x` passes in `mode`.

    A batch is one problem, whose points are solved for together from zero. Without `mode` and `solver`, the derivative
    is implicit and the solver `dini.Anderson()`. `on_failure` is that of `dini.solve`.
    """
    z = jnp.zeros((*x.shape[:-1], params.b.size), params.b.dtype)
    return dini.solve(
        _problem,
        dini.Anderson() if solver is None else solver,
        z,
        x,
        params,
        differentiation=dini.Implicit() if mode is None else mode,
        on_failure=on_failure,
    )


def classify(
    params: Params,
    x: Float[Array, "*m p"],
    mode: dini.Differentiation | None = None,
    solver: dini.Solver | None = None,
    *,
    on_failure: Any = "raise",
) -> tuple[Float[Array, "*m k"], dini.Solution]:
    r"""The scores of the classes, :math:`V z^\star + c`, and the solution. The arguments are those of `equilibrium`."""
    solution = equilibrium(params, x, mode, solver, on_failure=on_failure)
    return solution.x @ params.V.T + params.c, solution
