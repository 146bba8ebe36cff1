"""Annotations as promises: what is refused, what is said of it, what is promoted, and what must go through as it is."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dini_zoo.kit.enforcing import _in_class, enforced


@enforced
def weighted(
    x: Float[Array, "n d"], w: Float[Array, " n"] | float | None = None, *, at: Int[Array, " k"] | None = None
):
    """The rows of x, with weights."""
    x = x if w is None else jnp.asarray(w)[..., None] * x
    return x if at is None else x[at]


class Seen(NamedTuple):
    reward: Float[Array, " T"]
    state: Float[Array, "T n"]
    done: Bool[Array, " T"]


@enforced
def total(seen: Seen, discount: Any = 1.0):
    return jnp.sum(seen.reward * discount)


@enforced
def padded(counts: Float[Array, " q"], more: Float[Array, " q+1"], *rest: Any, **others: Any):
    return counts, more


@enforced
def batched(x: Float[Array, "*m d"], y: Float[Array, "*m"], z: Float[Array, "*#m"] | None = None):
    return x, y


@enforced
def several(parts: Sequence[Float[Array, "_ d"]], pair: tuple[Float[Array, " d"], int], tree: PyTree[Array] = None):
    return parts, pair


X = np.ones((3, 2))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: weighted(X[:, :1, None]), ValueError, r"weighted: x must have the shape \(n, d\): given \(3, 1, 1\)"),
        (lambda: weighted(X, X[:, :1]), ValueError, r"w must have the shape \(n,\), where n = 3 by x: given \(3, 1\)"),
        (
            lambda: weighted(X, w=np.ones(4)),
            ValueError,
            r"w must have the shape \(n,\), where n = 3 by x: given \(4,\)",
        ),
        (lambda: weighted(X, at=np.ones(3, bool)), TypeError, r"at must be whole numbers .*: given an array of bool"),
        (lambda: weighted(X, at=np.ones(3)), TypeError, r"at must be whole numbers .*: given an array of float64"),
        (lambda: weighted("x"), TypeError, "x must be an array of shape"),
        (lambda: weighted([[1.0], [1.0, 2.0]]), ValueError, "x must be an array of shape .*: given a ragged list"),
        (lambda: weighted(X.astype(complex)), TypeError, "x must be real numbers: given an array of complex128"),
        (lambda: total(Seen(X[:, 0], X, X[:, 0])), TypeError, r"seen\.done must be Booleans"),
        (lambda: total(Seen(X[:, :1], X, np.ones(3, bool))), ValueError, r"seen\.\w+ must have"),
        (
            lambda: padded(np.ones(3), np.ones(3)),
            ValueError,
            r"more must have the shape \(q\+1,\), where q = 3 by c",
        ),
        (lambda: batched(np.ones((4, 5, 2)), np.ones((4, 1))), ValueError, r"\*m = \(4, 5\) by x: given \(4, 1\)"),
        (lambda: several([X, X[:, :1]], (X[0], 1)), ValueError, r"parts\[1\] must have .* d = 2 by parts\[0\]"),
        (lambda: several([X], (X[0],)), ValueError, "pair must have 2 entries: given 1"),
        (lambda: jax.eval_shape(weighted, jnp.ones((3, 2)), jnp.ones((3, 1))), ValueError, "w must have the shape"),
        (lambda: jax.jit(jax.vmap(weighted))(jnp.ones((5, 3, 2)), jnp.ones((5, 4))), ValueError, "n = 3 by x"),
    ],
)
def test_what_is_refused(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_what_goes_through():
    """Lists, numbers, NumPy, tracers, batches of named tuples, what is no array, what is not annotated."""
    assert weighted(X, 2).shape == (3, 2)
    assert batched([[1.0, 2.0]], [3.0])[1] == [3.0]
    assert weighted(X, np.float32(2.0)).shape == (3, 2)
    assert weighted(X, at=np.array([0, 2], np.uint8)).shape == (2, 2)
    assert weighted(X, at=np.array([])[:0].astype(int)).shape == (0, 2)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(lambda x: weighted(x, 2.0).sum())))(jnp.ones((2, 3, 2))), 2.0)
    assert total(Seen(np.ones((4, 3)), np.ones((4, 3, 2)), np.ones((4, 3), bool))) == 12
    assert padded(np.ones(3), np.ones(4), 1, other=2)[1].shape == (4,)
    batched(np.ones(2), 1.0)
    batched(np.ones((4, 5, 2)), np.ones((4, 5)), np.ones((1, 5)))
    several((X,), (X[0], 1), {"any": "thing"})
    # an axis of vmap or a placeholder in the place of an array
    weighted(object())
    weighted(None)


def test_integers_become_floats_once():
    assert weighted(np.ones((3, 2), int)).dtype == np.float64
    assert jax.eval_shape(weighted, jnp.ones((3, 2), int)).dtype == jnp.float64
    assert weighted(jnp.ones((3, 2), bool), jnp.array([1, 2, 3])).dtype == jnp.float64
    assert weighted(jnp.ones((3, 2), jnp.bfloat16)).dtype == jnp.bfloat16
    with jax.enable_x64(False):
        assert weighted(np.ones((3, 2), int)).dtype == np.float32
    found = total(Seen(np.arange(3), np.ones((3, 2), int), np.ones(3, bool)), np.float32(0.5))
    assert found == pytest.approx(1.5)


class Model(eqx.Module):
    w: Float[Array, "n d"]
    b: Float[Array, " d"]
    fun: Callable[[Any], Any] = eqx.field(static=True, default=jnp.tanh)

    def __call__(self, x: Float[Array, " n"], key: Key[Array, ""] | None = None) -> Float[Array, " d"]:
        return self.fun(x @ self.w + self.b)

    @classmethod
    def of(cls, w: Float[Array, "n d"]):
        return cls(w, jnp.zeros(jnp.shape(w)[1]))


@dataclasses.dataclass(frozen=True)
class Plain:
    a: Float[np.ndarray, " n"]
    n: int = 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
    a: Float[Array, " n"]


_in_class(Tree, __name__)
_in_class(Model, __name__)
_in_class(Plain, __name__)


def test_classes():
    """Constructors and methods; trees of models go through transformations as before."""
    model = Model.of(np.ones((3, 2), int))
    assert model.w.dtype == np.float64
    with pytest.raises(ValueError, match=r"Model: b must have the shape \(d,\), where d = 2 by w: given \(3,\)"):
        Model(jnp.ones((3, 2)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"Model\.of: w must have the shape \(n, d\): given \(3,\)"):
        Model.of(jnp.ones(3))
    with pytest.raises(ValueError, match=r"Model\.__call__: x must have the shape \(n,\): given \(2, 3\)"):
        model(jnp.ones((2, 3)))
    assert jax.vmap(model)(jnp.ones((4, 3))).shape == (4, 2)
    grads = eqx.filter_jit(eqx.filter_grad(lambda one: one(jnp.ones(3), jax.random.key(0)).sum()))(model)
    assert grads.w.shape == (3, 2)
    many = eqx.filter_vmap(lambda key: Model(jax.random.normal(key, (3, 2)), jnp.zeros(2)))(
        jax.random.split(jax.random.key(0), 5)
    )
    assert many.w.shape == (5, 3, 2)
    assert jax.tree.map(lambda leaf: None, model).w is None
    with pytest.raises(ValueError, match="Plain: a must have"):
        Plain(np.ones((2, 2)))
    assert dataclasses.replace(Plain(np.ones(2)), n=3).n == 3
    # its constructor is JAX's, which puts axes in front
    assert jax.vmap(lambda a: Tree(a))(jnp.ones((5, 2))).a.shape == (5, 2)
    assert jax.tree.map(lambda a: jnp.stack([a, a]), Tree(jnp.ones(2))).a.shape == (2, 2)


def test_functions_are_what_they_were():
    """By name, docstring, signature and module, for doctest, pickle and static arguments."""
    assert weighted.__doc__ == "The rows of x, with weights."
    assert weighted.__globals__ is globals()
    assert weighted.__name__ == "weighted"
    assert pickle.loads(pickle.dumps(weighted)) is weighted
    compiled = enforced(jax.jit(lambda x: x))
    assert compiled(1.0) == 1


@pytest.mark.parametrize(("value", "refused"), [("1", True), ("0", False)])
def test_it_is_enforced_in_the_fields_and_a_variable_switches_it_off(value, refused):
    code = (
        "import jax.numpy as jnp\n"
        "from dini_zoo.reinforcement import trajectories\n"
        "call = lambda: trajectories.discounted_returns(jnp.ones((3, 1)), 0.5)\n"
        "try:\n    call()\nexcept (ValueError, TypeError) as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "DINI_ZOO_CHECKS": value}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ("reward must have the shape (T,): given (3, 1)" in done.stdout) is refused
