r"""JAXopt's proximal operators, by the penalties of :mod:`dini.penalties`.

``prox(x, strength, scaling)`` is :math:`\arg\min_y \tfrac12 \|x - y\|^2 + \text{scaling} \cdot g(y)`. Each is
differentiable in all three. A known strength or scaling that is negative raises, and gives NaN where it is traced.
``None`` stands for a strength of one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from dini import penalties

from ._known import known, mark, or_one, shows

__all__ = [
    "make_prox_from_projection",
    "prox_elastic_net",
    "prox_group_lasso",
    "prox_lasso",
    "prox_non_negative_lasso",
    "prox_non_negative_ridge",
    "prox_none",
    "prox_ridge",
]


def _of(make: Callable[[Any], Any], output: str, call: str) -> Callable[[Any], Any]:
    """Make a signature the proximal operator of ``make(hyperparams)`` that solvers know, with an example."""

    def made(stub: Any) -> Any:
        signature = inspect.signature(stub)

        @functools.wraps(stub)
        def prox(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            x, hyperparams, scaling = given.arguments.values()
            return make(hyperparams).prox(x, scaling)

        mark(prox, "penalty", make)
        return shows(output, f"prox.{stub.__name__}({call})")(prox)

    return made


def _l1(strength: Any) -> penalties.Penalty:
    return penalties.L1(or_one(strength))


def _ridge(strength: Any) -> penalties.Penalty:
    return penalties.Ridge(or_one(strength))


def _elastic_net(hyperparams: Any) -> penalties.Penalty:
    return penalties.ElasticNet(*((1.0, 1.0) if hyperparams is None else hyperparams))


@shows("[ 3.  -0.5]", "prox.prox_none(jnp.array([3.0, -0.5]))")
def prox_none(x: Any, hyperparams: Any = None, scaling: Any = 1.0) -> Any:
    """Return ``x``, the proximal point of no penalty."""
    del hyperparams, scaling
    return x


@_of(_l1, "[2. 0.]", "jnp.array([3.0, -0.5]), 2.0, scaling=0.5")
def prox_lasso(x: Any, l1reg: Any = None, scaling: Any = 1.0) -> Any:
    r"""Return the proximal point of :math:`\lambda \|y\|_1`, the soft threshold: see :class:`dini.penalties.L1`.

    ``l1reg`` is :math:`\lambda`: a number, an array that broadcasts against ``x``, or a tree like ``x``.
    """


@_of(lambda strength: penalties.NonNegative(_l1(strength)), "[2. 0. 0.]", "jnp.array([3.0, 0.5, -3.0])")
def prox_non_negative_lasso(x: Any, l1reg: Any = None, scaling: Any = 1.0) -> Any:
    r"""Return the proximal point of :math:`\lambda \|y\|_1` on :math:`y \ge 0`."""


@_of(_elastic_net, "[1. 0.]", "jnp.array([3.0, 0.5]), (1.0, 1.0)")
def prox_elastic_net(x: Any, hyperparams: tuple[Any, Any] | None = None, scaling: Any = 1.0) -> Any:
    r"""Return the proximal point of :math:`\lambda (\|y\|_1 + \tfrac12 \gamma \|y\|_2^2)`.

    ``hyperparams`` is :math:`(\lambda, \gamma)`, ones for ``None``: see :class:`dini.penalties.ElasticNet`.
    """


@_of(lambda strength: penalties.GroupLasso(or_one(strength), axis="all"), "[1.5 2. ]", "jnp.array([3.0, 4.0]), 2.5")
def prox_group_lasso(x: Any, l2reg: Any = 1.0, scaling: Any = 1.0) -> Any:
    r"""Return the proximal point of :math:`\lambda \|y\|_2`, the whole tree being one group; zero at zero.

    See :class:`dini.penalties.GroupLasso`. Groups are made by ``jax.vmap``.
    """


@_of(_ridge, "[2.]", "jnp.array([3.0]), 1.0, 0.5")
def prox_ridge(x: Any, l2reg: Any = 1.0, scaling: Any = 1.0) -> Any:
    r"""Return the proximal point of :math:`\tfrac12 \lambda \|y\|_2^2`, which is :math:`x / (1 + \eta\lambda)`.

    The half is in JAXopt's function as well; its documentation leaves it out.
    """


@_of(lambda strength: penalties.NonNegative(_ridge(strength)), "[2. 0.]", "jnp.array([3.0, -3.0]), 1.0, 0.5")
def prox_non_negative_ridge(x: Any, l2reg: Any = 1.0, scaling: Any = 1.0) -> Any:
    r"""Return the proximal point of :math:`\tfrac12 \lambda \|y\|_2^2` on :math:`y \ge 0`."""


@shows(
    "[1. 1.]",
    "from dini_jaxopt import projection",
    "prox.make_prox_from_projection(projection.projection_simplex)(jnp.array([1.0, 1.0]), 2.0, scaling=0.1)",
)
def make_prox_from_projection(projection: Callable[..., Any]) -> Callable[..., Any]:
    """Return a projection as the proximal operator of its set's indicator, for which the scaling has no meaning."""

    def prox(x: Any, hyperparams: Any = None, scaling: Any = 1.0) -> Any:
        del scaling
        return projection(x, hyperparams)

    make = known(projection, "set")
    if make is not None:
        mark(prox, "penalty", lambda hyperparams: penalties.Indicator(make(hyperparams)))
    return prox
