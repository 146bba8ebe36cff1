"""Conjugate gradients: a Krylov method for positive definite maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .. import trees
from ..checks.records import record
from ..trees import Tree
from ._krylov import ShortRecurrence
from ._protocol import Matvec, Structure


class _State(NamedTuple):
    """Carried from step to step."""

    x: Tree
    r: Any  # residual, by recurrence
    p: Any  # search direction
    slope: Any  # <r, P r>
    rest: Any  # norm of the residual
    top: Any  # largest size of a curvature so far
    bent: Any  # whether one was negative
    steps: Any


@record
class CG(ShortRecurrence):
    """Conjugate gradients, for positive definite maps.

    Each step costs one product and minimizes the error, in the norm of the map, over one more dimension of the Krylov
    space. It stops at the residual that its recurrence gives, which is near the true one up to rounding errors. A
    search direction of negative curvature, beyond rounding, shows that the map is not positive definite: the solve has
    failed, be the residual small or not (the point of an indefinite Hessian is no minimum). Called directly it has no
    derivative in reverse mode; :func:`solve` has.

    Parameters
    ----------
    rtol
        Relative residual at which to stop; by default ``eps**0.65``. A solution is believed up to 100 times as much.
    max_steps
        Limit on the number of steps; by default ten times the number of unknowns, and 100.
    preconditioner
        A :class:`Preconditioner` or a linear function ``r -> P r`` close to the inverse of the map, symmetric and
        positive definite.
    x0, x0_transposed
        Guesses at the solution, of the system and of the transposed one (which reverse mode solves). Only their
        directions count: the multiple that leaves the smallest residual is taken.

    References
    ----------
    M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems, J. Res. Nat. Bur. Standards
    49, 1952.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> d = jnp.linspace(1.0, 3.0, 1000)
    >>> w = linear.solve(lambda w: d * w, jnp.ones(1000), structure="positive definite", solver=linear.CG())
    >>> bool(jnp.abs(d * w - 1).max() < 1e-4)
    True
    """

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it failed; refuses a map not declared positive definite."""
        if structure != "positive definite":
            raise ValueError(
                f"CG needs a positive definite linear map; this condition declares {structure or 'no structure'}. "
                "Use GMRES(), BiCGStab() or Dense(), or a condition with a positive definite derivative."
            )
        target = self.target(b)
        return self._run(matvec, b, lambda s: s.rest > target)

    def until(self, matvec: Matvec, b: Any, enough: Callable[[Any, Any], Any]) -> tuple[Any, jax.Array]:
        """Return the first ``x``, with a residual of norm ``rest``, that is ``enough(x, rest)``, or the last."""
        return self._run(matvec, b, lambda s: ~enough(s.x, s.rest))

    def _run(self, matvec: Matvec, b: Any, unfinished: Callable[[_State], jax.Array]) -> tuple[Any, jax.Array]:
        end = _conjugate_gradients(
            matvec, self.preconditioning(matvec, b), *self.start(matvec, b), unfinished, self.steps(b)
        )
        return end.x, end.bent | ~trees.all_finite(end.x)

    def reduced(self) -> CG:
        """Return the solver for a positive semidefinite system that stands for the one which it was made for."""
        if self.preconditioner is not None or self.x0 is not None or self.x0_transposed is not None:
            raise ValueError(
                "CG solves another, positive semidefinite system for a proximal fixed point, to which a preconditioner "
                "or an initial guess for the original system does not apply. Use them with GMRES() or BiCGStab()."
            )
        return self


def _conjugate_gradients(
    matvec: Matvec, precondition: Any, x: Tree, r: Any, unfinished: Callable[[_State], jax.Array], max_steps: int
) -> _State:
    z, rest = precondition(r), trees.norm(r)
    slope = trees.vdot(r, z)
    start = _State(x, r, z, slope, rest, jnp.zeros_like(slope), jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    # what rounding makes of a curvature of zero is a few units in the last place of the largest
    rounding = trees.eps(r) ** 0.75

    def running(s: _State) -> jax.Array:
        # the slope is zero where a singular map or preconditioner allows no further step
        return (s.steps < max_steps) & unfinished(s) & (s.slope != 0) & jnp.isfinite(s.rest)

    def step(s: _State) -> _State:
        image = matvec(s.p)
        bend = trees.vdot(s.p, image)
        flat = bend == 0
        # the signs of the curvatures are those of the map on the Krylov space (Sylvester's law of inertia)
        square = trees.vdot(s.p, s.p)
        top = jnp.maximum(s.top, jnp.abs(bend) / jnp.where(square > 0, square, 1))
        bent = s.bent | (bend < -rounding * top * square)
        length = jnp.where(flat, 0, s.slope / jnp.where(flat, 1, bend))
        x = trees.axpy(length, s.p, s.x)
        r = trees.axpy(-length, image, s.r)
        z = precondition(r)
        slope = jnp.where(flat, 0, trees.vdot(r, z))
        return _State(x, r, trees.axpy(slope / s.slope, s.p, z), slope, trees.norm(r), top, bent, s.steps + 1)

    return lax.while_loop(running, step, start)
