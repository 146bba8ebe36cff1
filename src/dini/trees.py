"""Arithmetic on pytrees seen as vectors.

An unknown of dini is any pytree of floating-point arrays. These helpers treat such a tree as one vector of a real inner
product space; complex leaves count as pairs of real numbers, which is why inner products return real scalars.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, register_pytree_with_keys

from . import products, programs
from .hints import explained

Tree = Any


def register[Class: type](cls: Class) -> Class:
    """Register a dataclass as a pytree; fields whose metadata say ``static`` are no leaves.

    Unlike :func:`jax.tree_util.register_dataclass`, the class is put together again without its constructor: the
    derivative with respect to a set or a penalty is an object of its class, but a tangent of a radius need not be
    positive, and JAX and its users put all kinds of things where a number belongs.
    """
    static = tuple(f.name for f in fields(cls) if f.metadata.get("static"))
    data = tuple(f.name for f in fields(cls) if not f.metadata.get("static"))
    keys = tuple(map(GetAttrKey, data))

    def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = node.__dict__  # a solve flattens several objects: no further function is called here
        return tuple([values[name] for name in data]), tuple([values[name] for name in static])

    def flatten_with_keys(node: Any) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        children, aux = flatten(node)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        node = object.__new__(cls)
        node.__dict__.update(zip(data, children, strict=True))
        node.__dict__.update(zip(static, aux, strict=True))
        return node

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    cls.__init__ = explained(cls.__init__, cls.__name__)
    return cls


def add(a: Tree, b: Tree) -> Tree:
    """Return ``a + b``."""
    return jax.tree.map(jnp.add, a, b)


def sub(a: Tree, b: Tree) -> Tree:
    """Return ``a - b``."""
    return jax.tree.map(jnp.subtract, a, b)


def neg(a: Tree) -> Tree:
    """Return ``-a``."""
    return jax.tree.map(jnp.negative, a)


def scale(factor: Any, a: Tree) -> Tree:
    """Return ``factor * a`` in the dtypes of ``a``."""
    return jax.tree.map(lambda x: jnp.asarray(factor).astype(x.dtype) * x, a)


def axpy(factor: Any, x: Tree, y: Tree) -> Tree:
    """Return ``y + factor * x`` in the dtypes of ``y``."""
    return jax.tree.map(lambda u, v: v + jnp.asarray(factor).astype(v.dtype) * u, x, y)


def zeros_like(a: Tree) -> Tree:
    """Return the zero vector of the space of ``a``."""
    return jax.tree.map(jnp.zeros_like, a)


def varied(a: Tree) -> Tree:
    """Return a fixed vector like ``a`` that is no eigenvector of anything: a start for power iterations."""
    return jax.tree.map(lambda x: jnp.sin(1.0 + jnp.arange(x.size, dtype=float)).reshape(x.shape).astype(x.dtype), a)


def signs(a: Tree) -> Tree:
    """Return a fixed vector like ``a`` of plus and minus ones without a visible pattern."""

    def one(x: Any) -> jax.Array:
        i = np.arange(1, x.size + 1)
        # the golden ratio's multiples of squares are spread evenly and do not repeat
        return jnp.asarray(np.where((0.61803398875 * i * i) % 1 < 0.5, 1.0, -1.0).reshape(x.shape), x.dtype)

    return jax.tree.map(one, a)


def scattered(a: Tree) -> Tree:
    """Return a fixed vector like ``a`` whose elements, between one and two in size, are in no simple relation."""

    def one(x: Any, sign: jax.Array) -> jax.Array:
        sizes = 1 + (np.sqrt(2) * np.arange(1, x.size + 1)) % 1
        return sign * jnp.asarray(sizes.reshape(x.shape), x.dtype)

    return jax.tree.map(one, a, signs(a))


def where(condition: Any, a: Tree, b: Tree) -> Tree:
    """Return ``a`` where the scalar ``condition`` holds and ``b`` elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(a):
        return products.vdot(a, b).real
    return products.vdot(a, b)


