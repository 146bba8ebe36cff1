"""What a solve returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .status import SolveError, Status


class Stats(NamedTuple):
    """Figures of a solve; constants of differentiation.

    Attributes
    ----------
    steps
        Steps taken; for solvers with a line search a rejected trial counts as a step.
    error
        The last value of the solver's optimality measure, which its stopping test compares with ``tol``.
    """

    steps: Any
    error: Any


class Solution(NamedTuple):
    """The solution of a problem.

    Attributes
    ----------
    x
        The solution, with the structure of ``init``. Differentiable.
    figures
        Status, steps, error and what the error was compared with, as one small array (each array that leaves a compiled
        program costs time): read them from ``status`` and ``stats``.
    aux
        The auxiliary output of the problem's function at ``x``, where ``has_aux=True``. Differentiable.
    state
        The solver's last state, where ``return_state=True`` (constants of differentiation).
    history
        Per-step records, where they were asked for with :class:`dini.Record`.

    Examples
    --------
    >>> import dini
    >>> solution = dini.root(lambda x, a: x**2 - a, 1.0, 4.0)
    >>> bool(solution.success), solution.message
    (True, 'The stopping test was met.')
    """

    x: Any
    figures: Any
    aux: Any = None
    state: Any = None
    history: Any = None

    @classmethod
    def of(cls, x: Any, status: Any, steps: Any, error: Any, tol: Any = np.nan, **rest: Any) -> Solution:
        """Build a solution from its figures; ``tol`` is what the error was compared with, if that is known."""
        dtype = jnp.promote_types(error.dtype, jnp.float32)
        given = [jnp.asarray(figure, dtype) for figure in (status, steps, error, tol)]  # pyright: ignore[reportUnknownMemberType]
        figures = jnp.stack(given)
        return cls(x, jax.lax.stop_gradient(figures), **rest)

    @property
    def status(self) -> Any:
        """A :class:`dini.Status` as an integer array, one a lane under ``vmap``. Zero is success."""
        return self.figures[..., 0].astype(jnp.int32)

    @property
    def stats(self) -> Stats:
        """Figures of the solve, see :class:`Stats`."""
        return Stats(self.figures[..., 1].astype(jnp.int32), self.figures[..., 2])

    @property
    def success(self) -> Any:
        """Whether the solve succeeded (an array under ``jit`` and ``vmap``)."""
        return self.status == Status.CONVERGED

    @property
    def message(self) -> str:
        """The status in words; of concrete values only, the worst lane's under ``vmap``."""
        if isinstance(self.figures, jax.core.Tracer):
            raise TypeError(
                "solution.message needs concrete values: read it outside jit, vmap and grad, or use solution.status."
            )
        return Status(int(np.max(np.asarray(self.status)))).explanation


def failure(figures: Any, *, problem: str, solver: str) -> SolveError:
    """Build the exception for a failed solve from its figures."""
    status, steps, error, tol = np.asarray(figures)
    end = Status(int(status))
    return SolveError(
        f"{problem} was not solved by {solver}: {end.name} after {int(steps)} steps, "
        f"optimality error {float(error):.3e}, tolerance {float(tol):.1e}. {end.explanation} "
        'To get the last point and its status instead, pass on_failure="ignore".',
        end,
    )
