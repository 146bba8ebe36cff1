"""The Karush-Kuhn-Tucker conditions, and multipliers for a primal solution that comes without."""

from __future__ import annotations

import functools
from dataclasses import field
from typing import Any, Literal

import jax
import jax.flatten_util
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_choice
from ..explanations import explained
from ..functions import as_function
from ..trees import Tree
from ..trees.products import dot, vdot
from ._activity import active


def _pull(name: str, fun: Any, z: Any, args: tuple[Tree, ...], multiplier: Any) -> tuple[Any, Any]:
    r"""Return the constraints ``h(z)`` and :math:`(\partial h)^\top` times their multipliers."""
    values, back = jax.vjp(lambda z: fun(z, *args), z)
    trees.require_same(f"The multipliers {name}", multiplier, values, "their constraints")
    return values, back(multiplier)[0]


@record
class KKT:
    r"""The KKT conditions of :math:`\min_z f(z, \theta)` with :math:`H(z, \theta) = 0` and :math:`G(z, \theta) \le 0`.

    A function ``F((z, nu, lam), *theta)`` of the primal and dual variables together, for
    :func:`dini.custom_root`, :func:`dini.root_jvp`, :class:`dini.Root` or ``Implicit(condition=...)``:

    .. math:: \nabla_1 f + (\partial_1 H)^\top \nu + (\partial_1 G)^\top \lambda, \qquad H, \qquad
              \lambda \circ G .

    With ``form="active"`` the last two terms with the inequalities are, instead,
    :math:`(\partial_1 G)^\top (a \circ \lambda)` and :math:`a \circ G + (1 - a) \circ \lambda`, where an inequality is
    active (:math:`a_j = 1`) if :math:`\lambda_j > -G_j`. It has the same solutions as :math:`\min(\lambda, -G) = 0`,
    and a symmetric derivative, better conditioned where multipliers are small or constraints far: pass
    ``structure="symmetric"`` along.

    The inequalities :math:`G \le 0` and :math:`\lambda \ge 0` hold at a solution and, with slack, near it; they are not
    in ``F``. Its derivative is singular where :math:`\lambda_j = G_j = 0` for some ``j`` (no strict complementarity;
    the active form then takes the constraint for inactive) or where the gradients of the active constraints are
    dependent.

    Parameters
    ----------
    fun
        ``f(z, *theta)``, one real number.
    equality, inequality
        ``H(z, *theta)`` and ``G(z, *theta)``, arrays or trees of arrays; ``None`` where there are none, and then
        ``nu`` or ``lam`` is ``None``, too. ``nu`` and ``lam`` are trees like what the functions return.
    form
        ``"complementarity"`` or ``"active"``.

    Raises
    ------
    TypeError
        If multipliers are not like their constraints, or the unknown is no triple.

    References
    ----------
    Amos and Kolter, "OptNet: differentiable optimization as a layer in neural networks", ICML 2017 (arXiv 1703.00443).

    Examples
    --------
    The projection onto a half-space, by a solver that returns its multiplier:

    >>> import dini, jax, jax.numpy as jnp
    >>> kkt = dini.conditions.KKT(lambda z, y: 0.5 * jnp.sum((z - y) ** 2), None, lambda z, y: jnp.sum(z) - 1.0)
    >>> @dini.custom_root(kkt)
    ... def nearest(init, y):
    ...     lam = jnp.maximum(jnp.sum(y) - 1.0, 0.0) / y.size
    ...     return y - lam, None, lam
    >>> print(jax.jacobian(lambda y: nearest(None, y)[0])(jnp.array([2.0, 1.0])))
    [[ 0.5 -0.5]
     [-0.5  0.5]]
    """

    fun: Any
    equality: Any = None
    inequality: Any = None
    form: Literal["complementarity", "active"] = field(default="complementarity", metadata={"static": True})

    def __post_init__(self) -> None:
        require_choice("KKT's form", self.form, ("complementarity", "active"))
        for name in ("fun", "equality", "inequality"):
            value = getattr(self, name)
            if name == "fun" or value is not None:
                object.__setattr__(self, name, as_function(value, f"KKT's {name}"))

    def __call__(self, x: Tree, *args: Tree) -> Tree:
        """Return the residuals of stationarity, equalities and complementarity, a triple like ``x``."""
        z, nu, lam = _triple(x, self)
        stationary = jax.grad(self.fun)(z, *args)
        equal, complementary = None, None
        if self.equality is not None:
            equal, pull = _pull("nu", self.equality, z, args, nu)
            stationary = trees.add(stationary, pull)
        if self.inequality is not None:
            values = self.inequality(z, *args)
            trees.require_same("The multipliers lam", lam, values, "their constraints")
            if self.form == "active":
                held = jax.tree.map(lambda m, g: active(m, -g, -jnp.inf), lam, values)
                complementary = jax.tree.map(jnp.where, held, values, lam)
                lam = jax.tree.map(lambda a, m: jnp.where(a, m, 0), held, lam)
            else:
                complementary = jax.tree.map(jnp.multiply, lam, values)
            stationary = trees.add(stationary, _pull("lam", self.inequality, z, args, lam)[1])
        return stationary, equal, complementary


def _triple(x: Tree, owner: KKT) -> tuple[Any, Any, Any]:
    if not (isinstance(x, tuple) and len(x) == 3):
        raise TypeError(f"The unknown of KKT must be a tuple (z, nu, lam): given {trees.describe(x)}.")
    for name, function, multiplier in (("nu", owner.equality, x[1]), ("lam", owner.inequality, x[2])):
        if (function is None) != (multiplier is None):
            needed = "None, as there are no such constraints" if function is None else "given"
            raise TypeError(f"The multiplier {name} of KKT must be {needed}: given {trees.describe(multiplier)}.")
    return x


