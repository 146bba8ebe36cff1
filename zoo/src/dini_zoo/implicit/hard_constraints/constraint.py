r"""A differential equation as a layer: the combination of basis functions that solves it best, by least squares.

A network gives $N$ functions $b$ on a mesh. The layer returns their combination $u = b\,w^\star$ with

.. math:: w^\star(b) = \arg\min_{w \in \mathbb{R}^N} \tfrac12 \|r(w; b)\|^2 + \tfrac{\varrho^2}{2} \|w\|^2 ,

$r$ the residuals of the equation at sampled points of the mesh and of its initial and boundary conditions. What enters
$r$ is linear in $w$: the functions' derivatives are taken once, on the whole mesh, and combined in the solver.

The derivative is implicit. With $G(w, b) = J^\top r$, $J = \partial_w r$, where the rows $\varrho w$ are among the
residuals, $\partial w^\star = -(\partial_w G)^{-1} \partial_b G$, at the cost of one system of size $N$.

References
----------
Chalapathi, Du, Krishnapriyan, "Scaling physics-informed hard constraints with mixture-of-experts", ICLR 2024 (arXiv
2402.13412). Négiar, Mahoney, Krishnapriyan, "Learning differentiable solvers for systems with hard constraints", ICLR
2023 (arXiv 2207.08675).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import dini

_SOLVER = dini.LevenbergMarquardt(hessian="gauss-newton", max_steps=50)


class Terms(NamedTuple):
    """What a constraint needs of the basis functions, `n` of them, which are the last axis of every array."""

    basis: Float[Array, "*mesh n"]
    inside: Any
    """Arrays `(*mesh, n)` that enter the residual at a point: the functions, their derivatives."""
    shared: Any = None
    """Arrays `(..., n)` that every solve sees whole: those of the initial and boundary conditions."""
    data: Any = None
    """Arrays that are not combined: the initial condition, the equation's parameters."""


class Info(NamedTuple):
    """How the solves ended, one entry a solve."""

    status: Int[Array, " solves"]
    """A `dini.Status`; zero is success. A solve that stopped early is no error: its weights are used."""
    steps: Int[Array, " solves"]
    error: Float[Array, " solves"]
    """The norm of the gradient at the end."""


class Constrained(NamedTuple):
    """A prediction."""

    u: Float[Array, "*mesh"]
    weights: Float[Array, "*experts n"]
    info: Info | None


class Constraint:
    """Base of the layers: called with terms and a random key, they return a prediction."""

    def __call__(self, terms: Terms, key: Array) -> Constrained:
        raise NotImplementedError


@dataclass(frozen=True)
class SoftConstraint(Constraint):
    """No constraint: the sum of the functions. The equation is left to the loss."""

    def __call__(self, terms: Terms, key: Array) -> Constrained:
        del key
        weights = jnp.ones(terms.basis.shape[-1:], terms.basis.dtype)
        return Constrained(terms.basis @ weights, weights, None)


