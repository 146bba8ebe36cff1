r"""Scalings for the exponential and the power cone, which are not symmetric, one vector at a time.

With the barrier ``f`` of the cone and its conjugate, a point ``(s, z)`` has the shadow :math:`\tilde z = -f'(s)`,
:math:`\tilde s = -f_*'(z)`. On the central path :math:`z = \mu \tilde z` and :math:`s = \mu \tilde s`. The scaling
takes both pairs to one another, :math:`H z = s` and :math:`H \tilde z = \tilde s`, and is that of Broyden, Fletcher,
Goldfarb and Shanno's updates of :math:`(\mu f''(s))^{-1}`: with :math:`\delta_s = s - \mu \tilde s` and
:math:`\delta_z = z - \mu \tilde z`, where :math:`\langle s, \delta_z \rangle = 0`,

.. math:: H = \frac{s s^\top}{\langle s, z\rangle} + \frac{\delta_s \delta_s^\top}{\langle \delta_s, \delta_z\rangle}
          + \frac{r r^\top}{r^\top M r}, \qquad r = z \times \tilde z, \quad p = s \times \tilde s, \quad
          r^\top M r = \frac{\mu\, (p^\top r)^2}{p^\top f''(s)^{-1} p} .

References
----------
Dahl and Andersen, "A primal-dual interior-point algorithm for nonsymmetric exponential-cone optimization", Math.
Program. 2022. Tuncel, "Generalization of primal-dual interior-point methods to convex optimization problems in conic
form", Found. Comput. Math. 2001.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...sets._scalar import bracketed_root
from ...trees.products import dot, vdot
from ._symmetric_cones import Scaling


class BarrierCone:
    """Base of the cones of three elements that are given by a barrier."""

    symmetric = False

    def degree(self, size: int) -> int:
        """Return the parameter of the barrier."""
        return size

    def gradient(self, s: jax.Array, alpha: Any) -> jax.Array:
        """Return the gradient of the barrier."""
        raise NotImplementedError

    def inverse_hessian(self, s: jax.Array, alpha: Any) -> jax.Array:
        """Return the inverse of the barrier's second derivative, whose condition no factorization would bear."""
        raise NotImplementedError

    def conjugate(self, z: jax.Array, alpha: Any) -> jax.Array:
        r"""Return :math:`-f_*'(z)`, the point at which the barrier has the gradient ``-z``."""
        raise NotImplementedError

    def inside(self, s: jax.Array, z: jax.Array, alpha: Any) -> jax.Array:
        """Return whether a point is in the interiors of the cone and of its dual."""
        raise NotImplementedError

    def near(self, s: jax.Array, z: jax.Array, alpha: Any) -> tuple[jax.Array, jax.Array]:
        """Return whether a point is inside, and one over the complementarity of its shadow."""
        inside = self.inside(s, z, alpha)
        shadow = vdot(self.gradient(s, alpha), self.conjugate(z, alpha))
        return inside & (shadow < 0), 3 / jnp.where(shadow < 0, -shadow, jnp.inf)

    def scaling(self, s: jax.Array, z: jax.Array, alpha: Any) -> Scaling:
        """Return the scaling of a point."""
        eps = jnp.finfo(s.dtype).eps
        inverse = self.inverse_hessian(s, alpha)
        of_s, of_z = self.conjugate(z, alpha), -self.gradient(s, alpha)
        mu = vdot(s, z) / 3
        apart_s, apart_z = s - mu * of_s, z - mu * of_z
        gap = vdot(apart_s, apart_z)
        p, r = jnp.cross(s, of_s), jnp.cross(z, of_z)
        along = vdot(p, r) ** 2
        last = mu * along / vdot(p, dot(inverse, p))
        plain = inverse / mu
        outer = lambda v, by: v[:, None] * v[None, :] / by
        # on the central path the pairs are one
        off = (gap > eps**0.5 * mu) & (last > 0) & jnp.isfinite(last)
        safe = lambda value: jnp.where(off, value, 1)
        exact = outer(s, 3 * mu) + outer(apart_s, safe(gap)) + outer(r, safe(last))
        good = off & jnp.all(jnp.isfinite(exact))
        return Scaling(jnp.where(good, exact, plain), of_s, inverse)

    def correction(self, at: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array, alpha: Any) -> Any:
        r"""Return the higher-order term of a step, :math:`-\tfrac12 H f'''(s)[\Delta s, f''(s)^{-1} \Delta z]`."""
        along = dot(at.rest, dz)
        twice = lambda s: jax.jvp(lambda s: self.gradient(s, alpha), (s,), (along,))[1]
        push = -0.5 * jax.jvp(twice, (s,), (ds,))[1]
        term = dot(at.matrix, push)
        # the barrier is self-concordant: a longer term is one of rounding, or of a step that cannot be followed
        length, most = vdot(push, term), vdot(s, z)
        term = jnp.where(length > most, jnp.sqrt(most / jnp.where(length > most, length, 1)), 1) * term
        return jnp.where(jnp.all(jnp.isfinite(term)), term, 0)


