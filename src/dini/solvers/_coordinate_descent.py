"""Coordinate descent on a working set."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..checks.settings import require_count
from ..trees import Scalar, Tree
from ..trees.products import dot
from ._base import solver
from .shared._working_set import Model, NewtonStep, WorkingSet, finished

_LIMIT = 200
_HISTORY = 5


class _Inner(NamedTuple):
    u: Tree
    slope: Scalar
    value: Any
    error: Scalar
    rounds: Any
    moving: Any


@solver
class CoordinateDescent(WorkingSet):
    r"""Cyclic coordinate descent with working sets and extrapolation, for elementwise penalties and sets.

    For generalized linear models with l1-type penalties, also nonconvex ones, and for quadratic programs on a box. The
    working set and its model are those of :class:`ProximalNewton`; the model is minimized by epochs over its elements,

    .. math::
        \begin{aligned}
        u_j^+ &= \mathrm{prox}_{g_j / H_{jj}}(u_j - r_j / H_{jj}), \qquad (1) \\
        r &\leftarrow r + (u_j^+ - u_j) H_{j:} , \qquad (2)
        \end{aligned}

    with its gradient :math:`r = H(u - x) + \nabla f(x)` and the block ``H`` of the Hessian, which is made once a step.
    After :math:`M = 5` epochs their points are extrapolated (Anderson), where that lowers the value: with the
    differences :math:`u^{(i)} - u^{(i-1)}` as columns of ``U``,

    .. math:: u = \sum_{i=1}^M c_i u^{(i)}, \quad c = \frac{(U^\top U)^{-1} 1}{1^\top (U^\top U)^{-1} 1} . \qquad (3)

    Each update is an operation of its own, which makes it slow on accelerators; for convex penalties
    :class:`ProximalNewton` takes fewer and larger operations.

    Parameters
    ----------
    largest, tol
        As for :class:`ProximalNewton`.
    max_steps
        Limit on the number of steps, that is of working sets.

    References
    ----------
    Bertrand and Massias, "Anderson acceleration of coordinate descent", AISTATS 2021; Bertrand, Klopfenstein, Bannier,
    Gidel, Massias, "Beyond L1: faster and better sparse models with skglm", NeurIPS 2022.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> lasso = dini.LinearComposite(lambda z, w, X, y: 0.5 * jnp.mean((z - y) ** 2), lambda X, y: X.T)
    >>> problem = dini.Minimize(lasso, penalty=dini.penalties.MCP(0.5, 3.0))
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([3.0, 0.2])
    >>> print(dini.solve(problem, dini.CoordinateDescent(), jnp.zeros(2), X, y).x)
    [3. 0.]
    """

    largest: int = field(default=1024, metadata={"static": True})
    max_steps: int = field(default=200, metadata={"static": True})

    superlinear = True
    needs_convex = False

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_count("CoordinateDescent's largest", self.largest)

    def minimize_model(self, model: Model) -> jax.Array:
        """Return a point where the model's residual is small, by epochs."""
        fixed, step_sizes = model.fixed(), model.step_sizes()
        step_sizes = jax.lax.stop_gradient(step_sizes)
        size = step_sizes.size
        every = jnp.arange(size)

        def coordinate(j: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            u, slope = carry
            at = every[j][None]
            eta = step_sizes[at]
            # (1): u_j^+ = new, r = slope, 1 / H_jj = eta
            new = fixed.part.rows(at).prox(u[at] - eta * slope[at], eta)
            # (2)
            return u.at[at].set(new), slope + (new - u[at])[0] * fixed.hessian[j]

        def epoch(carry: tuple[jax.Array, jax.Array], _: Any) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            carry = jax.lax.fori_loop(0, size, coordinate, carry)
            return carry, carry[0]

        def body(now: _Inner) -> _Inner:
            (u, slope), points = jax.lax.scan(epoch, (now.u, now.slope), None, length=_HISTORY)
            points = jnp.concatenate([now.u[None], points])
            moves = points[1:] - points[:-1]
            # (3): gram = U'U, with a trace of the identity; u = far
            gram = dot(moves, moves.T)
            gram = gram + 1e-12 * (jnp.trace(gram) + jnp.finfo(u.dtype).tiny) * jnp.eye(_HISTORY, dtype=u.dtype)
            weights = jnp.linalg.solve(gram, jnp.ones(_HISTORY, u.dtype))
            far = dot(weights / jnp.sum(weights), points[1:])
            far_slope = fixed.slope(far)
            value, far_value = fixed.value(u, slope), fixed.value(far, far_slope)
            farther = far_value < value
            u, slope = jnp.where(farther, far, u), jnp.where(farther, far_slope, slope)
            value = jnp.where(farther, far_value, value)
            return _Inner(u, slope, value, fixed.error(u, slope), now.rounds + 1, jnp.any(u != now.u))

        first = fixed.error(fixed.x, fixed.gradient)
        start = _Inner(
            fixed.x, fixed.gradient, fixed.part.value(fixed.x), first, jnp.zeros((), jnp.int32), jnp.asarray(True)
        )
        # the next working set is another one: more digits than it can use are not computed
        enough = jnp.maximum(fixed.tol, 1e-3 * first)
        going = lambda now: (now.error > enough) & now.moving & (now.rounds < _LIMIT)
        end = jax.lax.stop_gradient(jax.lax.while_loop(going, body, start))
        kept = fixed.part.slope(end.u - step_sizes * end.slope, step_sizes)[1]
        newton = jax.lax.stop_gradient(NewtonStep.at(fixed, kept, step_sizes))
        return finished(model, end.u, step_sizes, newton, end.error <= model.tol)
