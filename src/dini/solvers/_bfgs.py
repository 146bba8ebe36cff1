"""BFGS with a dense inverse Hessian."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ._line_search import LineSearch, WeakWolfe
from ._quasi_newton import Gram, QuasiNewton


class Inverse(NamedTuple):
    """The approximate inverse Hessian of the unknown as one vector, and the number of pairs that made it."""

    matrix: Any
    count: Any


@trees.register
@dataclass(frozen=True)
class BFGS(QuasiNewton):
    r"""BFGS with a line search, for small unknowns: it keeps ``d**2`` numbers.

    The inverse Hessian starts as :math:`\frac{s^\top y}{y^\top y} I` and takes rank-two updates,
    :math:`H \leftarrow (I - \rho s y^\top) H (I - \rho y s^\top) + \rho s s^\top` with :math:`\rho = 1/s^\top y`, at
    the cost of one product with ``H``. Line search and error are those of :class:`LBFGS`.

    Parameters
    ----------
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps, that is of function evaluations.
    line_search
        One of :mod:`dini.solvers`: ``WeakWolfe()``, ``StrongWolfe()``, ``HagerZhang()``, ``Backtracking()``.

    References
    ----------
    Nocedal and Wright, "Numerical optimization", 2006, chapter 6.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.BFGS(tol=1e-3), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    tol: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})
    line_search: LineSearch = field(default=WeakWolfe(), metadata={"static": True})

    def __post_init__(self) -> None:
        self._check_settings()

    def _empty(self, x: Any, dtype: Any) -> Inverse:
        return Inverse(jnp.eye(trees.size(x), dtype=dtype), jnp.zeros((), jnp.int32))

    def _forget(self, model: Inverse, forget: Any) -> Inverse:
        eye = jnp.eye(model.matrix.shape[0], dtype=model.matrix.dtype)
        return Inverse(jnp.where(forget, eye, model.matrix), jnp.where(forget, 0, model.count))

    def _renew(
        self, model: Inverse, s: Any, y: Any, g: Any, old: Any, gram: Gram, keep: Any, accept: Any
    ) -> tuple[Inverse, Any, Any]:
        r"""Update the matrix and its product with ``g``.

        The only product with the matrix is :math:`Hg`: with the last one, :math:`Hy = Hg - Hg_{\text{old}}`.
        """
        del accept
        dtype = model.matrix.dtype
        flat_g, unravel = ravel_pytree(g)
        s, y, flat, old = (ravel_pytree(v)[0].astype(dtype) for v in (s, y, g, old))
        rho = jnp.where(keep, 1 / jnp.where(keep, gram.sy, 1), 0)
        scale = jnp.where(keep & (model.count == 0), gram.sy / jnp.where(gram.yy > 0, gram.yy, 1), 1)
        hg = scale * (model.matrix @ flat)
        hy = hg + scale * old
        weight = rho * (1 + rho * (y @ hy))
        cross = rho * (hy[:, None] * s[None, :])
        # H - u s' - s u' with the vector u below would be shorter, but fused multiply-adds make it unsymmetric: in
        # single precision that costs many a solution
        matrix = scale * model.matrix - cross - cross.T + weight * (s[:, None] * s[None, :])
        # the same update applied to the product with g
        u = rho * hy - weight / 2 * s
        product = hg - gram.sg * u - (u @ flat) * s
        direction = unravel(-product.astype(flat_g.dtype))
        return Inverse(matrix, model.count + keep.astype(jnp.int32)), direction, -(product @ flat)