class ExponentialCone(BarrierCone):
    r"""The cone :math:`y e^{x/y} \le z` with :math:`f = -\log(y \log(z/y) - x) - \log y - \log z`.

    Its conjugate's gradient comes down to :math:`w + \log(1 + w) = z_2/a + 1 - \log(a/z_3)` with :math:`a = -z_1`,
    whose left side is concave: Newton's method from below is monotone.
    """

    def center(self, size: int, dtype: Any, alpha: Any) -> jax.Array:
        """Return the point whose barrier has the gradient minus itself."""
        del size, alpha
        return jnp.array([-0.8278381, 0.8051029, 1.2909281], dtype)

    def gradient(self, s: jax.Array, alpha: Any) -> jax.Array:
        """Return the gradient of the barrier."""
        del alpha
        x, y, z = s
        ratio = jnp.log(z / y)
        left = y * ratio - x
        return jnp.stack([1 / left, -(ratio - 1) / left - 1 / y, -(y / left + 1) / z])

    def inverse_hessian(self, s: jax.Array, alpha: Any) -> jax.Array:
        r"""Return the inverse of the barrier's second derivative.

        With :math:`\psi = y \log(z/y) - x`, its gradient ``g`` and :math:`w = (0, 1, -y/z)`, the second derivative is
        :math:`g g^\top / \psi^2 + w w^\top / (y \psi) + \mathrm{diag}(0, y^{-2}, z^{-2})`: in the coordinates
        :math:`(g^\top v, v_2, v_3)` the first term stands apart, and the rest is inverted by hand.
        """
        del alpha
        x, y, z = s
        ratio, zero = jnp.log(z / y), jnp.zeros_like(x)
        left = y * ratio - x
        share, mixed = (left + y) / (left + 2 * y), y / (left + 2 * y)
        rest = jnp.stack([jnp.stack([y * y * share, y * z * mixed]), jnp.stack([y * z * mixed, z * z * share])])
        back = jnp.stack([jnp.stack([ratio - 1, y / z]), jnp.stack([zero + 1, zero]), jnp.stack([zero, zero + 1])])
        return dot(back, dot(rest, back.T)).at[0, 0].add(left**2)

    def _rest(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        positive = (z[0] < 0) & (z[2] > 0)
        a, last = jnp.where(positive, -z[0], 1), jnp.where(positive, z[2], 1)
        return jnp.where(positive, z[1] / a + 1 - jnp.log(a / last), -1), a

    def conjugate(self, z: jax.Array, alpha: Any) -> jax.Array:
        """Return the point at which the barrier has the gradient ``-z``."""
        del alpha
        rest, a = self._rest(z)
        rest = jnp.maximum(rest, jnp.finfo(z.dtype).tiny)

        def newton(_: Any, w: jax.Array) -> jax.Array:
            return w + (rest - w - jnp.log1p(w)) * (1 + w) / (2 + w)

        w = jax.lax.fori_loop(0, 8, newton, 0.5 * rest)
        y = 1 / (a * w)
        last = (1 + 1 / w) / z[2]
        return jnp.stack([y * jnp.log(last / y) - 1 / a, y, last])

    def inside(self, s: jax.Array, z: jax.Array, alpha: Any) -> jax.Array:
        """Return whether a point is in the interiors of the cone and of its dual."""
        del alpha
        positive = (s[1] > 0) & (s[2] > 0)
        y, last = jnp.where(positive, s[1], 1), jnp.where(positive, s[2], 1)
        return positive & (y * jnp.log(last / y) > s[0]) & (self._rest(z)[0] > 0)


class PowerCone(BarrierCone):
    r"""The cone :math:`x^\alpha y^{1-\alpha} \ge |z|`.

    Its barrier is :math:`f = -\log(x^{2\alpha} y^{2(1-\alpha)} - z^2) - (1-\alpha) \log x - \alpha \log y`. The
    conjugate's gradient comes down to one equation in the logarithm of :math:`g - 1` with :math:`g = x^{2\alpha}
    y^{2(1-\alpha)} / (x^{2\alpha} y^{2(1-\alpha)} - z^2)`, which is decreasing.
    """

    def center(self, size: int, dtype: Any, alpha: Any) -> jax.Array:
        """Return the point whose barrier has the gradient minus itself."""
        del size
        return jnp.stack([jnp.sqrt(1 + alpha), jnp.sqrt(2 - alpha), jnp.zeros_like(alpha)]).astype(dtype)

    def gradient(self, s: jax.Array, alpha: Any) -> jax.Array:
        """Return the gradient of the barrier."""
        x, y, z = s
        root = jnp.exp(alpha * jnp.log(x) + (1 - alpha) * jnp.log(y))
        left = (root - z) * (root + z)
        g = root**2 / left
        return jnp.stack([-(2 * alpha * g + 1 - alpha) / x, -(2 * (1 - alpha) * g + alpha) / y, 2 * z / left])

    def inverse_hessian(self, s: jax.Array, alpha: Any) -> jax.Array:
        r"""Return the inverse of the barrier's second derivative.

        In the coordinates :math:`(v_1 / x, v_2 / y, v_3)`, with ``g`` as above, :math:`\beta = 1 - \alpha`,
        :math:`a = (\alpha, \beta)` and :math:`e = 2 g / (2 g - 1)`, the Schur complement of the last element is the sum

        .. math:: S = 2 g \alpha \beta \begin{pmatrix} 1 & -1 \ -1 & 1 \end{pmatrix} + e\, a a^\top
                  + \mathrm{diag}(\beta, \alpha), \quad
                  \det S = \alpha \beta + 2 g \alpha \beta (1 + e) + e (\alpha^3 + \beta^3) .
        """
        x, y, z = s
        beta = 1 - alpha
        root = jnp.exp(alpha * jnp.log(x) + beta * jnp.log(y))
        left = (root - z) * (root + z)
        g = root**2 / left
        e, steep = 2 * g / (2 * g - 1), 2 * g * alpha * beta
        determinant = alpha * beta + steep * (1 + e) + e * (alpha**3 + beta**3)
        first, second = steep + e * alpha**2 + beta, steep + e * beta**2 + alpha
        mixed = steep - e * alpha * beta
        rest = jnp.stack([jnp.stack([second, mixed]), jnp.stack([mixed, first])]) / determinant
        zero = jnp.zeros_like(x)
        back = [jnp.stack([x, zero]), jnp.stack([zero, y]), z * e * jnp.stack([alpha, beta])]
        back = jnp.stack(back).astype(s.dtype)
        return dot(back, dot(rest.astype(s.dtype), back.T)).at[2, 2].add(left / (2 * (2 * g - 1)))

    def conjugate(self, z: jax.Array, alpha: Any) -> jax.Array:
        """Return the point at which the barrier has the gradient ``-z``."""
        beta, tiny = 1 - alpha, jnp.finfo(z.dtype).tiny
        positive = (z[0] > 0) & (z[1] > 0)
        one, two = jnp.where(positive, z[0], 1), jnp.where(positive, z[1], 1)
        size = jnp.maximum(jnp.abs(z[2]), jnp.sqrt(tiny))
        constant = 2 * (jnp.log(size) - alpha * jnp.log(one) - beta * jnp.log(two))

        def fun(level: jax.Array) -> tuple[jax.Array, jax.Array]:
            more = jnp.exp(level)
            first, second = 2 * alpha * more + 1 + alpha, 2 * beta * more + 2 - alpha
            value = 2 * alpha * jnp.log(first) + 2 * beta * jnp.log(second) - jnp.log(4 * (1 + more)) - level + constant
            slope = more * (4 * alpha**2 / first + 4 * beta**2 / second - 1 / (1 + more)) - 1
            return -value, -slope

        end = jnp.asarray(jnp.log(jnp.finfo(z.dtype).max) / 3, z.dtype)
        more = jnp.exp(bracketed_root(fun, -end, end))
        last = -jnp.sign(z[2]) * 2 * more / size
        return jnp.stack([(2 * alpha * more + 1 + alpha) / one, (2 * beta * more + 2 - alpha) / two, last])

    def inside(self, s: jax.Array, z: jax.Array, alpha: Any) -> jax.Array:
        """Return whether a point is in the interiors of the cone and of its dual."""
        beta = 1 - alpha
        positive = (s[0] > 0) & (s[1] > 0) & (z[0] > 0) & (z[1] > 0)
        safe = lambda v: jnp.where(positive, v, 1)
        mean = lambda x, y: jnp.exp(alpha * jnp.log(x) + beta * jnp.log(y))
        dual = mean(safe(z[0]) / alpha, safe(z[1]) / beta)
        return positive & (mean(safe(s[0]), safe(s[1])) > jnp.abs(s[2])) & (dual > jnp.abs(z[2]))
