"""Iterative refinement of linear solves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dini.extend import trees

from ._base import IterativeSolver, OptStep
from ._krylov import gmres
from ._table import AutoOrBoolean, Function, Number, solver_class
from .tree_util import tree_dot


class _RefinementState(NamedTuple):
    """The number of corrections, the norm of the residual, the residual, and how often each part was called."""

    iter_num: Any
    error: Any
    target_residuals: Any
    init: Any
    num_matvec_eval: Any = 0
    num_matvec_bar_eval: Any = 0
    num_solve_eval: Any = 0


class _Refinement(IterativeSolver):
    """Corrections by a solver of another matrix."""

    matvec_A: Any
    matvec_A_bar: Any
    solve: Callable[..., Any]

    def _product(self, A: Any, A_bar: Any = None, bar: bool = False) -> Any:
        if bar and self.matvec_A_bar is not None:
            return functools.partial(self.matvec_A_bar, A_bar)
        return functools.partial(tree_dot if self.matvec_A is None else self.matvec_A, A)

    def _residual(self, params: Any, A: Any, b: Any) -> Any:
        return trees.sub(trees.inexact(b), self._product(A)(params))

    def init_params(self, A: Any, b: Any, A_bar: Any = None) -> Any:
        """Return zero."""
        del A, A_bar
        return trees.zeros_like(trees.inexact(b))

    def init_state(self, init_params: Any, A: Any, b: Any, A_bar: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the state at the start, with its residual."""
        start = self.init_params(A, b, A_bar)
        residual = self._residual(start if init_params is None else init_params, A, b)
        zero = jnp.zeros((), jnp.int32)
        return _RefinementState(zero, trees.norm(residual), residual, start, zero + 1, zero, zero)

    def update(self, params: Any, state: Any, A: Any, b: Any, A_bar: Any = None) -> OptStep:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the point after a correction."""
        product = self._product(A, A_bar, bar=True)
        params = trees.add(params, self.solve(product, state.target_residuals, init=state.init))
        residual = self._residual(params, A, b)
        once_more = {name: getattr(state, name) + 1 for name in ("iter_num", *state._fields[4:])}
        state = state._replace(error=trees.norm(residual), target_residuals=residual, **once_more)
        if self.verbose:
            self.log_info(state, error_name="Residual Norm")
        return OptStep(params, state)

    def run(self, init_params: Any, A: Any, b: Any, A_bar: Any = None) -> OptStep:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Correct until the norm of the residual is at most ``tol``, or ``maxiter`` times."""
        init_params = self.init_params(A, b, A_bar) if init_params is None else init_params
        return super().run(init_params, A, b, A_bar)

    def optimality_fun(self, params: Any, A: Any, b: Any, A_bar: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the residual."""
        del A_bar
        return self._residual(params, A, b)


@solver_class(
    error="the norm of the residual",
    about={
        "matvec_A, matvec_A_bar": "``matvec(A, x)`` with both matrices; without the latter they are the same.",
        "solve": "``solve(matvec, b, init=...)``.",
        "maxiter": "Largest number of corrections.",
    },
)
class IterativeRefinement(_Refinement):
    r"""Iterative refinement: :math:`x \leftarrow x + \bar A^{-1} (b - A x)`, with :math:`\bar A` near ``A``.

    ``run(init_params, A, b, A_bar=None)`` starts at ``init_params``, or at zero for ``None``. ``A`` is a tree of
    matrices, one for each leaf of ``x``, or what ``matvec_A`` takes. It converges, whatever the accuracy of
    ``solve``, if that makes the residual smaller (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    chapter 12).

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> A = jnp.array([[4.0, 1.0], [1.0, 3.0]])
    >>> refinement = jaxopt.IterativeRefinement(tol=1e-5)
    >>> print(refinement.run(None, A, jnp.array([6.0, 7.0])).params.round(4))
    [1. 2.]
    """

    matvec_A: Function | None = None
    matvec_A_bar: Function | None = None
    solve: Any = functools.partial(gmres, ridge=1e-6)
    maxiter: int | jax.Array = 10
    tol: Number = 1e-7
    verbose: bool | int = False
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
