r"""JAXopt's proximal operators, by the penalties of :mod:`dini.penalties`.

``prox(x, strength, scaling)`` is :math:`\arg\min_y \tfrac12 \|x - y\|^2 + \text{scaling} \cdot g(y)`. Each is
differentiable in all three. A known strength or scaling that is negative raises, and gives NaN where it is traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dini import penalties
from dini.trees import Tree

from ._known import known, of, or_one

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


def _l1(strength: Any) -> penalties.Penalty:
    return penalties.L1(or_one(strength))


def _elastic_net(hyperparams: tuple[Any, Any] | None) -> penalties.Penalty:
    return penalties.ElasticNet(*((1.0, 1.0) if hyperparams is None else hyperparams))


def _group_lasso(strength: Any) -> penalties.Penalty:
    return penalties.GroupLasso(or_one(strength))


def _ridge(strength: Any) -> penalties.Penalty:
    return penalties.Ridge(or_one(strength))


def _non_negative_l1(strength: Any) -> penalties.Penalty:
    return penalties.NonNegative(_l1(strength))


def _non_negative_ridge(strength: Any) -> penalties.Penalty:
    return penalties.NonNegative(_ridge(strength))


def prox_none(x: Tree, hyperparams: Any = None, scaling: Any = 1.0) -> Tree:
    """Return ``x``, the proximal point of no penalty.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import prox
    >>> print(prox.prox_none(jnp.array([3.0, -0.5])))
    [ 3.  -0.5]
    """
    del hyperparams, scaling
    return x


@of(_l1)
def prox_lasso(x: Tree, l1reg: Any = None, scaling: Any = 1.0) -> Tree:
    r"""Return the proximal point of :math:`\lambda \|y\|_1`, the soft threshold: see :class:`dini.penalties.L1`.

    ``l1reg`` is :math:`\lambda`: a number, an array that broadcasts against ``x``, or a tree like ``x``; ``None`` for
    one.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import prox
    >>> print(prox.prox_lasso(jnp.array([3.0, -0.5]), 2.0, scaling=0.5))
    [2. 0.]
    """
    return _l1(l1reg).prox(x, scaling)


@of(_non_negative_l1)
def prox_non_negative_lasso(x: Tree, l1reg: Any = None, scaling: Any = 1.0) -> Tree:
    r"""Return the proximal point of :math:`\lambda \|y\|_1` on :math:`y \ge 0`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import prox
    >>> print(prox.prox_non_negative_lasso(jnp.array([3.0, 0.5, -3.0])))
    [2. 0. 0.]
    """
    return _non_negative_l1(l1reg).prox(x, scaling)


@of(_elastic_net)
def prox_elastic_net(x: Tree, hyperparams: tuple[Any, Any] | None = None, scaling: Any = 1.0) -> Tree:
    r"""Return the proximal point of :math:`\lambda (\|y\|_1 + \tfrac12 \gamma \|y\|_2^2)`.

    ``hyperparams`` is :math:`(\lambda, \gamma)`, ones for ``None``: see :class:`dini.penalties.ElasticNet`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import prox
    >>> print(prox.prox_elastic_net(jnp.array([3.0, 0.5]), (1.0, 1.0)))
    [1. 0.]
    """
    return _elastic_net(hyperparams).prox(x, scaling)


@of(_group_lasso)
def prox_group_lasso(x: Tree, l2reg: Any = 1.0, scaling: Any = 1.0) -> Tree:
    r"""Return the proximal point of :math:`\lambda \|y\|_2`, the whole tree being one group; zero at zero.

    See :class:`dini.penalties.GroupLasso`. Groups are made by ``jax.vmap``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import prox
    >>> print(prox.prox_group_lasso(jnp.array([3.0, 4.0]), 2.5))
    [1.5 2. ]
    """
    return _group_lasso(l2reg).prox(x, scaling)


@of(_ridge)
def prox_ridge(x: Tree, l2reg: Any = 1.0, scaling: Any = 1.0) -> Tree:
    r"""Return the proximal point of :math:`\tfrac12 \lambda \|y\|_2^2`, which is :math:`x / (1 + \eta\lambda)`.

    The half is in JAXopt's function as well; its documentation leaves it out.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import prox
    >>> print(prox.prox_ridge(jnp.array([3.0]), 1.0, 0.5))
    [2.]
    """
    return _ridge(l2reg).prox(x, scaling)


@of(_non_negative_ridge)
def prox_non_negative_ridge(x: Tree, l2reg: Any = 1.0, scaling: Any = 1.0) -> Tree:
    r"""Return the proximal point of :math:`\tfrac12 \lambda \|y\|_2^2` on :math:`y \ge 0`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import prox
    >>> print(prox.prox_non_negative_ridge(jnp.array([3.0, -3.0]), 1.0, 0.5))
    [2. 0.]
    """
    return _non_negative_ridge(l2reg).prox(x, scaling)


def make_prox_from_projection(projection: Callable[..., Any]) -> Callable[..., Any]:
    """Return a projection as the proximal operator of its set's indicator, for which the scaling has no meaning.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection, prox
    >>> print(prox.make_prox_from_projection(projection.projection_simplex)(jnp.array([1.0, 1.0]), 2.0, scaling=0.1))
    [1. 1.]
    """

    def prox(x: Tree, hyperparams: Any = None, scaling: Any = 1.0) -> Tree:
        del scaling
        return projection(x, hyperparams)

    make = known(projection, "set")
    return prox if make is None else of(lambda hyperparams: penalties.Indicator(make(hyperparams)))(prox)
