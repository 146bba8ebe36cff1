r"""Scalings of Nesterov and Todd for the symmetric cones, one vector at a time.

For ``s`` and ``z`` inside of a symmetric cone there is one symmetric ``H`` in the cone's own family with
:math:`H z = s` and :math:`H s^{-1} = z^{-1}`. With :math:`H = W^\top W` and :math:`\lambda = W z = W^{-\top} s`, the
second-order term of a step is :math:`W^\top (\lambda \backslash ((W^{-\top} \Delta s) \circ (W \Delta z)))`, with the
cone's own product.

References
----------
Nesterov and Todd, "Self-scaled barriers and interior-point methods for convex programming", Math. Oper. Res. 1997.
Vandenberghe, "The CVXOPT linear and quadratic cone program solvers", 2010.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...sets import smat, svec
from ...trees.products import dot, vdot


class Scaling(NamedTuple):
    """The scaling ``H`` of a point, the inverse :math:`z^{-1}`, and what its cone needs besides."""

    matrix: Any
    inverse: Any
    rest: Any


class NonNegativeCone:
    """Nonnegative numbers: the scaling is ``s / z``."""

    symmetric = True

    def degree(self, size: int) -> int:
        """Return the parameter of the barrier of one vector."""
        return size

    def center(self, size: int, dtype: Any, alpha: Any) -> jax.Array:
        """Return the point whose barrier has the gradient minus itself."""
        del alpha
        return jnp.ones(size, dtype)

    def scaling(self, s: jax.Array, z: jax.Array, alpha: Any) -> Scaling:
        """Return the scaling of a point."""
        del alpha
        return Scaling((s / z)[None], 1 / z, None)

    def correction(self, at: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array, alpha: Any) -> Any:
        """Return the second-order term of a step."""
        del at, s, alpha
        return ds * dz / z

    def reach(self, at: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array) -> jax.Array:
        """Return one over how far a step can go."""
        del at
        return jnp.maximum(jnp.max(-ds / s), jnp.max(-dz / z))


def _reflected(v: jax.Array) -> jax.Array:
    return jnp.concatenate([v[:1], -v[1:]])


def _root(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the square root of the determinant of a vector inside of a second-order cone, and the vector over it."""
    tail = jnp.sqrt(vdot(v[1:], v[1:]))
    root = jnp.sqrt(jnp.maximum((v[0] - tail) * (v[0] + tail), jnp.finfo(v.dtype).tiny))
    return root, v / root


class SecondOrderCone:
    r"""The second-order cone: :math:`H = W^2 = \eta^2 (2 w w^\top - J)` with ``w`` of determinant one."""

    symmetric = True

    def degree(self, size: int) -> int:
        """Return the parameter of the barrier of one vector."""
        del size
        return 1

    def center(self, size: int, dtype: Any, alpha: Any) -> jax.Array:
        """Return the unit of the cone's product."""
        del alpha
        return jnp.zeros(size, dtype).at[0].set(1)

    def scaling(self, s: jax.Array, z: jax.Array, alpha: Any) -> Scaling:
        """Return the scaling of a point."""
        del alpha
        (root_s, unit_s), (root_z, unit_z) = _root(s), _root(z)
        middle = jnp.sqrt(0.5 * (1 + vdot(unit_s, unit_z)))
        w = (unit_s + _reflected(unit_z)) / (2 * middle)
        # w is of determinant one: its first element follows from the others
        tail = w[1:]
        w = jnp.concatenate([jnp.sqrt(1 + vdot(tail, tail))[None], tail])
        eta = jnp.sqrt(root_s / root_z)
        sign = jnp.diag(_reflected(jnp.ones_like(s)))
        matrix = eta**2 * (2 * w[:, None] * w[None, :] - sign)
        return Scaling(matrix, _reflected(unit_z) / root_z, (w, eta, unit_s, unit_z, root_s, root_z))

    def correction(self, at: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array, alpha: Any) -> Any:
        """Return the second-order term of a step."""
        del s, alpha
        w, eta, *_ = at.rest
        u, v = self._times(_reflected(w), ds) / eta, eta * self._times(w, dz)
        product = jnp.concatenate([vdot(u, v)[None], u[0] * v[1:] + v[0] * u[1:]])
        left = eta * self._times(w, z)
        root, unit = _root(left)
        first = (unit[0] * product[0] - vdot(unit[1:], product[1:])) / root
        rest = (product[1:] - first * left[1:]) / left[0]
        return eta * self._times(w, jnp.concatenate([first[None], rest]))

    @staticmethod
    def _times(w: jax.Array, v: jax.Array) -> jax.Array:
        along = vdot(w[1:], v[1:])
        first = w[0] * v[0] + along
        return jnp.concatenate([first[None], v[1:] + (v[0] + along / (1 + w[0])) * w[1:]])

    def reach(self, at: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array) -> jax.Array:
        """Return one over how far a step can go."""
        del s, z
        _, _, unit_s, unit_z, root_s, root_z = at.rest

        def one(unit: jax.Array, step: jax.Array) -> jax.Array:
            along = vdot(_reflected(unit), step)
            rest = step[1:] - (along + step[0]) / (1 + unit[0]) * unit[1:]
            return jnp.sqrt(vdot(rest, rest)) - along

        return jnp.maximum(one(unit_s, ds / root_s), one(unit_z, dz / root_z))


