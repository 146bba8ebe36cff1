r"""Darcy's flow :math:`-\nabla\!\cdot(a \nabla u) = f` as virtual observables, in two weak forms.

Primal, for a continuous :math:`a`:

.. math:: r_j = \langle a \nabla u \cdot \nabla v_j \rangle - \kappa \langle f v_j \rangle .

Mixed, for an :math:`a` with jumps, with a flux :math:`s` of its own: neither :math:`a` nor :math:`s` is differentiated,

.. math:: R_1 = s - a \nabla u, \qquad R_{2, j} = \langle s \cdot \nabla v_j \rangle - \kappa \langle f v_j \rangle .

Balances are relative to :math:`\kappa \langle f v_j \rangle`, or to a flux that is given where :math:`f` vanishes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known, not_negative, positive

from ..weak_forms import BallRule, ball_points, value_and_slope, weak_residual

#: Of points `(*p, d)`: values `(m, *p)`, or vectors `(m, *p, d)`, of `m` cases.
Field = Callable[[Float[Array, "*p d"]], Array]


class Mixed(NamedTuple):
    """Residuals of the mixed form, before their weights."""

    constitutive: Float[Array, "m j k d"]
    """In units of the flux."""
    balance: Float[Array, "m j"]
    """Relative."""


class Darcy(eqx.Module):
    r"""Residuals of Darcy's flow on balls, and their weights.

    Parameters
    ----------
    rule
        Nodes in the unit ball and the test function.
    radius
        Of the balls.
    source
        :math:`f`, a number or a function of points `(*p, d)`.
    flux
        What balances are divided by, times :math:`\langle v \rangle`; :math:`\kappa f` if it is not given, which must
        not vanish then.
    weights
        :math:`w_1` and :math:`w_2`: the virtual observables are such that half of their squares is
        :math:`w_1 \langle |R_1|^2 \rangle + w_2 \langle R_2^2 \rangle`, means over nodes and centers.

    Raises
    ------
    ValueError
        For a radius that is not positive, weights that are negative, and a source of zero without a `flux`.
    """

    rule: BallRule
    radius: float = eqx.field(static=True)
    source: Any
    flux: float | None = eqx.field(static=True)
    weights: tuple[Any, Any]

    def __init__(
        self,
        rule: BallRule,
        radius: float,
        source: float | Callable[[Array], Array] = 1.0,
        *,
        flux: float | None = None,
        weights: tuple[Any, Any] = (2.0, 100.0),
    ):
        positive("radius", radius)
        not_negative("weights", np.asarray(weights) if all(map(known, weights)) else None)
        if flux is not None:
            positive("flux", flux)
        elif not callable(source) and known(source) and not np.all(np.asarray(source) != 0):
            raise ValueError(
                f"source must not vanish where balances are relative to it: given {source}. Give a `flux` to divide by."
            )
        self.rule, self.radius, self.source, self.flux, self.weights = rule, radius, source, flux, weights

    def _right(self, centers: Float[Array, "j d"]) -> Float[Array, " j"]:
        r""":math:`\kappa \langle f v_j \rangle`."""

        def integrand(x: Array, v: Array, dv: Array) -> Array:
            del dv
            f = self.source(x) if callable(self.source) else self.source
            return jnp.broadcast_to(f * v, x.shape[:-1])

        return self.rule.kappa * weak_residual(integrand, centers, self.radius, self.rule)

    def balance(self, flow: Field, centers: Float[Array, "j d"]) -> Float[Array, "m j"]:
        r""":math:`\langle s \cdot \nabla v_j \rangle` less :math:`\kappa \langle f v_j \rangle`, relative.

        `flow` is :math:`s` or :math:`a \nabla u`, a field of vectors.
        """
        return self.balance_of(flow(ball_points(centers, self.radius, self.rule)), centers)

    def balance_of(self, flow: Float[Array, "m j k d"], centers: Float[Array, "j d"]) -> Float[Array, "m j"]:
        """The same from the flow's values at the nodes of each ball."""
        left = weak_residual(lambda x, v, dv: jnp.sum(flow * dv, axis=-1), centers, self.radius, self.rule)
        right = self._right(centers)
        return (left - right) / (right if self.flux is None else self.flux * self.rule.mean(self.rule.v))

    def primal(self, u: Field, a: Field, centers: Float[Array, "j d"]) -> Float[Array, "m j"]:
        r"""The balance of :math:`a \nabla u`, from fields of numbers."""
        return self.balance(lambda x: a(x)[..., None] * value_and_slope(u, x)[1], centers)

    def mixed(self, u: Field, s: Field, a: Field, centers: Float[Array, "j d"]) -> Mixed:
        """Both residuals, from a field of numbers, one of vectors, and the medium."""
        x = ball_points(centers, self.radius, self.rule)
        return self.mixed_of(value_and_slope(u, x)[1], s(x), a(x), centers)

    def mixed_of(
        self,
        slope: Float[Array, "m j k d"],
        flow: Float[Array, "m j k d"],
        a: Float[Array, "m j k"],
        centers: Float[Array, "j d"],
    ) -> Mixed:
        r"""The same from values at the nodes of each ball: of :math:`\nabla u`, :math:`s` and :math:`a`."""
        return Mixed(flow - a[..., None] * slope, self.balance_of(flow, centers))

    def virtual(self, found: Mixed) -> Float[Array, "m r"]:
        """The weighted residuals in a row for each case, of whose squares half is the energy."""
        one, two = found
        m, nodes, centers = len(one), one[0, ..., 0].size, two.shape[-1]
        shares = self.rule.weights[:, None] * len(self.rule.weights)
        one = jnp.sqrt(2 * self.weights[0] * shares / nodes) * one
        two = jnp.sqrt(2 * self.weights[1] / centers) * two
        return jnp.concatenate([one.reshape(m, -1), two.reshape(m, -1)], axis=-1)
