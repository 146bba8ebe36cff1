r"""The fixed point of a contraction on a graph, and its implicit derivative.

.. math:: x = \varphi(\gamma A x + b), \qquad \|A\| \le 1, \quad 0 \le \gamma < 1,

has one solution where :math:`|\varphi'| \le 1`. With a cotangent :math:`g` and :math:`\Phi = \operatorname{diag}
\varphi'(\gamma A x + b)`, the implicit function theorem gives

.. math::
    y = g + \gamma A^\top \Phi y, \qquad \nabla_b = \Phi y, \qquad \nabla_{w_e} = \gamma (\Phi y)_{d_e} x_{s_e} .

Picard's iteration bounds its own error: :math:`\|x_{k+1} - x\| \le \gamma / (1 - \gamma)\, \|x_{k+1} - x_k\|`.

References
----------
Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022 (arXiv 2106.01680).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

import dini

from .operator import ContractiveOperator

Method = Literal["auto", "picard", "anderson", "direct", "gmres"]

#: Up to so many nodes, a linear fixed point is solved by LU factorizations by default.
DIRECT_LIMIT = 512
#: A product edge by edge costs about as much as one of a full matrix with so many numbers an edge (measured on a CPU).
_EDGE = 16


class ContractiveFixedPoint(eqx.Module):
    r"""The map from :math:`A` and :math:`b` to the solution of :math:`x = \varphi(\gamma A x + b)`.

    Parameters
    ----------
    gamma
        :math:`\gamma`, at least zero and below one.
    activation
        :math:`\varphi`, elementwise, with slopes between minus one and one; `None` is the identity.
    solver
        `"picard"` or `"anderson"`: through `dini.solve`, with `dini.Implicit` for the derivative. `"direct"` (LU
        factorizations, whose transpose solves for the derivative) and `"gmres"`: linear fixed points only. `"auto"`:
        direct for a linear one of up to 512 nodes, otherwise Picard's iteration up to `gamma` of 0.8 and Anderson's
        method above.
    tol
        Bound on the error of a solution, relative to the largest entry of :math:`b` where that is above
        one. By default the square root of the unit roundoff.
    max_iter
        Limit on the number of iterations, of GMRES in whole restarts of at most 30. By default as many as
        :math:`\gamma` needs for `tol`, of GMRES those of `dini.linear.GMRES`.
    on_failure
        What happens where a solution is not found: that of `dini.solve`. With `"raise"`, the graph's solution is NaN
        under `jax.vmap`, and where GMRES ended within a hundred times of what `tol` asks for.

    Raises
    ------
    ValueError
        For settings out of range, and for a linear solver with an activation.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> A = jnp.array([[0.0, 1.0], [0.0, 0.0]])
    >>> print(ContractiveFixedPoint(0.5)(A, jnp.array([1.0, 2.0])))
    [2. 2.]
    """

    gamma: float = eqx.field(static=True)
    activation: Callable[[Any], Any] | None = eqx.field(static=True)
    solver: Method = eqx.field(static=True)
    tol: float | None = eqx.field(static=True)
    max_iter: int | None = eqx.field(static=True)
    on_failure: Any = eqx.field(static=True)

    def __init__(
        self,
        gamma: float,
        activation: Callable[[Any], Any] | None = None,
        solver: Method = "auto",
        tol: float | None = None,
        max_iter: int | None = None,
        on_failure: Any = "raise",
    ):
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma must be at least 0 and below 1, for the map to contract: given {gamma}.")
        if solver not in get_args(Method):
            raise ValueError(f"solver must be one of {', '.join(get_args(Method))}: given {solver!r}.")
        if activation is not None and solver in ("direct", "gmres"):
            raise ValueError(f"solver={solver!r} solves linear fixed points: with an activation, use 'picard'.")
        if tol is not None and not tol > 0:
            raise ValueError(f"tol must be positive: given {tol}.")
        if max_iter is not None and max_iter < 1:
            raise ValueError(f"max_iter must be at least 1: given {max_iter}.")
        self.gamma, self.activation, self.solver = float(gamma), activation, solver
        self.tol, self.max_iter, self.on_failure = tol, max_iter, on_failure

    def __call__(self, A: ContractiveOperator | Float[Array, "*M n n"], b: Float[Array, n * M]) -> Array:
        """The fixed point, of the shape of `b`; `A` is an operator, or a matrix for each head."""
        solution = self.solve(A, b)
        if self.on_failure != "raise":
            return solution.x
        # outside of a batch a failure has raised; in one, its graph is marked
        return jnp.where(solution.status == dini.Status.CONVERGED, solution.x, jnp.nan)

    def method(self, size: int) -> Method:
        """What `"auto"` is for a graph of so many nodes."""
        if self.solver != "auto":
            return self.solver
        if self.activation is None and size <= DIRECT_LIMIT:
            return "direct"
        return "picard" if self.gamma <= 0.8 else "anderson"

    def solve(self, A: ContractiveOperator | Float[Array, "*M n n"], b: Float[Array, n * M]) -> dini.Solution:
        """The fixed point with its status, the number of iterations and the residual."""
        size = b.shape[0]
        _check(A, b)
        method = self.method(size)
        if method == "direct":
            x = _direct(dense(A), b, self.gamma)
            return self._known(A, b, x)
        if method == "gmres":
            held, krylov = cheaper(A), self._gmres(b)
            shifted = lambda x: x - self.gamma * product(held, x)
            x = dini.linear.solve(shifted, b, solver=krylov, on_failure=self.on_failure, name="the graph's fixed point")
            return self._known(A, b, x)
        stop, tol = self._stop(b), self._tol(b)
        steps = iterations(self.gamma, tol, b.size) if self.max_iter is None else self.max_iter
        solver = dini.FixedPointIteration if method == "picard" else dini.Anderson
        adjoint = dini.linear.SeriesFirst(dini.linear.GMRES(), max_terms=iterations(self.gamma, 1e-11, b.size))
        return dini.solve(
            dini.FixedPoint(self._map),
            solver(tol=stop, max_steps=steps),
            jnp.zeros_like(b),
            cheaper(A),
            b,
            differentiation=dini.Implicit(linear_solver=adjoint if method == "picard" else dini.linear.GMRES()),
            on_failure=self.on_failure,
        )

    def _map(self, x: Array, A: Any, b: Array) -> Array:
        inner = self.gamma * product(A, x) + b
        return inner if self.activation is None else self.activation(inner)

    def _tol(self, b: Array) -> float:
        return math.sqrt(jnp.finfo(b.dtype).eps) if self.tol is None else self.tol

    def _stop(self, b: Array) -> Array:
        """The residual below which the error is below the tolerance.

        The error is at most the residual over `1 - gamma`, and the maximum norm at most the Euclidean one.
        """
        scale = jax.lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(b), initial=0), 1))
        return self._tol(b) * (1 - self.gamma) * scale

    def _gmres(self, b: Array) -> dini.linear.GMRES:
        """GMRES with the limits that were given, and a residual that keeps the tolerance whatever `b` is."""
        rtol = max(self._tol(b) * (1 - self.gamma) / math.sqrt(max(b.size, 1)), 8 * float(jnp.finfo(b.dtype).eps))
        if self.max_iter is None:
            return dini.linear.GMRES(rtol=rtol)
        restart = min(30, self.max_iter)
        return dini.linear.GMRES(rtol=rtol, restart=restart, max_steps=math.ceil(self.max_iter / restart))

    def _known(self, A: Any, b: Array, x: Array) -> dini.Solution:
        """The solution of a linear system, judged by its residual as iterations are, or by rounding."""
        error = jnp.linalg.norm(jnp.ravel(self._map(x, A, b) - x))
        rounding = 64 * jnp.finfo(b.dtype).eps * jnp.linalg.norm(jnp.ravel(b))
        solved = error <= jnp.maximum(self._stop(b), rounding)
        status = jnp.where(solved, dini.Status.CONVERGED, dini.Status.MAX_STEPS)
        status = jnp.where(jnp.isfinite(error), status, dini.Status.NONFINITE)
        return dini.Solution.of(x, status, jnp.zeros((), jnp.int32), error)


def product(A: ContractiveOperator | Array, x: Float[Array, n * M]) -> Float[Array, n * M]:
    """The product with an operator, or with a matrix for each head."""
    if isinstance(A, ContractiveOperator):
        return A.mv(x)
    return A @ x if x.ndim == 1 else jnp.einsum("mij,jm->im", A, x)


def dense(A: ContractiveOperator | Array) -> Float[Array, "*M n n"]:
    """The matrix of each head."""
    return A.dense() if isinstance(A, ContractiveOperator) else A


def cheaper(A: ContractiveOperator | Array) -> Any:
    """Whichever of an operator and its matrices has the faster products."""
    if isinstance(A, ContractiveOperator) and A.size**2 > _EDGE * A.weights.shape[0]:
        return A
    return dense(A)


def iterations(gamma: float, tol: float, size: int) -> int:
    r"""So many steps of Picard's iteration from zero bring the step below :math:`(1 - \gamma)` tol in any norm.

    The `k`-th step is at most :math:`\gamma^k \|b\|` in the norm in which the map contracts; norms of vectors differ by
    at most a factor of their size.
    """
    if gamma == 0:
        return 2
    return 2 + max(0, math.ceil(math.log(tol * (1 - gamma) / max(size, 1)) / math.log(gamma)))


def _direct(matrices: Float[Array, "*M n n"], b: Float[Array, n * M], gamma: float) -> Float[Array, n * M]:
    """Solve by an LU factorization for each head, which the derivative uses again."""

    def one(matrix: Array, b: Array) -> Array:
        shifted = jnp.eye(b.size, dtype=b.dtype) - gamma * matrix
        # a strictly diagonally dominant matrix, or the transpose of one, is regular
        return lx.linear_solve(lx.MatrixLinearOperator(shifted), b, lx.LU(), throw=False).value

    return one(matrices, b) if b.ndim == 1 else jax.vmap(one, (0, 1), 1)(matrices, b)


def _check(A: Any, b: Any) -> None:
    """Raise unless shapes fit."""
    if b.ndim not in (1, 2):
        raise ValueError(f"b must have shape (nodes,) or (nodes, heads): given {b.shape}.")
    n = b.shape[0]
    if isinstance(A, ContractiveOperator):
        given, needed = A.in_structure().shape, b.shape
    else:
        given, needed = A.shape, (*b.shape[1:], n, n)
    if given != needed:
        raise ValueError(f"A must fit b of shape {b.shape}, so have shape {needed}: given {given}.")