def vdot(a: Tree, b: Tree) -> jax.Array:
    """Return the real inner product of two trees."""
    products = [_dot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return total(products) if products else jnp.zeros(())


def total(parts: list[jax.Array]) -> jax.Array:
    """Return the sum of a list of at least one array."""
    return functools.reduce(jnp.add, parts)


def linked(tree: Tree) -> Tree:
    """Return a tree with every leaf a linear function of all.

    JAX transposes a linear system only if all of its right-hand side depends on what is differentiated, and the
    derivative of its transpose only if all of its solution is used. A row of a condition that holds no parameters
    (complementarity, say) does not, nor does a loss of some leaves use the others: these parts are the constant zero.
    """
    leaves, treedef = jax.tree.flatten(tree)
    if len(leaves) < 2:
        return tree
    # the sum of no elements: it hands on no NaN either
    nothing = [jnp.sum(leaf.ravel()[:0]) for leaf in leaves]
    return jax.tree.unflatten(treedef, [sum((n.astype(leaf.dtype) for n in nothing), leaf) for leaf in leaves])


def norm(a: Tree) -> jax.Array:
    """Return the Euclidean norm of a tree.

    The derivative at zero is zero (a subgradient), not NaN; the norm of a tree with a NaN is NaN.
    """
    return sqrt(vdot(a, a))


def norms(*vectors: Tree) -> list[jax.Array]:
    """Return the norms of some trees of one kind, in a program that is quicker to compile than one for each.

    Where a norm is part of longer arithmetic, :func:`norm` joins it.
    """
    leaves = list(zip(*(jax.tree.leaves(v) for v in vectors), strict=True))
    if any(jnp.iscomplexobj(leaf) for leaf, *_ in leaves):
        return [norm(v) for v in vectors]
    parts = [products.squares(*leaf) for leaf in leaves]
    return [sqrt(total(list(part))) for part in zip(*parts, strict=True)]


def sqrt(squared: jax.Array) -> jax.Array:
    """Return the square root, with the derivative zero at zero."""
    zero = squared == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


def max_abs(a: Tree) -> jax.Array:
    """Return the largest absolute value in a tree (zero for a tree without elements)."""
    tops = [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(a) if x.size]
    return functools.reduce(jnp.maximum, tops) if tops else jnp.zeros((), real_dtype(a))


def all_finite(a: Tree) -> jax.Array:
    """Return whether every element is finite."""
    # the largest of some numbers compiles faster than the conjunction of as many tests; it is NaN if one is
    return jnp.isfinite(max_abs(jax.lax.stop_gradient(to_real(a))))


def size(a: Tree) -> int:
    """Return the number of real degrees of freedom."""
    return sum(math.prod(jnp.shape(x)) * (2 if jnp.iscomplexobj(x) else 1) for x in jax.tree.leaves(a))


def real_dtype(a: Tree) -> np.dtype:
    """Return the real dtype in which scalars that belong to ``a`` (errors, step sizes) are kept: at least float32."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(a)]
    inexact = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)] or [jnp.result_type(float)]
    # by hand: JAX may have been asked to promote nothing
    return np.dtype(np.float64 if any(jnp.finfo(dtype).bits == 64 for dtype in inexact) else np.float32)


def single(dtype: Any) -> Any:
    """Return a dtype of at least single precision."""
    short = not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits < 32
    return np.dtype(np.float32) if short else np.dtype(dtype)


def eps(a: Tree) -> float:
    """Return the unit roundoff of the coarsest leaf of ``a``."""
    return max((float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(a)), default=float(jnp.finfo(float).eps))


def strong(a: Tree) -> Tree:
    """Return ``a`` as arrays without weak types, so that loops keep one type."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), a)


def inexact(a: Tree) -> Tree:
    """Return ``a`` with floating-point numbers in place of integers and booleans."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        array = jnp.asarray(leaf)
        return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(float)

    return jax.tree.map(one, a)


def is_inexact(leaf: Any) -> bool:
    """Return whether a leaf is a floating-point or complex array or scalar."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) if _has_dtype(leaf) else isinstance(leaf, float | complex)


def parted(a: Tree, which: Callable[[Any], bool]) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
    """Return the leaves for which ``which`` holds, and a function that makes a tree like ``a`` of others for these."""
    leaves, treedef = jax.tree.flatten(a)
    some, merge = picked(leaves, [i for i, leaf in enumerate(leaves) if which(leaf)])
    return some, lambda some: jax.tree.unflatten(treedef, merge(some))


def picked(leaves: list[Any], places: list[int]) -> tuple[list[Any], Callable[[list[Any]], list[Any]]]:
    """Return the leaves at some places, and a function that puts others into these places."""

    def merge(some: list[Any]) -> list[Any]:
        full = list(leaves)
        for i, leaf in zip(places, some, strict=True):
            full[i] = leaf
        return full

    return [leaves[i] for i in places], merge


def tangents_of(args: Tree, tangents: Tree) -> list[jax.Array]:
    """Return the tangents of the leaves of ``args`` that are floating-point or complex, in their dtypes."""
    if jax.tree.structure(args) != jax.tree.structure(tangents):
        raise TypeError(
            f"tangents must have the structure of args: given {jax.tree.structure(tangents)}, "
            f"needed {jax.tree.structure(args)}."
        )
    pairs = zip(jax.tree.leaves(tangents), jax.tree.leaves(args), strict=True)
    return [jnp.asarray(t, jnp.asarray(leaf).dtype) for t, leaf in pairs if is_inexact(leaf)]


def _has_dtype(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)


class _ComplexPair(NamedTuple):
    real: Any
    imag: Any


def has_complex(a: Tree) -> bool:
    """Return whether any leaf is complex."""
    return any(jnp.iscomplexobj(x) for x in jax.tree.leaves(a))


def to_real(a: Tree) -> Tree:
    """Replace each complex leaf by a pair of real ones; :func:`from_real` undoes it."""
    return jax.tree.map(lambda x: _ComplexPair(jnp.real(x), jnp.imag(x)) if jnp.iscomplexobj(x) else x, a)


def from_real(a: Tree) -> Tree:
    """Put the pairs made by :func:`to_real` together again."""
    return jax.tree.map(
        lambda x: jax.lax.complex(x.real, x.imag) if isinstance(x, _ComplexPair) else x,
        a,
        is_leaf=lambda x: isinstance(x, _ComplexPair),
    )


def describe(a: Tree) -> str:
    """Return the structure of a tree with shapes and dtypes, for messages."""

    def one(x: Any) -> str:
        return f"{jnp.result_type(x).name}{list(jnp.shape(x))}" if _has_dtype(x) else repr(x)

    return str(jax.tree.map(one, a)).replace("'", "")


def require_same(what: str, given: Tree, needed: Tree, needed_name: str) -> None:
    """Raise a ``TypeError`` unless two trees agree in structure, shapes and dtypes."""
    same = jax.tree.structure(given) == jax.tree.structure(needed) and all(
        jnp.shape(x) == jnp.shape(y) and jnp.result_type(x) == jnp.result_type(y)
        for x, y in zip(jax.tree.leaves(given), jax.tree.leaves(needed), strict=True)
    )
    if not same:
        raise TypeError(
            f"{what} must have the structure, shapes and dtypes of {needed_name}: "
            f"given {describe(given)}, needed {describe(needed)}."
        )


class hoist:
    """A function with everything that it closes over made explicit.

    Tracing ``fun(*example)`` finds the arrays and tracers that the function closes over, also those hidden in nested
    functions, modules and callable objects; they become ``consts``. Calling the object evaluates
    ``fun`` as a pure function of ``consts`` and its arguments, so that a custom derivative rule can see (and
    differentiate) what a plain Python closure hides. Two such functions are equal if their programs are the same.
    """

    def __init__(self, fun: Callable[..., Any], *example: Any):
        closed, shape = jax.make_jaxpr(fun, return_shape=True)(*example)
        self.consts: list[Any] = list(closed.consts)
        self.shape: Any = shape
        # what it closes over comes first among the inputs: the program outlives the values, and keeps none of them
        bare = closed.jaxpr
        self._jaxpr = bare.replace(constvars=[], invars=[*bare.constvars, *bare.invars], consts=[])
        self._trees = jax.tree.structure(example), jax.tree.structure(shape)
        self._digest: int | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, hoist)
            and hash(self) == hash(other)
            and self._trees == other._trees
            and programs.same(self._jaxpr, other._jaxpr)
        )

    def __hash__(self) -> int:
        if self._digest is None:
            self._digest = programs.digest(self._jaxpr)
        return self._digest

    def without_values(self) -> hoist:
        """Return the function without what it closes over."""
        bare = copy.copy(self)
        bare.consts = []
        return bare

    def calls(self, primitive: str) -> bool:
        """Return whether a primitive whose name begins so is anywhere in the function's program."""
        pending = [self._jaxpr]
        while pending:
            for equation in pending.pop().eqns:
                if equation.primitive.name.startswith(primitive):
                    return True
                pending += [part for part in jax.tree.leaves(list(equation.params.values())) if hasattr(part, "eqns")]
        return False

    def __call__(self, consts: list[Any], *args: Any) -> Any:
        """Evaluate the function with its hoisted values given."""
        outputs = jax.core.eval_jaxpr(self._jaxpr, (), *consts, *jax.tree.leaves(args))
        # a constant output is a literal of the program, no array
        return jax.tree.unflatten(self._trees[1], [jnp.asarray(output) for output in outputs])
