r"""Darcy's flow through a medium of two phases, by a model with decoders `"logit"`, `"u"` and `"s"`.

The logit is of the upper phase; :math:`u` is the pressure, :math:`s` the flux, a field of vectors. In training a point
has the phase of its cell; in an inversion the medium is :math:`a_0 + (a_1 - a_0)\, \sigma(\text{logit})`, which has a
derivative.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least

from ..operators import Tabulated
from ..random_fields import at_cells, cell_centers
from ..weak_forms import ball_points, sample_centers
from .darcy import Darcy, Field
from .generative import GenerativeOperator, phase_loss, phase_targets


def pointwise(model: GenerativeOperator, name: str, beta: Float[Array, "m d"]) -> Field:
    """A decoded field as a function of points of any shape `(*p, dim)`."""

    def field(x: Array) -> Array:
        found = model.decode(name, x.reshape(-1, x.shape[-1]), beta)
        return found.reshape(len(beta), *x.shape[:-1], *found.shape[2:])

    return field


class TwoPhase(eqx.Module):
    """A medium with two values on equal cells of the unit cube, and the flow through it.

    Parameters
    ----------
    darcy
        Residuals and their weights.
    shape
        Cells along each axis.
    low, high
        The two values.
    centers
        Balls of a draw.

    Raises
    ------
    ValueError
        For values that do not rise, and cells of another dimension than the balls.
    """

    darcy: Darcy
    shape: tuple[int, ...] = eqx.field(static=True)
    low: float = eqx.field(static=True, default=5.0)
    high: float = eqx.field(static=True, default=10.0)
    centers: int = eqx.field(static=True, default=32)

    def __check_init__(self) -> None:
        at_least("centers", self.centers, 1)
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"low and high must be positive and rise: given {self.low} and {self.high}.")
        if len(self.shape) != self.darcy.rule.dim:
            raise ValueError(
                f"shape must have a number of cells for each of the {self.darcy.rule.dim} axes of the balls: given "
                f"{self.shape}."
            )

    @property
    def mesh(self) -> Float[Array, "n dim"]:
        """The middles of the cells."""
        return cell_centers(self.shape)

    def medium(self, a: Float[Array, "m n"]) -> Field:
        """The medium as a function of points: that of the cell."""
        return lambda x: at_cells(a, x, self.shape)

    def relaxed(self, model: GenerativeOperator, beta: Float[Array, "m d"]) -> Field:
        """The decoded medium, between the two values, as a function of points."""
        logit = pointwise(model, "logit", beta)
        return lambda x: self.low + (self.high - self.low) * jax.nn.sigmoid(logit(x))

    def reconstruction(self, model: GenerativeOperator, beta: Float[Array, "m d"], a: Float[Array, "m n"]) -> Array:
        """The mean cross entropy of the cells' phases, for each medium."""
        return phase_loss(model.decode("logit", self.mesh, beta), phase_targets(a, self.low, self.high))

    def draw(self, key: Array) -> Float[Array, "j dim"]:
        """Centers of balls in the unit cube."""
        dim = len(self.shape)
        return sample_centers(key, self.centers, self.darcy.radius, (0.0,) * dim, (1.0,) * dim)

    def virtual(
        self, model: GenerativeOperator, beta: Float[Array, "m d"], centers: Float[Array, "j dim"], medium: Field
    ) -> Float[Array, "m r"]:
        """The weighted residuals of the mixed form."""
        flux = pointwise(model, "s", beta)
        vector = lambda x: flux(x).reshape(len(beta), *x.shape)
        return self.darcy.virtual(self.darcy.mixed(pointwise(model, "u", beta), vector, medium, centers))

    def virtual_relaxed(
        self, model: GenerativeOperator, beta: Float[Array, "m d"], centers: Float[Array, "j dim"]
    ) -> Float[Array, "m r"]:
        """The same with the decoded medium, for inversions."""
        return self.virtual(model, beta, centers, self.relaxed(model, beta))


class Located(eqx.Module):
    """The virtual observables of decoded media at centers that stay, on a line: what a sampler evaluates often.

    It gives what :meth:`TwoPhase.virtual_relaxed` does, with the trunks evaluated once.
    """

    flow: TwoPhase
    centers: Float[Array, "j 1"]
    logit: Tabulated
    u: Tabulated
    s: Tabulated

    def __init__(self, flow: TwoPhase, model: GenerativeOperator, centers: Float[Array, "j 1"]):
        if len(flow.shape) != 1:
            raise ValueError(f"flow must be on a line, where the flux is a number: given cells {flow.shape}.")
        x = ball_points(centers, flow.darcy.radius, flow.darcy.rule).reshape(-1, 1)
        self.flow, self.centers = flow, centers
        self.logit, self.u, self.s = (Tabulated(model.decoders[name], x) for name in ("logit", "u", "s"))

    def virtual(self, beta: Float[Array, "m d"]) -> Float[Array, "m r"]:
        """The weighted residuals, a row for each code."""
        darcy, flow = self.flow.darcy, self.flow
        at_nodes = lambda found: found.reshape(len(beta), len(self.centers), -1)
        a = flow.low + (flow.high - flow.low) * jax.nn.sigmoid(at_nodes(self.logit.value(beta)))
        slope, flux = at_nodes(self.u.slope(beta))[..., None], at_nodes(self.s.value(beta))[..., None]
        return darcy.virtual(darcy.mixed_of(slope, flux, a, self.centers))
