r"""Whether a solution is degenerate: the linear map of its derivative is singular at the solution itself.

A solver stops near a degenerate solution, where the map :math:`A` is still regular: a multiple root, a minimum whose
Hessian is singular. The linear system has a solution there, of any size, and its residual shows nothing. What shows it
is how :math:`A` changes within the error of the point. Let :math:`F` vanish to the order :math:`m` along a direction in
which the point is :math:`e` away from the solution. Then :math:`A` is proportional to :math:`e^{m-1}`, the Newton step
:math:`\delta = -A^{-1} F` is :math:`-e/m`, and it changes :math:`A` by the share

.. math:: 1 - (1 - 1/m)^{m-1} \ge 1/2,

whatever the error and the units are. At a regular solution the share vanishes with the error. (Kantorovich's number,
whose bound for a regular solution is 1/2, is the same quantity.) Of the map, what acts on the derivative counts: with
:math:`A w = b`, the share is :math:`|A^{-1}(A' w - b)| / |w|` with the map :math:`A'` at the point after the step. For
a positive definite map, both are projected on :math:`w`,

.. math:: \delta = -\frac{w^\top F}{w^\top b}\, w, \qquad \frac{|w^\top (A' w - b)|}{w^\top b},

which depends on no units of the unknown and solves nothing.

References
----------
Ortega and Rheinboldt, "Iterative Solution of Nonlinear Equations in Several Variables", 1970, section 12.6; Decker,
Keller and Kelley, "Convergence rates for Newton's method at singular points", SIAM J. Numer. Anal. 1983.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..linear import System
from ..status import DerivativeError, Status
from ..trees import Tree
from ._linearization import Linearization

#: share of the map that one Newton step may change: half of what it changes at least at a degenerate solution
CHANGE = 0.25


class Doubt(NamedTuple):
    """The test of a derivative's linear system, with the condition's residual; see :mod:`dini.linear._solve`."""

    at: Linearization
    parameters: Any
    residual: Tree
    #: whether the system that is solved is the transposed one, as long as it is not transposed
    flipped: bool = False

    #: what :meth:`figure` may be
    limit = CHANGE

    def figure(self, system: System, w: Tree, b: Tree, transposed: bool) -> jax.Array:
        """Return the share of the map that a Newton step changes, zero where nothing is known of it."""
        transposed = transposed != self.flipped
        residual = jax.lax.stop_gradient(self.residual)
        if system.structure == "positive definite" and system.reduction is None:
            return self._projected(w, b, residual)
        if not system.dense:
            return jnp.zeros((), trees.real_dtype(b))
        own = system.transposed if transposed else system
        nearby = self._moved(own.factor.solve(residual))
        product = lambda w: nearby(w)
        if transposed:
            transpose = jax.linear_transpose(nearby, w)
            product = lambda w: transpose(w)[0]
        # of unit size, so that no square underflows
        top = trees.max_abs(w)
        unit = jnp.where(top > 0, top, 1)
        w, b = trees.scale(1 / unit, w), trees.scale(1 / unit, b)
        change = trees.norm(system.factor.solve(trees.sub(product(w), b)))
        return change / trees.norm(w)

    def _projected(self, w: Tree, b: Tree, residual: Tree) -> jax.Array:
        top, length = trees.max_abs(b), trees.max_abs(w)
        unit, long = jnp.where(top > 0, top, 1), jnp.where(length > 0, length, 1)
        b, w = trees.scale(1 / unit, b), trees.scale(1 / long, w)
        force = trees.vdot(w, b)
        # the step is `long / unit` times this one, `A w` is `unit / long` times `b`
        ratio = long / unit
        nearby = self._moved(trees.scale(ratio * trees.vdot(w, residual) / force, w))
        return jnp.abs(ratio * trees.vdot(w, nearby(w)) - force) / force

    def _moved(self, step: Tree) -> Any:
        """Return the product with the map at the point less a step."""
        at = self.at
        x, parameters = jax.lax.stop_gradient((at.x, self.parameters))
        nearby = trees.sub(x, jax.lax.stop_gradient(step))
        return lambda w: jax.jvp(lambda u: at.function(u, parameters), (nearby,), (w,))[1]

    def report(self, name: str, figure: float) -> DerivativeError:
        """Return the exception."""
        return DerivativeError(
            f"The derivative of {name} is unreliable: the Jacobian of its condition changes by {100 * figure:.0f} % "
            "within one Newton step from the point. Either the solution is degenerate (a multiple root, a minimum with "
            "a singular Hessian), where the derivative need not exist, or the point is far from a solution. Tighten "
            "`rtol`; if the solution is degenerate, add a small regularization to the problem. "
            'If a derivative that may be wrong is acceptable, pass on_failure="ignore".',
            Status.SINGULAR,
        )
