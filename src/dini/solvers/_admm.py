"""The alternating direction method of multipliers."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.settings import require_between, require_count, require_positive
from ..conditions._descent import curvature
from ..linear import CG, DENSE_LIMIT, sparsity
from ..linear._materialize import images
from ..linear._solve import solve_known
from ..problems import Composite, PrimalDual
from ..protocols import AnyProblem
from ..trees import Scalar, Tree
from ._base import Solver, infinity, solver
from ._condat_vu import operator_norm, saddle_scales
from .judge import _units

#: how often the balance of the residuals is looked at, and what is too far from it
_EVERY = 25
_UNBALANCED = 3.0


class State(NamedTuple):
    """Carried from step to step: products at the point, the copy of ``K x``, the weight and the factorization."""

    error: Scalar
    gradient: Tree
    image: Any
    copy: Any
    weight: Any
    factor: Any
    norm: Any
    steps: Scalar
    scales: Any


@solver
class ADMM(Solver):
    r"""The alternating direction method of multipliers for :math:`f(x) + h(Kx)`, ``f`` quadratic.

    For a :class:`dini.Composite`: with a copy :math:`z = Kx`, weight :math:`\rho` and relaxation :math:`\alpha`,

    .. math::
        \begin{aligned}
        x &\leftarrow \arg\min_x f(x) + \langle y, Kx\rangle + \tfrac\rho2\|Kx - z\|^2, \qquad (1) \\
        v &= \alpha Kx + (1 - \alpha) z, \qquad (2) \\
        z &\leftarrow \mathrm{prox}_{h/\rho}(v + y/\rho), \qquad (3) \\
        y &\leftarrow y + \rho(v - z). \qquad (4)
        \end{aligned}

    (1) is one linear system with the matrix :math:`\nabla^2 f + \rho K^\top K`, which must be positive definite: up to
    ``dense_limit`` unknowns it is factorized once (and again when :math:`\rho` changes), above it is solved by
    conjugate gradients. Every 25 steps :math:`\rho` is changed where one residual is more than three times the other.
    The error is the norm of :math:`\nabla f(x) + K^\top y` and :math:`w (Kx - z)` together, with the weight and the
    scale of :class:`CondatVu`'s.

    A ``g`` goes behind the operator: ``h`` a :class:`dini.penalties.Product` and ``K`` with the identity as one output.

    Parameters
    ----------
    weight
        :math:`\rho` at the start. Default: :math:`L / \|K\|^2` with the curvature of ``f``, one without.
    relaxation
        :math:`\alpha`, in (0, 2).
    dense_limit
        Largest number of unknowns to factorize.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Boyd, Parikh, Chu, Peleato, Eckstein, "Distributed optimization and statistical learning via the alternating
    direction method of multipliers", Found. Trends Mach. Learn. 2011.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Composite(
    ...     lambda x, a: 0.5 * jnp.sum((x - a) ** 2), dini.penalties.L1(0.5), jnp.array([[1.0, -1.0]])
    ... )
    >>> a = jnp.array([0.0, 3.0])
    >>> print(dini.solve(problem, dini.ADMM(), problem.start(a, a), a).x.primal.round(3))
    [0.5 2.5]
    """

    weight: Any = None
    relaxation: float = field(default=1.6, metadata={"static": True})
    dense_limit: int = field(default=DENSE_LIMIT, metadata={"static": True})
    max_steps: int = field(default=5000, metadata={"static": True})

    solves = (Composite,)
    composite = True
    gradient_only = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("ADMM's weight", self.weight)
        require_count("ADMM's dense_limit", self.dense_limit, 0)
        require_between("ADMM's relaxation", self.relaxation, 0, 2)

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless there is no ``g``."""
        super().check(problem, x)
        part = problem.penalty if problem.constraint is None else problem.constraint
        if part is not None:
            raise TypeError(
                f"ADMM cannot handle the {part.name} on x itself. Apply it to the operator's output (a Product of the "
                "two, and an operator that also returns x), or use CondatVu."
            )

    def _require_quadratic(self, problem: Composite, x: Tree, args: tuple[Tree, ...]) -> None:
        flat, unravel = ravel_pytree(x)
        gradient = lambda u: ravel_pytree(problem.smooth_gradient(unravel(u), *args))[0]
        if sparsity(lambda u: jax.jvp(gradient, (u,), (jnp.ones_like(u),))[1], flat).count:
            raise ValueError(
                f"ADMM needs a quadratic f; the curvature of {problem.name}'s f depends on x. "
                "If f has a proximal operator, apply it to the operator's output; otherwise use CondatVu."
            )

    def _product(self, problem: Composite, x: Tree, args: tuple[Tree, ...], weight: Any) -> Any:
        """Return the matrix of the x-update as a product."""
        curved = jax.linearize(lambda u: problem.smooth_gradient(u, *args), x)[1]
        forward = jax.linearize(lambda u: problem.image(u, *args), x)[1]
        return lambda v: trees.axpy(weight, problem.adjoint(forward(v), x, *args), curved(v))

    def _factorize(self, problem: Composite, x: Tree, args: tuple[Tree, ...], weight: Any) -> jax.Array:
        flat, unravel = ravel_pytree(x)
        product = self._product(problem, x, args, weight)
        matrix = images(lambda e: ravel_pytree(product(unravel(e)))[0], flat)
        return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)

    def init(self, problem: Composite, x: PrimalDual, *args: Tree) -> State:
        """Return the state before the first step."""
        primal, inf = x.primal, infinity(x)
        if problem.smooth:
            self._require_quadratic(problem, primal, args)
        norm = operator_norm(problem, primal, *args).astype(inf.dtype)
        weight = self._balanced(problem, primal, args, norm) if self.weight is None else self.weight
        weight = jnp.asarray(weight, inf.dtype)
        dense = trees.size(primal) <= self.dense_limit
        factor = self._factorize(problem, primal, args, weight) if dense else None
        image = problem.image(primal, *args)
        slope = problem.smooth_gradient(primal, *args)
        return State(inf, slope, image, image, weight, factor, norm, jnp.zeros((), jnp.int32), _units.Units.unknown(x))

    def _balanced(self, problem: Composite, x: Tree, args: tuple[Tree, ...], norm: Any) -> Any:
        top = curvature(lambda u: problem.smooth_gradient(u, *args), x) if problem.smooth else jnp.zeros_like(norm)
        return jnp.where((top > 0) & (norm > 0), top / jnp.where(norm > 0, norm, 1) ** 2, 1.0)

    def step(self, problem: Composite, x: PrimalDual, state: State, *args: Tree) -> tuple[PrimalDual, State]:
        """Take one step."""
        rho, z, y = state.weight, state.copy, x.dual
        pull = lambda v: problem.adjoint(v, x.primal, *args)
        # (1), from the last x on: (f'' + rho K'K) move = right = -(f'(x) + K'(y + rho (K x - z)))
        away = trees.axpy(rho, trees.sub(state.image, z), y)
        right = trees.neg(trees.add(state.gradient, pull(away)))
        if state.factor is None:
            matvec = self._product(problem, x.primal, args, rho)
            move = solve_known(
                matvec, right, structure="positive definite", solver=CG(), on_failure="ignore", name="the x-update"
            )
        else:
            flat, unravel = ravel_pytree(right)
            move = unravel(jax.scipy.linalg.cho_solve((state.factor, True), flat, check_finite=False))
        primal = trees.add(x.primal, move)
        image, gradient = problem.image(primal, *args), problem.smooth_gradient(primal, *args)

        # (2): v = relaxed, K x = image
        relaxed = trees.add(trees.scale(self.relaxation, image), trees.scale(1 - self.relaxation, z))
        argument = trees.axpy(1 / rho, y, relaxed)
        # (3): the new z = copy
        copy = problem.outer_prox(argument, 1 / rho)
        # (4), since argument = v + y / rho
        dual = trees.scale(rho, trees.sub(argument, copy))

        adjoint = pull(dual)
        dtype = state.error.dtype
        below = trees.norm(trees.add(gradient, adjoint)).astype(dtype)
        apart = trees.norm(trees.sub(image, copy)).astype(dtype)
        # relative to what they are made of, so that units do not count
        share = lambda part, whole: part / jnp.where(whole > 0, whole, 1)
        scaled_below = share(below, jnp.maximum(trees.norm(gradient), trees.norm(adjoint)))
        scaled_apart = share(apart, jnp.maximum(trees.norm(image), trees.norm(copy)))
        ratio = jax.lax.stop_gradient(scaled_apart / jnp.maximum(scaled_below, jnp.finfo(dtype).tiny)).astype(dtype)
        steps = state.steps + 1
        apart_far = (ratio > _UNBALANCED) | (ratio < 1 / _UNBALANCED)
        change = (steps % _EVERY == 0) & apart_far & jnp.isfinite(ratio)
        weight = jnp.where(change, rho * jnp.clip(jnp.sqrt(ratio), 0.1, 10.0), rho)
        factor = state.factor
        if factor is not None:
            renew = lambda: self._factorize(problem, primal, args, weight)
            factor = jax.lax.cond(change, renew, lambda: state.factor)
        bottom = state.norm * trees.norm(primal)
        scales, error = saddle_scales(state.scales, (gradient, adjoint), bottom, below, apart, trees.eps(primal))
        new = State(error.astype(dtype), gradient, image, copy, weight, factor, state.norm, steps, scales)
        return PrimalDual(primal, dual), new
