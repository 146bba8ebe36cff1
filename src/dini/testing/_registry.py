"""Problems whose solutions are known in closed form."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .. import penalties, sets
from ..problems import (
    Composite,
    FixedPoint,
    LeastSquares,
    LinearComposite,
    Minimize,
    PrimalDual,
    Quadratic,
    Root,
    VariationalInequality,
)
from ..protocols import AnySolver


@dataclass(frozen=True, eq=False)
class Case:
    """A family of problems with parameter ``theta``.

    Attributes
    ----------
    name
        For messages and test names.
    make
        ``make(theta)`` returns ``(problem, args)``. The problem's functions are the same objects at every call.
    solution
        ``solution(theta)``, the closed form, differentiable by JAX.
    init, theta
        Starting point and parameter: nested tuples and dictionaries of numbers, made into arrays by :meth:`arrays`.
    smooth
        Whether the second derivative of the solution exists at ``theta``.
    tags
        Structure that a solver may need: ``"simplex"``, ``"rows"`` (a product of blocks), ``"contraction"``,
        ``"complex"``.
    """

    name: str
    make: Callable[[Any], tuple[Any, tuple[Any, ...]]]
    solution: Callable[[Any], Any]
    init: Any
    theta: Any
    smooth: bool = True
    tags: frozenset[str] = frozenset()

    def arrays(self, dtype: Any) -> tuple[Any, Any]:
        """Return ``(init, theta)`` as arrays of a real dtype; complex numbers become the complex dtype of its width."""

        def one(value: Any) -> jax.Array:
            array = jnp.asarray(value)
            return array.astype(jnp.promote_types(dtype, jnp.complex64) if jnp.iscomplexobj(array) else dtype)

        is_leaf = lambda node: isinstance(node, list)
        return jax.tree.map(one, self.init, is_leaf=is_leaf), jax.tree.map(one, self.theta, is_leaf=is_leaf)

    def fits(self, solver: AnySolver) -> bool:
        """Return whether the solver takes the problem."""
        init, theta = self.arrays(jnp.float32)
        problem, _ = self.make(theta)
        try:
            solver.check(problem, init)
        except (TypeError, ValueError):
            return False
        return True


_DESIGN = ((1.0, 0.5, -0.3), (0.2, -1.0, 0.4), (-0.6, 0.1, 1.2), (0.7, 0.9, 0.2), (0.3, -0.2, -0.8))
_TARGET = (1.0, -0.5, 0.8, 0.3, -1.1)


def _design(like: Any) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.finfo(jnp.result_type(like)).dtype
    return jnp.asarray(_DESIGN, dtype), jnp.asarray(_TARGET, dtype)


def _ridge_loss(w: Any, strength: Any, X: Any, y: Any) -> Any:
    return 0.5 * jnp.sum((X @ w - y) ** 2) + 0.5 * jnp.sum(strength * w**2)


_RIDGE = Minimize(_ridge_loss)


def _ridge_solution(theta: Any) -> Any:
    X, y = _design(theta)
    return jnp.linalg.solve(X.T @ X + jnp.diag(theta), X.T @ y)


def _tree_loss(x: Any, a: Any, b: Any) -> Any:
    return jnp.sum((x["u"] - a) ** 2) + 0.5 * (x["v"][0] - b) ** 2


def _log_loss(x: Any, a: Any) -> Any:
    return jnp.sum(jnp.exp(x) - a * x)


def _distance(x: Any, a: Any) -> Any:
    return 0.5 * jnp.sum((x - a) ** 2)


def _complex_distance(w: Any, a: Any) -> Any:
    return jnp.sum(jnp.abs(w - a) ** 2) + 0.5 * jnp.sum(w.imag**2)


def _complex_solution(a: Any) -> Any:
    return jax.lax.complex(a.real, a.imag / 1.5)


def _entropic(x: Any, c: Any) -> Any:
    positive = x > 0
    return jnp.sum(c * x + jnp.where(positive, x * jnp.log(jnp.where(positive, x, 1)), 0))


def _weighted(x: Any, a: Any) -> Any:
    weights = 1.0 + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)
    return 0.5 * jnp.sum(weights * (x - a) ** 2)


def _weights(a: Any) -> Any:
    return 1.0 + jnp.arange(a.size, dtype=a.dtype).reshape(a.shape)


def _composite(make_part: Callable[[Any], dict[str, Any]], fun: Any = _distance) -> Callable[[Any], Any]:
    def make(theta: Any) -> Any:
        return Minimize(fun, **make_part(theta[1])), (theta[0],)

    return make


def _soft(u: Any, t: Any) -> Any:
    return jnp.sign(u) * jnp.maximum(jnp.abs(u) - t, 0)


def _root_pair(x: Any, a: Any) -> Any:
    return jnp.stack([x[0] ** 2 - a[0], x[0] * x[1] - a[1]])


def _cubic(x: Any, a: Any) -> Any:
    return x**3 + x - a


def _cardano(a: Any) -> Any:
    root = jnp.sqrt(a**2 / 4 + 1 / 27)
    return jnp.cbrt(a / 2 + root) + jnp.cbrt(a / 2 - root)


def _complex_square(z: Any, a: Any) -> Any:
    return z * z - a


def _linear_map(x: Any, a: Any) -> Any:
    matrix = jnp.asarray(((0.3, 0.2, 0.0), (-0.1, 0.4, 0.1), (0.0, 0.2, -0.3)), a.dtype)
    return matrix @ x + a


def _linear_fixed_point(a: Any) -> Any:
    matrix = jnp.asarray(((0.3, 0.2, 0.0), (-0.1, 0.4, 0.1), (0.0, 0.2, -0.3)), a.dtype)
    return jnp.linalg.solve(jnp.eye(3, dtype=a.dtype) - matrix, a)


def _oligopoly(q: Any, cost: Any) -> Any:
    """Return the marginal losses of firms that sell at a price that falls as all of them sell more."""
    return cost - (10 - jnp.sum(q) - q)


def _oligopoly_solution(cost: Any) -> Any:
    """Return what two firms sell, with a third one that is too expensive."""
    return jnp.concatenate([(10 + jnp.sum(cost[:2])) / 3 - cost[:2], jnp.zeros(1, cost.dtype)])


def _babylon(x: Any, a: Any) -> Any:
    return {"r": 0.5 * (x["r"] + a / x["r"])}


def _residual_exponential(x: Any, a: Any) -> Any:
    return jnp.stack([jnp.exp(x) - a[0], jnp.exp(x) - a[1]])


def _residual_valley(x: Any, a: Any) -> Any:
    return {"first": 10 * (x[1] - x[0] ** 2), "second": x[0] - a}


def _residual_distance(x: Any, a: Any) -> Any:
    return jnp.sqrt(_weights(x)) * (x - a)


def _residual_separable(x: Any, a: Any) -> Any:
    return jnp.stack([x["c"] * x["a"] - a[0], x["c"] - a[1]])


def _lasso_outer(z: Any, w: Any, y: Any) -> Any:
    return 0.5 * jnp.sum((z - y) ** 2)


def _orthonormal(y: Any) -> Any:
    return jnp.asarray(((0.6, 0.8, 0.0), (-0.8, 0.6, 0.0)), y.dtype)


def _differences(like: Any) -> Any:
    return jnp.asarray(((1.0, -1.0, 0.0), (0.0, 1.0, -1.0)), like.dtype)


def _gram(theta: Any) -> Any:
    return jnp.asarray(((2.0, 1.0, 0.0), (1.0, 2.0, 0.0), (0.0, 0.0, 1.0)), theta[0].dtype)


def _fused_solution(theta: Any) -> Any:
    """Return the solution where the first two are equal and the third is larger."""
    (a, strength), half = theta, 0.5
    level = half * (a[0] + a[1] + strength)
    x = jnp.stack([level, level, a[2] - strength])
    return PrimalDual(x, jnp.stack([a[0] - level, -strength]))


def _bounded_simplex_solution(theta: Any) -> Any:
    """Return the solution where the first element is at its upper bound."""
    a, top = theta
    rest = a[1:] - (a[1:].sum() - (1 - top)) / 2
    y = rest[0] - a[1] - top + a[0]
    return PrimalDual(jnp.concatenate([top[None], rest]), jnp.stack([y, 0 * y, 0 * y]))


_LINEAR = LinearComposite(_lasso_outer, _orthonormal)


def _tags(*names: str) -> frozenset[str]:
    return frozenset(names)


def _minima() -> tuple[Case, ...]:
    """Return smooth objectives and residuals."""
    return (
        Case("ridge", lambda t: (_RIDGE, (t, *_design(t))), _ridge_solution, [0.0, 0.0, 0.0], [0.5, 1.0, 0.2]),
        Case("logarithm", lambda t: (Minimize(_log_loss), (t,)), jnp.log, 0.5, 3.0),
        Case(
            "tree",
            lambda t: (Minimize(_tree_loss), (t["a"], t["b"])),
            lambda t: {"u": t["a"], "v": (t["b"],)},
            {"u": [0.0, 0.0], "v": (0.0,)},
            {"a": [1.0, -2.0], "b": 0.5},
        ),
        Case(
            "complex distance",
            lambda t: (Minimize(_complex_distance), (t,)),
            _complex_solution,
            [0j, 0j],
            [1.0 + 2.0j, -0.5 + 1.0j],
            tags=_tags("complex"),
        ),
        Case(
            "exponential fit",
            lambda t: (LeastSquares(_residual_exponential), (t,)),
            lambda t: jnp.log(t.mean()),
            0.3,
            [1.0, 3.0],
        ),
        Case(
            "valley",
            lambda t: (LeastSquares(_residual_valley), (t,)),
            lambda t: jnp.stack([t, t**2]),
            [0.5, 0.5],
            1.2,
        ),
        Case(
            "bounded residuals",
            lambda t: (LeastSquares(_residual_distance, constraint=sets.Box(t[1][0], t[1][1])), (t[0],)),
            lambda t: jnp.stack([t[1][0], t[0][1], t[1][1]]),
            [0.0, 0.0, 0.0],
            ([-2.0, 0.3, 5.0], (-1.0, 1.0)),
        ),
        Case(
            "separable",
            lambda t: (LeastSquares(_residual_separable), (t,)),
            lambda t: {"a": t[0] / t[1], "c": t[1]},
            {"a": 1.0, "c": 1.0},
            [2.0, 1.5],
        ),
    )


def _equations() -> tuple[Case, ...]:
    """Return roots and fixed points."""
    return (
        Case("cubic", lambda t: (Root(_cubic), (t,)), _cardano, 1.0, 9.7),
        Case(
            "pair",
            lambda t: (Root(_root_pair), (t,)),
            lambda t: jnp.stack([jnp.sqrt(t[0]), t[1] / jnp.sqrt(t[0])]),
            [1.0, 1.0],
            [4.0, 3.0],
        ),
        Case(
            "complex square",
            lambda t: (Root(_complex_square), (t,)),
            jnp.sqrt,
            1.0 + 1.0j,
            3.0 + 4.0j,
            tags=_tags("complex"),
        ),
        Case(
            "linear map",
            lambda t: (FixedPoint(_linear_map), (t,)),
            _linear_fixed_point,
            [0.0, 0.0, 0.0],
            [1.0, 2.0, -1.0],
        ),
        Case(
            "oligopoly",
            lambda t: (VariationalInequality(_oligopoly, sets.NonNegative()), (t,)),
            _oligopoly_solution,
            [1.0, 1.0, 1.0],
            [1.0, 2.0, 8.0],
        ),
        Case("babylon", lambda t: (FixedPoint(_babylon), (t,)), lambda t: {"r": jnp.sqrt(t)}, {"r": 1.0}, 9.0),
    )


def _constrained() -> tuple[Case, ...]:
    """Return objectives on sets."""
    return (
        Case(
            "simplex",
            _composite(lambda s: {"constraint": sets.Simplex(s)}),
            lambda t: jnp.concatenate([t[0][:2] - (t[0][:2].sum() - t[1]) / 2, jnp.zeros(1, t[0].dtype)]),
            [0.3, 0.3, 0.4],
            ([0.9, 0.5, -1.0], 1.0),
        ),
        Case(
            "simplex rows",
            _composite(lambda s: {"constraint": sets.Simplex(s, axis=-1)}),
            lambda t: t[0] - (t[0].sum(-1, keepdims=True) - t[1]) / 2,
            [[0.5, 0.5], [0.5, 0.5]],
            ([[0.3, 0.5], [0.1, 0.4]], 1.0),
            tags=_tags("simplex"),
        ),
        Case(
            "entropy",
            lambda t: (Minimize(_entropic, constraint=sets.Simplex()), (t,)),
            lambda t: jax.nn.softmax(-t),
            [0.2, 0.3, 0.5],
            [0.1, 0.5, -0.2],
            tags=_tags("interior simplex"),
        ),
        Case(
            "box",
            _composite(lambda b: {"constraint": sets.Box(b[0], b[1])}, _weighted),
            lambda t: jnp.stack([t[1][0], t[0][1], t[1][1]]),
            [0.0, 0.0, 0.0],
            ([-2.0, 0.3, 5.0], (-1.0, 1.0)),
        ),
        Case(
            "nonnegative",
            lambda t: (Minimize(_weighted, constraint=sets.NonNegative()), (t,)),
            lambda t: jnp.where(t > 0, t, 0),
            [1.0, 1.0, 1.0],
            [-2.0, 0.3, 5.0],
        ),
        Case(
            "l2 ball",
            _composite(lambda r: {"constraint": sets.L2Ball(r)}),
            lambda t: t[1] * t[0] / jnp.linalg.norm(t[0]),
            [0.1, 0.1, 0.0],
            ([1.0, 2.0, -2.0], 1.5),
        ),
        Case(
            "l1 ball",
            _composite(lambda r: {"constraint": sets.L1Ball(r)}),
            lambda t: jnp.concatenate(
                [
                    jnp.sign(t[0][:2]) * (jnp.abs(t[0][:2]) - (jnp.abs(t[0][:2]).sum() - t[1]) / 2),
                    jnp.zeros(1, t[0].dtype),
                ]
            ),
            [0.1, 0.0, 0.0],
            ([1.0, -2.0, 0.1], 1.5),
        ),
    )


def _penalized() -> tuple[Case, ...]:
    """Return objectives with penalties, of particular forms."""
    return (
        Case(
            "lasso",
            _composite(lambda s: {"penalty": penalties.L1(s)}, _weighted),
            lambda t: _soft(t[0], t[1] / _weights(t[0])),
            [0.0, 0.0, 0.0],
            ([1.5, -0.2, -3.0], 0.9),
        ),
        Case(
            "elastic net",
            _composite(lambda p: {"penalty": penalties.ElasticNet(p[0], p[1])}),
            lambda t: _soft(t[0], t[1][0]) / (1 + t[1][0] * t[1][1]),
            [0.0, 0.0, 0.0],
            ([1.5, -0.2, -3.0], (0.9, 0.5)),
        ),
        Case(
            "group lasso",
            _composite(lambda s: {"penalty": penalties.GroupLasso(s)}),
            lambda t: t[0] * (1 - t[1] / jnp.linalg.norm(t[0])),
            [0.1, 0.0, 0.0],
            ([1.0, 2.0, -2.0], 0.9),
        ),
        Case(
            "ridge penalty",
            _composite(lambda s: {"penalty": penalties.Ridge(s)}, _weighted),
            lambda t: _weights(t[0]) * t[0] / (_weights(t[0]) + t[1]),
            [0.0, 0.0, 0.0],
            ([1.0, 2.0, -2.0], 0.9),
        ),
        Case(
            "linear composite lasso",
            lambda t: (Minimize(_LINEAR, penalty=penalties.L1(t[1])), (t[0],)),
            lambda t: _soft(_orthonormal(t[0]) @ t[0], t[1]),
            [0.0, 0.0],
            ([1.0, -2.0, 0.4], 0.3),
        ),
        Case(
            "quadratic on a box",
            lambda t: (Minimize(Quadratic(_gram(t), -t[0]), constraint=sets.Box(0.0, t[1])), ()),
            lambda t: jnp.stack([t[1], (t[0][1] - t[1]) / 2, 0 * t[1]]),
            [0.0, 0.0, 0.0],
            ([4.0, 1.2, -1.0], 0.5),
        ),
    )


def _pairs() -> tuple[Case, ...]:
    """Return primal and dual variables."""
    return (
        Case(
            "fused",
            lambda t: (Composite(_distance, penalties.L1(t[1]), _differences(t[0])), (t[0],)),
            _fused_solution,
            PrimalDual([0.0, 0.0, 0.0], [0.0, 0.0]),
            ([1.0, 1.2, 3.0], 0.5),
        ),
        Case(
            "simplex within bounds",
            lambda t: (Composite(_distance, sets.Box(0.0, t[1]), None, sets.Simplex()), (t[0],)),
            _bounded_simplex_solution,
            PrimalDual([0.3, 0.3, 0.4], [0.0, 0.0, 0.0]),
            ([0.9, 0.5, 0.1], 0.5),
        ),
    )


def cases() -> list[Case]:
    """Return all cases.

    Examples
    --------
    >>> from dini.testing import cases
    >>> [case.name for case in cases()][:3]
    ['ridge', 'logarithm', 'tree']
    """
    return list(_cases())


@functools.cache
def _cases() -> tuple[Case, ...]:
    return (*_minima(), *_equations(), *_constrained(), *_penalized(), *_pairs())