@dataclass(frozen=True)
class LeastSquaresConstraint(Constraint):
    r"""The combination of basis functions that satisfies an equation best at sampled points (PI-HC).

    Parameters
    ----------
    residual
        `residual(inside, shared, data)`: any tree of residuals, for the combined arrays of `Terms` (without their last
        axis). Those of `inside` are given at the sampled points, as vectors.
    solver
        A least-squares solver of dini; by default Levenberg-Marquardt with at most 50 steps.
    ridge
        $\varrho$. The rows $\varrho w$ are residuals like the others: the derivative has them as well.
    start
        What all weights begin at.
    num_points
        The number of points to sample, without replacement; all if it is not given.
    derivative
        The matrix of the derivative's system: `"gauss-newton"`, $J^\top J$, which is always positive definite and
        leaves out curvature times residual; or `"exact"`, $\partial_w G$, which is right for large residuals too, but
        need not be definite where a solve stopped early. `"none"` takes the weights for constants, to compare with.
    fixed
        So many functions at the end of the basis keep the weight one: what the prediction has besides its basis.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini_zoo.implicit.hard_constraints import LeastSquaresConstraint, Terms
    >>> with jax.enable_x64(True):
    ...     x = jnp.linspace(0, 1, 20)
    ...     b = jnp.stack([jnp.exp(-x), jnp.sin(x)], -1)
    ...     slope = jnp.stack([-jnp.exp(-x), jnp.cos(x)], -1)
    ...     decay = LeastSquaresConstraint(lambda f, first, _: (f["slope"] + f["u"], first - 2.0), ridge=0.0)
    ...     found = decay(Terms(b, {"u": b, "slope": slope}, b[0]), jax.random.key(0))
    >>> print(found.weights.round(6) + 0)
    [2. 0.]
    """

    residual: Callable[[Any, Any, Any], Any]
    solver: dini.Solver = _SOLVER
    ridge: float = 1e-4
    start: float = 1.0
    num_points: int | None = None
    derivative: Literal["gauss-newton", "exact", "none"] = "gauss-newton"
    fixed: int = 0

    def __post_init__(self) -> None:
        if not self.ridge >= 0:
            raise ValueError(f"LeastSquaresConstraint's ridge must not be negative: given {self.ridge}.")
        if self.num_points is not None and not self.num_points > 0:
            raise ValueError(f"LeastSquaresConstraint's num_points must be positive: given {self.num_points}.")
        if self.derivative not in ("gauss-newton", "exact", "none"):
            raise ValueError(
                "LeastSquaresConstraint's derivative must be 'gauss-newton', 'exact' or 'none': given "
                f"{self.derivative!r}."
            )

    def __call__(self, terms: Terms, key: Array, expert: Int[Array, ""] | int = 0) -> Constrained:
        """Sample, solve and combine. The sample depends on the key and on the number of the expert."""
        solution = self.solve(terms, sample(terms, self.num_points, jax.random.fold_in(key, expert)))
        weights = jax.lax.stop_gradient(solution.x) if self.derivative == "none" else solution.x
        return Constrained(terms.basis @ self._all(weights), weights, Info(solution.status, *solution.stats))

    def solve(self, terms: Terms, inside: Any) -> dini.Solution:
        """The solution for the weights, given what is inside at the sampled points as arrays `(points, n)`."""
        dtype = jnp.result_type(*jax.tree.leaves((terms.basis, inside, terms.shared)))
        if dtype != jnp.float64:
            raise TypeError(
                f"LeastSquaresConstraint needs basis functions in float64: given {dtype.name}. In float32 the solver "
                "stalls and the derivative is noise: turn on jax_enable_x64."
            )
        functions = terms.basis.shape[-1]
        if not 0 <= self.fixed < functions:
            raise ValueError(f"fixed must be less than the number of functions, {functions}: given {self.fixed}.")
        for name, tree, axes in (("inside", inside, 2), ("shared", terms.shared, 1)):
            for leaf in jax.tree.leaves(tree):
                if jnp.ndim(leaf) < axes or jnp.shape(leaf)[-1] != functions:
                    raise ValueError(
                        f"{name} must have arrays of {axes} axes or more, the last of length {functions}: given "
                        f"{jnp.shape(leaf)}."
                    )
        first = jnp.full(functions - self.fixed, self.start, dtype)
        mode = dini.Implicit(condition=self.stationarity if self.derivative == "gauss-newton" else None)
        return dini.solve(
            dini.LeastSquares(self.residuals),
            self.solver,
            first,
            inside,
            terms.shared,
            terms.data,
            differentiation=mode,
            # a solve that stops early is reported by its status; its lane goes on
            on_failure="ignore",
        )

    def residuals(self, w: Float[Array, " n"], inside: Any, shared: Any, data: Any) -> Any:
        """All residuals, the ridge's included."""
        combine = lambda leaf: leaf @ self._all(w)
        equation = self.residual(jax.tree.map(combine, inside), jax.tree.map(combine, shared), data)
        return equation, self.ridge * w

    def stationarity(self, w: Float[Array, " n"], *args: Any) -> Float[Array, " n"]:
        r"""$J^\top r$, with a derivative in $w$ that takes $J$ for constant: $J^\top J$.

        Its derivative in all else is the full one.
        """
        _, pull = jax.vjp(lambda v: self.residuals(v, *args), jax.lax.stop_gradient(w))
        return pull(self.residuals(w, *args))[0]

    def _all(self, w: Float[Array, " n"]) -> Float[Array, " m"]:
        return jnp.concatenate([w, jnp.ones(self.fixed, w.dtype)]) if self.fixed else w


def sample(terms: Terms, num_points: int | None, key: Array) -> Any:
    """What is inside at points of the mesh that are drawn without replacement, as arrays `(points, n)`.

    Raises `ValueError` where there are fewer points than asked for.
    """
    mesh = terms.basis.shape[:-1]
    total = math.prod(mesh)
    if num_points is not None and num_points > total:
        raise ValueError(f"num_points must be at most the number of points of the mesh, {total}: given {num_points}.")
    flat = jax.tree.map(lambda leaf: leaf.reshape(total, leaf.shape[-1]), terms.inside)
    if num_points is None:
        return flat
    chosen = jax.random.permutation(key, total)[:num_points]
    return jax.tree.map(lambda leaf: leaf[chosen], flat)
