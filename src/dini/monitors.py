"""Watching a solve from outside: callbacks, a progress bar, per-step records. All work under ``jit``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .checks.records import record
from .functions import function_name
from .trees import Tree


def _scalars(state: Any) -> dict[str, Any]:
    """Return the scalar floating-point fields of a solver's state."""
    return {
        name: value
        for name, value in state._asdict().items()
        if isinstance(value, jax.Array) and value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.floating)
    }


class Monitor:
    """Base of the monitors."""

    @property
    def stops(self) -> bool:
        """Whether it may stop a solve."""
        return False

    def start(self, state: Any) -> Any:
        """Return the empty history."""
        del state

    def observe(self, history: Any, steps: jax.Array, x: Tree, state: Any) -> Any:
        """See one step and return the history; of a batch's lane that is done already, ``steps`` is zero."""
        raise NotImplementedError

    def stopped(self, history: Any) -> Any:
        """Return whether the solve is to stop here."""
        del history
        return False

    def kept(self, history: Any) -> Any:
        """Return what goes into ``solution.history``."""
        return history


@record
class Callback(Monitor):
    """Call ``fun(info)`` on the host every ``every`` steps.

    ``info`` is a dictionary with ``steps``, ``x`` and the scalar fields of the solver's state, such as ``error``, as
    NumPy arrays. The function must not call JAX: the program that waits for it may hold the thread that JAX needs.
    Of a batch, it is called for each lane. In the reverse mode of ``Unrolled``, it may see twice what is computed
    twice.

    To stop the solve, the function raises ``StopIteration``, as in SciPy. (What it returns says nothing.) The solution
    is then the point of that step, with the status ``STOPPED`` unless the step met the stopping test. That is no
    failure, and nothing is raised; but such a point need not be a solution, and to differentiate it is one: a
    ``DerivativeError``, or what ``on_failure`` says. Of a batch, the lane stops.

    Examples
    --------
    >>> import dini
    >>> seen = []
    >>> monitor = dini.Callback(lambda info: seen.append(int(info["steps"])))
    >>> solution = dini.root(lambda x: x**2 - 4.0, 1.0, monitor=monitor)
    >>> len(seen) == int(solution.stats.steps)
    True
    >>> def watch(info):
    ...     if info["steps"] == 2:
    ...         raise StopIteration
    >>> solution = dini.root(lambda x: x**2 - 4.0, 1.0, monitor=dini.Callback(watch))
    >>> int(solution.stats.steps), solution.message
    (2, 'A callback stopped the solve before its stopping test.')
    """

    fun: Callable[[dict[str, Any]], Any] = field(metadata={"static": True})
    every: int = field(default=1, metadata={"static": True})

    @property
    def stops(self) -> bool:
        """Whether it may stop a solve."""
        return True

    def start(self, state: Any) -> Any:
        """Return that no stop was requested."""
        del state
        return jnp.zeros((), bool)

    def observe(self, history: Any, steps: jax.Array, x: Tree, state: Any) -> Any:
        """Call the function when it is due, and return whether it has said stop."""
        info = jax.lax.stop_gradient({"steps": steps, "x": x, **_scalars(state)})

        def ask(info: dict[str, Any]) -> Any:
            # the answer is used, so that the call is never left out
            return jax.pure_callback(self._call, jax.ShapeDtypeStruct((), bool), info, vmap_method="sequential")

        if self.every == 1:
            return history | ask(info)
        return history | jax.lax.cond(steps % self.every == 0, ask, lambda _: jnp.zeros((), bool), info)

    def stopped(self, history: Any) -> Any:
        """Return whether the function has said stop."""
        return history

    def kept(self, history: Any) -> Any:
        """Return nothing: what the function has seen is its own."""
        del history

    def _call(self, info: dict[str, Any]) -> np.ndarray:
        # within a batch every branch is taken, and a lane that is done comes with the step zero
        if info["steps"] > 0 and info["steps"] % self.every == 0:
            try:
                self.fun(jax.tree.map(np.asarray, info))
            except StopIteration:
                return np.ones((), bool)
        return np.zeros((), bool)


def _draw(info: dict[str, Any]) -> None:
    sys.stderr.write(f"\rstep {int(info['steps'])}  error {float(info['error']):.3e} ")
    sys.stderr.flush()


class ProgressBar(Callback):
    """Show the step and the optimality error on one line of standard error, every ``every`` steps."""

    def __init__(self, every: int = 10):
        super().__init__(_draw, every)


jax.tree_util.register_pytree_node(ProgressBar, lambda bar: ((), bar.every), lambda every, _: ProgressBar(every))


@record
class Record(Monitor):
    """Keep the scalar fields of the solver's state of the first ``size`` steps in ``solution.history``.

    The history is a dictionary of arrays of length ``size``; entries of steps that were not taken are NaN.

    Examples
    --------
    >>> import dini
    >>> solution = dini.root(lambda x: x**2 - 4.0, 1.0, monitor=dini.Record(20))
    >>> float(solution.history["error"][0])
    3.0
    """

    size: int = field(metadata={"static": True})

    def start(self, state: Any) -> Any:
        """Return arrays of NaN."""
        return {name: jnp.full(self.size, jnp.nan, value.dtype) for name, value in _scalars(state).items()}

    def observe(self, history: Any, steps: jax.Array, x: Tree, state: Any) -> Any:
        """Write one entry."""
        del x
        return {name: history[name].at[steps - 1].set(value, mode="drop") for name, value in _scalars(state).items()}


@record
class Monitors(Monitor):
    """Several monitors at once; the history is a tuple with the history of each."""

    monitors: tuple[Monitor, ...]

    @property
    def stops(self) -> bool:
        """Whether one of them may stop a solve."""
        return any(monitor.stops for monitor in self.monitors)

    def start(self, state: Any) -> Any:
        """Return the empty histories."""
        return tuple(monitor.start(state) for monitor in self.monitors)

    def observe(self, history: Any, steps: jax.Array, x: Tree, state: Any) -> Any:
        """Let every monitor see the step."""
        return tuple(m.observe(h, steps, x, state) for m, h in zip(self.monitors, history, strict=True))

    def stopped(self, history: Any) -> Any:
        """Return whether one of them has said stop."""
        said = [m.stopped(h) for m, h in zip(self.monitors, history, strict=True) if m.stops]
        return functools.reduce(jnp.logical_or, said)

    def kept(self, history: Any) -> Any:
        """Return the histories that each one keeps."""
        return tuple(m.kept(h) for m, h in zip(self.monitors, history, strict=True))


def check_monitor(monitor: Any) -> None:
    """Raise unless a monitor is one, or ``None``."""
    if monitor is None or isinstance(monitor, Monitor):
        return
    from .explanations import parts

    of_the_class = isinstance(monitor, type) and issubclass(monitor, Monitor)
    what = parts.no_monitor(monitor, function_name(monitor), of_the_class=of_the_class)
    raise TypeError(f"monitor must be a Callback, ProgressBar, Record or Monitors: {what}")
