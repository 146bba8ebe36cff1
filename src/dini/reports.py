"""Failures that a program reports while it runs, raised where Python can catch them.

A compiled program can tell that a linear system was not solved, but not raise: an exception in a callback arrives as
JAX's own, with its traceback inside of the text. Where Python comes past afterwards, the failure is kept until then. It
does after a call whose result is looked at, and in a derivative outside of ``jit``, too: JAX evaluates the steps of
that one by one, in both directions, and what :func:`reviewed` has marked is such a step. The cotangents of what a solve
was given come past after its linear systems were solved.

Failures are kept for the whole process: of two threads that both differentiate solves that fail, one may get the
failure of the other.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any

import jax
import jax.core
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching, mlir

from .functions.traces import untraced
from .trees import Tree

#: the policy ``raise`` where Python comes past after the program
KEEP: Any = "keep"

_kept: list[Exception] = []
#: the last failures that were raised in callbacks: JAX raises another exception, which holds their text
_raised: deque[Exception] = deque(maxlen=8)
_lock = threading.Lock()


def keep(failure: Exception) -> None:
    """Keep a failure until it is read."""
    with _lock:
        _kept.append(failure)


def forget() -> None:
    """Drop failures of programs that were not read."""
    with _lock:
        _kept.clear()


def _take_kept() -> Exception | None:
    with _lock:
        failure = _kept[0] if _kept else None
        _kept.clear()
    return failure


def _compiled_program() -> Generator[None]:
    yield


_uncalled: Any = _compiled_program()


def first_of_all(failure: Exception) -> Exception:
    """Return an exception to be raised in a callback, whose message comes first in the text of JAX's.

    That text names all callers of the traceback's last frame before the message. Those of a callback are JAX's own and
    are not informative, so the traceback is made to end in a frame without callers.
    """
    frame = _uncalled.gi_frame
    with _lock:
        _raised.append(failure)
    return failure.with_traceback(TracebackType(None, frame, max(frame.f_lasti, 0), frame.f_lineno))


@contextmanager
def as_themselves() -> Generator[None]:
    """Raise failures of programs that run within as what they are, in place of JAX's exceptions about them."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        text = str(error)
        with _lock:
            failure = next((failure for failure in reversed(_raised) if str(failure) in text), None)
            _raised.clear()
        if failure is None:
            raise
        raise failure.with_traceback(None) from None


def by_python() -> bool:
    """Return whether what is traced, if anything is, is evaluated step by step, by Python, and not compiled first."""
    return untraced() or not isinstance(jnp.zeros(()), jax.core.Tracer)


def policy(on_failure: Any, *given: Any) -> Any:
    """Return :data:`KEEP` in place of ``raise`` where Python comes past after a program with these operands.

    Under a ``vmap`` of the user's own a failure is a mark in its lane, and nothing is raised.
    """
    if on_failure != "raise" or not by_python():
        return on_failure
    traced = [leaf for leaf in jax.tree.leaves(given) if isinstance(leaf, jax.core.Tracer)]
    # without its tangent, a value that is only differentiated is known
    lanes = any(isinstance(without_tangent(leaf), jax.core.Tracer) for leaf in traced)
    return on_failure if lanes else KEEP


def without_tangent(x: Tree) -> Any:
    """Return a value as a constant of differentiation; it is known where nothing but a derivative is traced."""
    while isinstance(x, jax.core.Tracer) and hasattr(x, "primal"):
        x = x.primal
    # what JAX would take a millisecond for, if its tracers did not show their values
    return jax.lax.stop_gradient(x) if isinstance(x, jax.core.Tracer) else x


def reviewed(tree: Tree) -> Any:
    """Return a tree as it is; where its values come past, and in a derivative theirs, failures so far are raised."""
    leaves, treedef = jax.tree.flatten(tree)
    if untraced():
        return jax.tree.unflatten(treedef, _look(*leaves))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.core.Tracer)]
    for i, leaf in zip(places, _mark().bind(*[leaves[i] for i in places]), strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(treedef, leaves)


def _look(*values: Any) -> list[Any]:
    jax.block_until_ready(values)
    failure = _take_kept()
    if failure is not None:
        raise failure
    return list(values)


def _in_a_program(*values: jax.Array) -> list[jax.Array]:
    """Look from within a program, of which a derivative may become a part after all."""
    places = [i for i, x in enumerate(values) if jnp.issubdtype(x.dtype, jnp.inexact)]
    out = list(values)
    if not places:
        return out

    def look(_: Any) -> np.ndarray:
        failure = _take_kept()
        if failure is not None:
            raise first_of_all(failure)
        return np.ones((), np.float32)

    some = [jnp.ravel(out[i])[:1] for i in places]
    one = jax.pure_callback(look, jax.ShapeDtypeStruct((), np.float32), some, vmap_method="sequential")
    for i in places:
        out[i] = out[i] * one.astype(out[i].dtype)
    return out


def _where_nonzero(tangents: Tree) -> list[Any]:
    """Look at the tangents, or cotangents, that are not zero by structure."""
    out = list(tangents)
    places = [i for i, t in enumerate(out) if not isinstance(t, ad.Zero)]
    for i, t in zip(places, _mark().bind(*[out[i] for i in places]) if places else [], strict=True):
        out[i] = t
    return out


@cache
def _mark() -> Any:
    """Return the primitive behind :func:`reviewed`, the identity."""
    mark = jax.extend.core.Primitive("reviewed")
    mark.multiple_results = True
    mark.def_impl(_look)
    mark.def_abstract_eval(lambda *avals: list(avals))
    ad.primitive_jvps[mark] = lambda primals, tangents: (mark.bind(*primals), _where_nonzero(tangents))
    ad.primitive_transposes[mark] = lambda cotangents, *_: _where_nonzero(cotangents)
    batching.primitive_batchers[mark] = lambda args, dims: (mark.bind(*args), list(dims))
    mlir.register_lowering(mark, mlir.lower_fun(_in_a_program, multiple_results=True))
    return mark


class _Own(logging.Filter):
    """Keep JAX from printing the traceback of an exception that the caller gets anyway."""

    def __init__(self, kind: type[Exception]) -> None:
        super().__init__()
        self.kind = kind

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], self.kind))


def quiet(kind: type[Exception]) -> None:
    """Let exceptions of a kind, raised in a callback, pass without a printed traceback."""
    logging.getLogger("jax._src.callback").addFilter(_Own(kind))
