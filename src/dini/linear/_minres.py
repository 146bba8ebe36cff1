"""MINRES: a Krylov method for symmetric indefinite maps."""

from __future__ import annotations

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
    """Carried from step to step. Lanczos vectors are kept without the preconditioner (``z``) and with it (``v``)."""

    x: Tree
    r: Any  # true residual, by recurrence
    z_old: Any
    z: Any
    v: Tree
    beta: Any  # what links the last two Lanczos vectors
    d_old: Any  # the last two search directions
    d: Any
    cosine: Any  # the last rotation
    sine: Any
    above: Any  # the elements of the next column above its diagonal, after the rotations before the last one
    far: Any
    rest: Any  # what is left of the rotated right-hand side
    steps: Any


@record
class MINRES(ShortRecurrence):
    r"""MINRES, for symmetric maps, definite or not.

    Each step minimizes the residual over one more dimension of the Krylov space, in short memory. Singular maps are
    allowed where the system is consistent; the solution is then that of least norm, if the guess is zero and there is
    no preconditioner.

    Parameters
    ----------
    rtol, max_steps, x0, x0_transposed
        As for :class:`CG`.
    preconditioner
        As for :class:`CG`: symmetric and positive definite, also where the map is not. Then each step minimizes
        :math:`\langle r, P r\rangle`.

    References
    ----------
    C. C. Paige, M. A. Saunders, Solution of sparse indefinite systems of linear equations, SIAM J. Numer. Anal. 12,
    1975.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> d = jnp.array([2.0, -1.0, 4.0])
    >>> w = linear.solve(lambda w: d * w, jnp.ones(3), structure="symmetric", solver=linear.MINRES())
    >>> print(w.round(4))
    [ 0.5  -1.    0.25]
    """

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite; refuses a map that is not declared symmetric."""
        if structure is None:
            raise ValueError(
                "MINRES needs a symmetric linear map; this condition declares no structure. Use GMRES(), BiCGStab() "
                "or Dense(), or declare the symmetry (symmetric=True of a Root, say)."
            )
        precondition = self.preconditioning(matvec, b)
        x = _minres(matvec, precondition, *self.start(matvec, b), self.target(b), self.steps(b))
        return x, ~trees.all_finite(x)


def _minres(matvec: Matvec, precondition: Any, x: Tree, r: Any, target: jax.Array, max_steps: int) -> Any:
    v = precondition(r)
    dtype = trees.real_dtype(r)
    size = _size(r, v).astype(dtype)
    zero, one, nothing = jnp.zeros((), dtype), jnp.ones((), dtype), trees.zeros_like(r)
    z, v = trees.scale(_inverse(size), r), trees.scale(_inverse(size), v)
    start = _State(x, r, nothing, z, v, zero, nothing, nothing, -one, zero, zero, zero, size, jnp.zeros((), jnp.int32))

    def running(s: _State) -> jax.Array:
        return (s.steps < max_steps) & (trees.norm(s.r) > target) & (s.rest > 0) & jnp.isfinite(s.rest)

    def step(s: _State) -> _State:
        # one more column of the tridiagonal matrix: beta, alpha, beta_new
        image = matvec(s.v)
        alpha = trees.vdot(s.v, image).astype(dtype)
        z = trees.axpy(-alpha, s.z, trees.axpy(-s.beta, s.z_old, image))
        v = precondition(z)
        beta = _size(z, v).astype(dtype)
        z, v = trees.scale(_inverse(beta), z), trees.scale(_inverse(beta), v)
        # the rotation before turns its last two elements, a new one the last of the column and what is below
        middle = s.cosine * s.above + s.sine * alpha
        last = s.sine * s.above - s.cosine * alpha
        diagonal = jnp.sqrt(last**2 + beta**2)
        cosine, sine = last * _inverse(diagonal), beta * _inverse(diagonal)
        # the directions are the Lanczos vectors times the inverse of the triangular factor
        d = trees.scale(_inverse(diagonal), trees.axpy(-middle, s.d, trees.axpy(-s.far, s.d_old, s.v)))
        moved, rest = cosine * s.rest, sine * s.rest
        r = trees.axpy(-rest * cosine, z, trees.scale(sine**2, s.r))
        x = trees.axpy(moved, d, s.x)
        above, far = -s.cosine * beta, s.sine * beta
        return _State(x, r, s.z, z, v, beta, s.d, d, cosine, sine, above, far, rest, s.steps + 1)

    return lax.while_loop(running, step, start).x


def _size(z: Any, v: Tree) -> jax.Array:
    """Return the norm in which the preconditioner is the inner product (not a number where it is indefinite)."""
    return jnp.sqrt(trees.vdot(z, v))


def _inverse(size: jax.Array) -> jax.Array:
    return jnp.where(size == 0, 0, 1 / jnp.where(size == 0, 1, size))