class SemidefiniteCone:
    r"""Semidefinite matrices: :math:`W(Z) = R^\top Z R` with :math:`R^\top Z R = R^{-1} S R^{-\top} = \Lambda`."""

    symmetric = True

    def degree(self, size: int) -> int:
        """Return the order of the matrix."""
        return round(((8 * size + 1) ** 0.5 - 1) / 2)

    def center(self, size: int, dtype: Any, alpha: Any) -> jax.Array:
        """Return the identity."""
        del alpha
        return svec(jnp.eye(self.degree(size), dtype=dtype))

    def scaling(self, s: jax.Array, z: jax.Array, alpha: Any) -> Scaling:
        """Return the scaling of a point."""
        del alpha
        of_s, of_z = (jax.lax.linalg.cholesky(smat(v), symmetrize_input=False) for v in (s, z))
        left, values, right = jnp.linalg.svd(dot(of_z.T, of_s))
        values = jnp.maximum(values, jnp.finfo(s.dtype).tiny)
        root = jnp.sqrt(values)
        factor, inverse = dot(of_s, right.T) / root[None, :], dot(left.T, of_z.T) / root[:, None]
        square = dot(factor, factor.T)
        basis = jnp.eye(s.size, dtype=s.dtype)
        matrix = jax.vmap(lambda unit: svec(dot(square, dot(smat(unit), square))))(basis)
        # the inverse of Z is R Lambda^-1 R^T
        shadow = svec(dot(factor / values[None, :], factor.T))
        return Scaling(0.5 * (matrix + matrix.T), shadow, (factor, inverse, values))

    def _sides(self, at: Scaling, ds: jax.Array, dz: jax.Array) -> tuple[jax.Array, jax.Array]:
        factor, inverse, *_ = at.rest
        return dot(inverse, dot(smat(ds), inverse.T)), dot(factor.T, dot(smat(dz), factor))

    def correction(self, at: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array, alpha: Any) -> Any:
        """Return the second-order term of a step."""
        del s, z, alpha
        factor, _, values = at.rest
        u, v = self._sides(at, ds, dz)
        product = dot(u, v) + dot(v, u)
        divided = product / (values[:, None] + values[None, :])
        return svec(dot(factor, dot(divided, factor.T)))

    def reach(self, at: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array) -> jax.Array:
        """Return one over how far a step can go."""
        del s, z
        root = jnp.sqrt(at.rest[2])
        both = jnp.stack([side / (root[:, None] * root[None, :]) for side in self._sides(at, ds, dz)])
        return -jnp.min(jnp.linalg.eigvalsh(both))