_PAIRS = (
    "the data of a quadratic program must be pairs, F((z, nu, lam), (Q, c), (E, d), (M, h)), with None for missing "
    "constraints"
)


def _pair(theta: tuple[Any, ...], place: int) -> Any:
    """Return a matrix and a vector of a quadratic program's data, or raise."""
    if len(theta) > 3:
        raise TypeError(f"{_PAIRS[0].upper()}{_PAIRS[1:]}: given {len(theta)} arguments.")
    pair = theta[place] if place < len(theta) else None
    if not (isinstance(pair, list | tuple) and len(pair) == 2):
        name = ("(Q, c)", "(E, d)", "(M, h)")[place]
        given = "nothing" if pair is None else trees.describe(pair)
        raise TypeError(f"{name} must be a pair of a matrix and a vector: given {given}; {_PAIRS}.")
    return pair


def _quadratic(z: Any, *theta: Any) -> Any:
    Q, c = _pair(theta, 0)
    return 0.5 * vdot(z, dot(Q, z)) + vdot(c, z)


def _affine_equality(z: Any, *theta: Any) -> Any:
    E, d = _pair(theta, 1)
    return dot(E, z) - d


def _affine_inequality(z: Any, *theta: Any) -> Any:
    M, h = _pair(theta, 2)
    return dot(M, z) - h


@functools.partial(
    explained,
    misused="It takes no data, only equality=, inequality= and form=, and returns a function; "
    f"{_PAIRS}: dini.conditions.quadratic_program()((z, nu, lam), (Q, c), (E, d), (M, h)).",
)
def quadratic_program(
    *, equality: bool = True, inequality: bool = True, form: Literal["complementarity", "active"] = "complementarity"
) -> KKT:
    r"""Return the KKT conditions of a quadratic program.

    The program is :math:`\min \tfrac12 z^\top Q z + c^\top z` subject to :math:`Ez = d` and :math:`Mz \le h`.
    They are ``F((z, nu, lam), (Q, c), (E, d), (M, h))``; where there are no constraints of a kind, ``None`` stands for
    them and for their multiplier. Of ``Q`` the symmetric part counts.

    Examples
    --------
    Minimize :math:`\tfrac12 z^2 + cz` subject to :math:`z \le h` at ``c = -3``, ``h = 1``:

    >>> import dini, jax.numpy as jnp
    >>> F = dini.conditions.quadratic_program(equality=False)
    >>> x = jnp.array([1.0]), None, jnp.array([2.0])
    >>> theta = (jnp.eye(1), jnp.array([-3.0])), None, (jnp.eye(1), jnp.array([1.0]))
    >>> zero = (jnp.zeros((1, 1)), jnp.zeros(1)), None, (jnp.zeros((1, 1)), jnp.ones(1))
    >>> z, nu, lam = dini.root_jvp(F, x, theta, zero)
    >>> print(z, lam)
    [1.] [-1.]
    """
    return KKT(
        _quadratic, _affine_equality if equality else None, _affine_inequality if inequality else None, form=form
    )


def multipliers(condition: KKT, z: Any, *args: Tree, tolerance: float | None = None) -> tuple[Any, Any, Any]:
    r"""Return ``(z, nu, lam)`` for a primal solution alone, by least squares on stationarity.

    .. math:: \min_{\nu, \lambda} \|\nabla_1 f + (\partial_1 H)^\top \nu + (\partial_1 G)^\top \lambda\|

    with :math:`\lambda_j = 0` for the inequalities that are not active, and the smallest solution
    where the gradients are dependent. A multiplier that comes out negative (from a point that is not a solution, or one
    constraint too many) is set to zero. The Jacobians of the constraints are formed.

    Parameters
    ----------
    condition
        The conditions.
    z
        The primal solution.
    args
        ``theta``.
    tolerance
        Up to which distance from its bound an inequality is active, times one plus the largest element of ``z``.
        Default: the cube root of the rounding unit.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> kkt = dini.conditions.KKT(lambda z, y: 0.5 * jnp.sum((z - y) ** 2), None, lambda z, y: jnp.sum(z) - 1.0)
    >>> z, nu, lam = dini.conditions.multipliers(kkt, jnp.array([1.0, 0.0]), jnp.array([2.0, 1.0]))
    >>> print(lam.round(4))
    1.0
    """
    flat, unravel = jax.flatten_util.ravel_pytree(z)
    gradient = jax.grad(lambda u: condition.fun(unravel(u), *args))(flat)
    reach = (trees.eps(flat) ** (1 / 3) if tolerance is None else tolerance) * (1 + trees.max_abs(z))
    jacobians, keep, rebuild = [], [], []
    for function in (condition.equality, condition.inequality):
        if function is None:
            rebuild.append((0, lambda _: None))
            continue
        raveled = lambda u, function=function: jax.flatten_util.ravel_pytree(function(unravel(u), *args))[0]
        values, back = jax.flatten_util.ravel_pytree(function(z, *args))
        jacobians.append(jax.jacrev(raveled)(flat))
        active = values > -reach
        keep.append(active if function is condition.inequality else jnp.ones_like(active))
        rebuild.append((values.size, back))
    if not jacobians:
        return z, None, None
    rows = jnp.concatenate(jacobians) * jnp.concatenate(keep)[:, None]
    solved = jnp.linalg.lstsq(rows.T, -gradient)[0] * jnp.concatenate(keep)
    (many, back_nu), (_, back_lam) = rebuild
    return z, back_nu(solved[:many]), back_lam(jnp.maximum(solved[many:], 0))
