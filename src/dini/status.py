"""How a solve ended, and how a failure is made known.

A :class:`Status` is data: it travels through ``jit`` and ``vmap`` as one integer a lane. A failure that matters is
turned into an exception (outside ``vmap``), a NaN (in its own lane only), a warning or nothing, as the caller asks with
``on_failure``.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_batching import custom_vmap

from . import reports
from .explanations import ends
from .reports import KEEP

OnFailure = Literal["raise", "warn", "nan", "ignore"]


class Status(enum.IntEnum):
    """The end of a solve; ``CONVERGED`` (zero) is the only success."""

    CONVERGED = 0
    RUNNING = 1
    MAX_STEPS = 2
    STALLED = 3
    NONFINITE = 4
    SINGULAR = 5
    CONDITION = 6
    DIVERGED = 7
    STEP_TOO_SMALL = 8
    TIME_LIMIT = 9
    NO_BRACKET = 10
    DISCONTINUOUS = 11
    STOPPED = 12
    PRIMAL_INFEASIBLE = 13
    DUAL_INFEASIBLE = 14
    NOT_CONVEX = 15
    LOCALLY_INFEASIBLE = 16
    NO_MINIMUM = 17

    @property
    def explanation(self) -> str:
        """What was seen, and the remedy."""
        return ends.OF_SOLVES[self.name]


class SolveError(RuntimeError):
    """A solve failed. ``status`` holds the :class:`Status`."""

    def __init__(self, message: str, status: Status | None = None):
        super().__init__(message)
        self.status = status


reports.quiet(SolveError)


class DerivativeError(SolveError):
    """The derivative of a solution could not be computed to its tolerance."""


class SolveWarning(UserWarning):
    """Issued instead of a :class:`SolveError` when ``on_failure="warn"``."""


def check_on_failure(value: str) -> None:
    """Raise unless ``value`` names a policy."""
    if value not in get_args(OnFailure):
        raise ValueError(f"on_failure must be one of {get_args(OnFailure)}: given {value!r}.")


def _factor(
    failed: jax.Array, report: Callable[..., Exception], policy: OnFailure, mark: bool, figures: tuple[Any, ...]
) -> jax.Array:
    """Return one, after an exception or a warning on the host where ``failed`` holds at run time.

    Under ``vmap`` nothing is raised: with ``mark``, the factor is NaN in the failed lanes. The factor comes out
    of the callback, so that the callback lives as long as the value that it multiplies.
    """

    def on_host(*values: Any) -> np.ndarray:
        error = report(*[np.asarray(value) for value in values])
        if policy == "raise":
            raise reports.first_of_all(error)
        if policy == KEEP:  # a program that never reads it has the value NaN
            reports.keep(error)
            return np.full((), np.nan, np.float32)
        warnings.warn(str(error), SolveWarning, stacklevel=2)
        return np.ones((), np.float32)

    def lanes_on_host(given: Any) -> np.ndarray:
        failed, values = jax.tree.map(np.asarray, given)
        for lane in np.flatnonzero(failed)[:1]:
            on_host(*[value[lane] for value in values])
        return np.where(failed, np.nan, 1).astype(np.float32)

    @custom_vmap
    def tell(failed: jax.Array, figures: tuple[Any, ...]) -> jax.Array:
        factor = jax.ShapeDtypeStruct((), np.float32)
        return jax.lax.cond(
            failed, lambda f: jax.pure_callback(on_host, factor, *f), lambda _: jnp.ones((), np.float32), figures
        )

    @tell.def_vmap
    def _(axis_size: int, batched: Any, failed: jax.Array, figures: tuple[Any, ...]) -> tuple[jax.Array, bool]:
        every = lambda value, known: value if known else jnp.broadcast_to(value, (axis_size, *jnp.shape(value)))
        failed, figures = jax.tree.map(every, (failed, figures), tuple(batched))
        if policy != KEEP:
            return jnp.where(failed & mark, jnp.nan, 1.0).astype(np.float32), True
        # the solve itself is in no batch: a Jacobian is made of several cotangents at once
        factors = jax.ShapeDtypeStruct((axis_size,), np.float32)
        ask = lambda given: jax.pure_callback(lanes_on_host, factors, given, vmap_method="sequential")
        return jax.lax.cond(jnp.any(failed), ask, lambda _: jnp.ones(axis_size, np.float32), (failed, figures)), True

    # a failure report is a constant of differentiation
    return tell(*jax.lax.stop_gradient((failed, figures)))


#: one program for all reports that are equal, so that a program with a guard in it can be recognised
_known_factor = jax.jit(_factor, static_argnums=(1, 2, 3))


class Report:
    """Base of reports that are equal if they say the same: frozen dataclasses, called with the figures."""

    def __call__(self, *figures: Any) -> Exception:
        """Return the exception."""
        raise NotImplementedError


def guard(
    value: Any,
    failed: jax.Array,
    report: Callable[..., Exception],
    figures: tuple[Any, ...],
    on_failure: OnFailure,
    *,
    mark: bool = True,
) -> Any:
    """Return ``value``; where ``failed`` holds, apply the policy.

    ``raise``: an exception outside ``vmap``, NaN in the failed lanes inside (unless ``mark`` is false). ``warn``: a
    warning outside ``vmap``, the value as it is. ``nan``: NaN in the failed lanes. ``ignore``: the value as it is.
    ``report(*figures)`` builds the exception on the host. The function is linear in ``value``, so that it can be
    transposed.
    """
    if on_failure == "ignore":
        return value
    if on_failure != "nan" and not isinstance(failed, Tracer):  # known by now
        if bool(failed):
            error = report(*map(np.asarray, figures))
            if on_failure != "warn":
                raise error
            warnings.warn(str(error), SolveWarning, stacklevel=2)
        return value
    if on_failure == "nan":
        factor = jnp.where(jax.lax.stop_gradient(failed), jnp.nan, 1.0)
    else:
        factor_of = _known_factor if isinstance(report, Report) else _factor
        factor = factor_of(failed, report, on_failure, mark and on_failure != "warn", figures)
    return jax.tree.map(lambda x: x * factor.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x, value)
