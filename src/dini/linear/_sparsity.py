"""Where a Jacobian can be nonzero, read off the program that computes its products.

The products ``w -> A w`` are traced to a jaxpr, and sets of elements of ``w`` are pushed through it, operation by
operation: a sparse matrix of truth values for each intermediate array, with a row for each of its elements. What an
operation does to elements is known exactly for the common ones; every other one is taken to mix all that it reads, so
the result never misses a nonzero. No number is computed, and the pattern holds for all values of the arguments other
than indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ..deferred import is_literal
from ..functions.costs import called, reached, scanned
from ..trees import Tree
from ._pattern import Pattern, scipy_sparse
from ._protocol import Matvec
from ._sparsity_rules import RULES, check_count, size

_SCAN_UNROLLED = 2000  # operations


class Linearized:
    """The derivative of ``fun`` at ``x`` as a linear function, which remembers where it comes from.

    A product is what :func:`jax.linearize` makes. The function itself is kept since its program shows more of the
    sparsity: indices that it computes are known there, while in the linearized program they are data.
    """

    def __init__(self, fun: Callable[[Any], Any], x: Tree):
        self.value, self._product = jax.linearize(fun, x)
        self._fun, self._x = fun, x

    def __call__(self, w: Tree) -> Any:
        """Return the product."""
        return self._product(w)

    def tangent(self, w: Tree) -> Any:
        """Return the product by a program that contains all of the function."""
        return jax.jvp(self._fun, (self._x,), (w,))[1]


def detect(matvec: Matvec, like: Tree) -> Pattern:
    """Return the pattern of a linear map from trees like ``like`` to such trees, or raise :class:`NotSparse`."""
    product = getattr(matvec, "tangent", matvec)
    return _pattern(jax.make_jaxpr(product)(like), 0)


def sparsity(fun: Callable[..., Any], x: Tree, *args: Tree) -> Pattern:
    """Return where the Jacobian of ``fun(x, *args)`` in ``x`` can be nonzero.

    The pattern is a superset of the nonzeros, for all values of ``x`` and ``args``; only integer arguments, which may
    be indices, count with the values that are given. Pass it to a linear solver where detection inside of a compiled
    solve does not see such indices.

    Parameters
    ----------
    fun
        A function of ``x`` and ``args`` with an array or a tree of arrays as value.
    x, args
        Where to trace it: the values of floating-point numbers do not matter.

    Returns
    -------
    Pattern
        Rows count the elements of the value, columns those of ``x``, in the order of ``ravel_pytree``.

    Raises
    ------
    NotSparse
        A ``ValueError``: where the program mixes too many elements.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.linear import sparsity
    >>> sparsity(lambda x: x.at[1:].add(-x[:-1] ** 2), jnp.ones(1000))
    Pattern(1999 nonzeros, shape=(1000, 1000), bandwidth=(1, 0))
    """

    def product(w: Tree, x: Tree, args: Any) -> Any:
        return jax.jvp(lambda u: fun(u, *args), (x,), (w,))[1]

    closed = jax.make_jaxpr(product)(x, x, args)
    values = [leaf if _is_index(leaf) else None for leaf in jax.tree.leaves((x, args))]
    return _pattern(closed, len(values), values)


def varies(fun: Callable[[Any], Any], x: Tree) -> bool:
    """Return whether the derivative of ``fun`` at points like ``x`` can be other than zero.

    It is for a choice between programs while they are traced: no element is looked at, and no number is computed. An
    operation that calls back or loops is taken to pass on all that it reads, so false is certain and true is not.
    """
    jaxpr = jax.make_jaxpr(lambda x, w: jax.jvp(fun, (x,), (w,))[1])(x, x).jaxpr
    half = len(jaxpr.invars) // 2
    return any(reached(jaxpr, [False] * half + [True] * half))


def _is_index(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", np.dtype(type(leaf)))
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.bool_))


def _pattern(closed: Any, extra: int, values: Any = ()) -> Pattern:
    sparse = scipy_sparse()
    jaxpr = closed.jaxpr
    inputs = jaxpr.invars[: len(jaxpr.invars) - extra]
    sizes = [size(v) for v in inputs]
    total = sum(sizes)
    identity = sparse.identity(total, bool, "csr")
    ends = np.cumsum(sizes)
    deps = [identity[end - n : end] for n, end in zip(sizes, ends, strict=True)]
    known = [*(_known(c) for c in closed.consts), *[None] * len(inputs), *(_known(v) for v in values)]
    out = _Scope(jaxpr, [*[None] * len(jaxpr.constvars), *deps, *[None] * extra], known).run()
    rows = [size(v) for v in jaxpr.outvars]
    parts = [sparse.csr_matrix((n, total), dtype=bool) if m is None else m for m, n in zip(out, rows, strict=True)]
    if not parts:
        return Pattern([], [], (0, total))
    stacked = sparse.vstack(parts).tocoo()
    return Pattern(stacked.row, stacked.col, stacked.shape)


def _known(value: Any) -> Any:
    return None if value is None or isinstance(value, jax.core.Tracer) else value


class _Scope:
    """One jaxpr: the dependencies of its variables, and the values of those that no data enters."""

    def __init__(self, jaxpr: Any, deps: list[Any], values: list[Any]):
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        self.jaxpr = jaxpr
        self.deps = dict(zip(inputs, deps, strict=True))
        self.values = dict(zip(inputs, values, strict=True))
        self.producers = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}

    def run(self) -> list[Any]:
        for eqn in self.jaxpr.eqns:
            inputs = [self.dep(atom) for atom in eqn.invars]
            if all(m is None for m in inputs):
                continue
            outputs = self.through(eqn, inputs)
            for var, m in zip(eqn.outvars, outputs, strict=True):
                # integers do not vary
                if m is not None and m.nnz and jnp.issubdtype(var.aval.dtype, jnp.inexact):
                    check_count(m.nnz, m.shape[1])
                    self.deps[var] = m
        return [self.dep(atom) for atom in self.jaxpr.outvars]

    def dep(self, atom: Any) -> Any:
        return None if is_literal(atom) else self.deps.get(atom)

    def value(self, atom: Any) -> Any:
        """Return the value of a variable that is computed from constants, or ``None``."""
        if is_literal(atom):
            return atom.val
        if atom not in self.values:
            self.values[atom] = None
            eqn = self.producers[atom]
            given = [self.value(v) for v in eqn.invars]
            if all(v is not None for v in given):
                inner = called(eqn)
                with jax.ensure_compile_time_eval():
                    if inner is not None:
                        out = jax.core.eval_jaxpr(*inner, *given)
                    elif eqn.primitive.multiple_results:
                        return None
                    else:
                        out = [eqn.primitive.bind(*map(jax.numpy.asarray, given), **eqn.params)]
                self.values.update(zip(eqn.outvars, out, strict=True))
        return self.values[atom]

    def through(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """Return the dependencies of an equation's outputs."""
        name = eqn.primitive.name
        inner = called(eqn)
        if inner is not None:
            jaxpr, consts = inner
            values = [*map(_known, consts), *(self.value(v) for v in eqn.invars)]
            return _Scope(jaxpr, [*[None] * len(consts), *inputs], values).run()
        if name in _CONTROL:
            return _CONTROL[name](self, eqn, inputs)
        rule = RULES.get(name)
        terms = None if rule is None else rule(self.value, eqn, inputs)
        if terms is None:
            return self.mixed(eqn, inputs)
        return [_total(t) for t in terms]

    def mixed(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """Return the dependencies of outputs each element of which may depend on all inputs."""
        return [_spread(inputs, size(v)) for v in eqn.outvars]


def _total(terms: list[Any]) -> Any:
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total


def _spread(inputs: list[Any], rows: int) -> Any:
    sparse = scipy_sparse()
    columns = np.unique(np.concatenate([m.indices for m in inputs if m is not None]))
    width = next(m.shape[1] for m in inputs if m is not None)
    check_count(columns.size * rows, width)
    starts = np.arange(rows + 1) * columns.size
    return sparse.csr_matrix((np.ones(rows * columns.size, bool), np.tile(columns, rows), starts), (rows, width))


def _scan(scope: _Scope, eqn: Any, inputs: list[Any]) -> list[Any]:
    sparse = scipy_sparse()
    p = eqn.params
    body, length = p["jaxpr"], p["length"]
    consts, carry = scanned(eqn)
    states = inputs[consts : consts + carry]
    sequences = inputs[consts + carry :]
    if length * max(len(body.jaxpr.eqns), 1) > _SCAN_UNROLLED:
        # a fixed point: each element may depend on all that any step lets in
        mixed = [m for m in inputs if m is not None]
        return [_spread(mixed, size(v)) for v in eqn.outvars]
    outer = [scope.value(v) for v in eqn.invars]
    fixed, counters = [*map(_known, body.consts), *outer[:consts]], outer[consts : consts + carry]
    steps: list[list[Any]] = [[None] * length for _ in eqn.outvars[carry:]]
    for i in reversed(range(length)) if p["reverse"] else range(length):
        slices, known = [], []
        for m, v, atom in zip(sequences, outer[consts + carry :], eqn.invars[consts + carry :], strict=True):
            n = size(atom) // length
            slices.append(None if m is None else m[i * n : (i + 1) * n])
            known.append(None if v is None else v[i])
        deps = [*[None] * len(body.consts), *inputs[:consts], *states, *slices]
        inner = _Scope(body.jaxpr, deps, [*fixed, *counters, *known])
        out = inner.run()
        states = out[:carry]
        # a loop counter that starts at a known value is known, and so are the indices that it makes
        counters = [
            inner.value(v) if before is not None and jnp.issubdtype(v.aval.dtype, jnp.integer) else None
            for v, before in zip(body.jaxpr.outvars[:carry], counters, strict=True)
        ]
        for row, m in zip(steps, out[carry:], strict=True):
            row[i] = m
    width = next(m.shape[1] for m in inputs if m is not None)

    def stack(parts: list[Any], atom: Any) -> Any:
        n = size(atom) // max(length, 1)
        if all(m is None for m in parts):
            return None
        return sparse.vstack([sparse.csr_matrix((n, width), dtype=bool) if m is None else m for m in parts], "csr")

    return [*states, *(stack(parts, v) for parts, v in zip(steps, eqn.outvars[carry:], strict=True))]


def _while(scope: _Scope, eqn: Any, inputs: list[Any]) -> list[Any]:
    body, n = eqn.params["body_jaxpr"], eqn.params["body_nconsts"]
    rest = inputs[eqn.params["cond_nconsts"] :]
    consts, states = rest[:n], rest[n:]
    unknown = [None] * (len(body.consts) + len(rest))
    while True:
        # what a state may depend on only grows, up to a fixed point
        deps = [*[None] * len(body.consts), *consts, *states]
        out = _Scope(body.jaxpr, deps, unknown).run()
        grown = [_total([m for m in pair if m is not None]) for pair in zip(states, out, strict=True)]
        if _count(grown) == _count(states):
            return grown
        states = grown


def _count(matrices: list[Any]) -> int:
    return sum(m.nnz for m in matrices if m is not None)


def _cond(scope: _Scope, eqn: Any, inputs: list[Any]) -> list[Any]:
    values = [scope.value(v) for v in eqn.invars[1:]]

    def outputs() -> Iterator[list[Any]]:
        for branch in eqn.params["branches"]:
            deps = [*[None] * len(branch.consts), *inputs[1:]]
            yield _Scope(branch.jaxpr, deps, [*map(_known, branch.consts), *values]).run()

    return [_total([m for m in some if m is not None]) for some in zip(*outputs(), strict=True)]


_CONTROL: dict[str, Callable[[_Scope, Any, list[Any]], list[Any]]] = {"scan": _scan, "while": _while, "cond": _cond}
