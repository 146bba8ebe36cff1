r"""The method: a costly gradient of the targets, then many cheap inner steps on the surrogate that it makes.

.. math:: G \leftarrow \nabla \ell_S(z(\theta_t)), \qquad
          \theta_{t+1} \leftarrow m \text{ inner steps on } q_t \text{ from } \theta_t .

With one step of gradient descent it is stochastic gradient descent; with many, projected stochastic gradient descent in
the space of the targets that the model can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .checks import Targets, known, losses, require_like, require_positive
from .inner import Armijo, Inner, as_solver, begin, carries, minimize_surrogate, stated
from .stepsizes import TargetSearch
from .surrogate import as_metric, target_surrogate

_ARMIJO = Armijo()


class State(NamedTuple):
    """Carried from batch to batch."""

    count: Array
    """Batches so far, which is how often the costly gradient was asked for."""
    evaluations: Array
    """Evaluations of the model in inner steps so far."""
    eta: Array
    """The last step size in target space."""
    inner: Any
    """The inner solver's state, if it goes on from batch to batch."""
    metric: Any
    """What the metric remembers."""


class Info(NamedTuple):
    """What happened on a batch."""

    eta: Array
    """The step size in target space."""
    inner: Inner
    searched: Array
    """Whether the search for the step size found one; true without a search."""
    finite: Array
    """Whether the gradients and the new parameters were finite. If not, the parameters were left as they were."""


def per_example(loss: Callable[[Targets, Any], Array]) -> Callable[[Targets, Any], Targets]:
    """The gradients of a loss that returns one number for each example.

    Raises `ValueError` where it returns anything else, such as their mean.
    """
    return jax.grad(lambda z, batch: jnp.sum(losses(loss, z, batch)))


class SSO(eqx.Module):
    r"""Surrogates in target space as an optimizer: `init`, `update`, and `run` for a stream of batches.

    Parameters
    ----------
    predict
        The model, :math:`(\theta, \text{batch}) \mapsto z`; see `target_surrogate`.
    gradient
        The costly part, :math:`(z, \text{batch}) \mapsto G`: each example's own gradient, not divided by their number.
        It is called once a batch. Any function will do: a simulator behind a callback, an implicit derivative of a
        solve, or `per_example` of a loss.
    eta
        The step size in target space: a number, a schedule (a function of the number of batches so far, such as those
        of optax), or a `TargetSearch`.
    steps
        :math:`m`, the number of inner steps.
    inner
        What takes them: `Armijo`, a solver of dini with its line search, or an optimizer of optax. A solver's own limit
        on steps does not count, nor do its looks and trials before the parameters first move; see `minimize_surrogate`.
    metric
        As for `target_surrogate`, or `NewtonDiagonal`, or `AdaGrad`.
    loss
        The losses of given targets, :math:`(z, \text{batch}) \mapsto` one number for each example; only a
        `TargetSearch` needs it.
    tol
        Inner steps end where the inner solver's error was at most this.
    carry
        Whether the inner solver's state goes on from batch to batch: for optimizers of optax, whose averages may then
        outlive a surrogate, and for dini's solvers of streams.
    proximal
        Takes a batch to the data that the metric covers; see `target_surrogate`.

    Raises
    ------
    ValueError
        Where a setting is out of its range, a `TargetSearch` comes without a loss, gradients have other shapes than
        targets, or are not finite while that can be seen.
    TypeError
        Where the inner solver is none, or cannot be carried on.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, dini
    >>> predict = lambda w, batch: batch[0] @ w
    >>> loss = lambda z, batch: 0.5 * (z - batch[1]) ** 2
    >>> x = jnp.arange(8.0).reshape(4, 2) ** 0.5
    >>> batch = x, x @ jnp.array([1.0, -2.0])
    >>> for inner in (Armijo(), dini.LBFGS(), dini.LevenbergMarquardt(), optax.adam(0.1)):
    ...     sso = SSO(predict, per_example(loss), eta=1.0, steps=200, inner=inner)
    ...     w, state, info = sso.run(jnp.zeros(2), [batch] * 3)
    ...     print(w.round(2), int(state.count))
    [ 1. -2.] 3
    [ 1. -2.] 3
    [ 1. -2.] 3
    [ 1. -2.] 3
    """

    predict: Callable[[Any, Any], Targets]
    gradient: Callable[[Targets, Any], Targets]
    eta: Any
    steps: Any = 10
    inner: Any = _ARMIJO
    metric: Any = "euclidean"
    loss: Callable[[Targets, Any], Array] | None = None
    tol: float = 1e-6
    carry: bool = eqx.field(default=False, static=True)
    proximal: Callable[[Any], Any] | None = None

    def __check_init__(self) -> None:
        if known(self.steps) and not (self.steps >= 1 and self.steps == int(self.steps)):
            raise ValueError(f"steps must be a whole number of at least 1: given {self.steps}.")
        if not callable(self.eta) and not isinstance(self.eta, TargetSearch):
            require_positive("eta", self.eta, scalar=True)
        if isinstance(self.eta, TargetSearch) and self.loss is None:
            raise ValueError("A TargetSearch needs the loss of given targets: give SSO(loss=...).")
        if known(self.tol) and not self.tol >= 0:
            raise ValueError(f"tol must not be negative: given {self.tol}.")
        solver = as_solver(self.inner)
        if self.carry and not carries(solver):
            raise TypeError(
                f"The state of {solver.name} belongs to one surrogate and cannot be carried to the next: give "
                "carry=False, or an optimizer of optax."
            )
        if not self._adapts:
            as_metric(self.metric)

    @property
    def _adapts(self) -> bool:
        return hasattr(self.metric, "update")

    def init(self, params: Any, batch: Any) -> State:
        """The state before the first batch, of which only the shapes count.

        `params` may hold what is not an array, as an Equinox module with its activation does.
        """
        shapes = eqx.filter_eval_shape(self.predict, params, batch)
        z = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        none, dtype = jnp.zeros((), jnp.int32), jnp.result_type(*jax.tree.leaves(z))
        searched = isinstance(self.eta, TargetSearch)
        eta = self.eta.first / self.eta.expand if searched else self._scheduled(none)
        inner = None
        if self.carry:
            dynamic, static = eqx.partition(params, eqx.is_inexact_array)
            surrogate = self._surrogate(static, params, batch, z, z, 1.0, "euclidean")
            inner = begin(self.inner, stated(surrogate, as_solver(self.inner)), dynamic)
        return State(none, none, jnp.asarray(eta, dtype), inner, self.metric.init(z) if self._adapts else None)

    def update(self, params: Any, state: State, batch: Any, index: Any = None) -> tuple[Any, State, Info]:
        """One costly gradient, and the inner steps on the surrogate that it makes.

        `index` says which examples of the whole data the batch has, for an `AdaGrad` that remembers each.
        """
        z = jax.lax.stop_gradient(self.predict(params, batch))
        gradients = jax.lax.stop_gradient(self.gradient(z, batch))
        require_like(gradients, z)
        eta, searched, last = self._step_size(state, z, gradients, batch)
        metric, remembered = self.metric, None
        if self._adapts:
            metric, remembered = self.metric.update(state.metric, z, gradients, batch, index)
        dynamic, static = eqx.partition(params, eqx.is_inexact_array)
        surrogate = self._surrogate(static, params, batch, gradients, z, eta, metric)
        begun = None
        if state.inner is not None:
            # how far the last surrogate was from its minimum is not informative about this one
            begun = state.inner._replace(error=jnp.full_like(state.inner.error, jnp.inf))
        new, inner, done = minimize_surrogate(surrogate, dynamic, self.inner, self.steps, tol=self.tol, state=begun)
        finite = _finite((gradients, new))
        kept = lambda one, other: jax.tree.map(lambda u, v: jnp.where(finite, u, v), one, other)
        after = State(
            state.count + 1,
            state.evaluations + done.evaluations,
            kept(last, state.eta),
            kept(inner, state.inner) if self.carry else None,
            kept(remembered, state.metric),
        )
        return eqx.combine(kept(new, dynamic), static), after, Info(eta, done, searched, finite)

    def run(self, params: Any, batches: Iterable[Any]) -> tuple[Any, State, Info]:
        """One update for each of some batches, whose shapes are the same; what happened is stacked.

        Raises
        ------
        ValueError
            Where there is no batch.
        FloatingPointError
            Where gradients or parameters are no longer finite.
        """
        state, infos = None, []
        for batch in batches:
            state = self.init(params, batch) if state is None else state
            params, state, info = _update(self, params, state, batch)
            if not info.finite:
                raise FloatingPointError(
                    f"The gradients of the targets or the new parameters are not finite at batch {len(infos)}."
                )
            infos.append(info)
        if state is None:
            raise ValueError("run needs at least one batch: given none.")
        return params, state, jax.tree.map(lambda *parts: jnp.stack(parts), *infos)

    def _scheduled(self, count: Any) -> Any:
        return self.eta(count) if callable(self.eta) else self.eta

    def _step_size(self, state: State, z: Targets, gradients: Targets, batch: Any) -> tuple[Array, Array, Array]:
        """The step size, whether it was found, and from what the next search begins."""
        if not isinstance(self.eta, TargetSearch):
            eta = jnp.asarray(self._scheduled(state.count), state.eta.dtype)
            return eta, jnp.asarray(True), eta
        assert self.loss is not None
        whole = lambda z: jnp.sum(losses(self.loss, z, batch))  # pyright: ignore[reportArgumentType]
        found = self.eta.search(whole, z, gradients, state.eta)
        eta = found.eta.astype(state.eta.dtype)
        return eta, found.found, jnp.where(found.found, eta, state.eta)

    def _surrogate(
        self, static: Any, params: Any, batch: Any, gradients: Targets, z: Targets, eta: Any, metric: Any
    ) -> Any:
        """The surrogate as a function of those parameters that are inexact arrays."""
        predict = lambda dynamic, data: self.predict(eqx.combine(dynamic, static), data)
        dynamic = eqx.filter(params, eqx.is_inexact_array)
        proximal = None if self.proximal is None else self.proximal(batch)
        return target_surrogate(
            predict, dynamic, batch, gradients, eta, as_metric(metric), targets=z, proximal=proximal
        )


@eqx.filter_jit
def _update(sso: SSO, params: Any, state: State, batch: Any) -> tuple[Any, State, Info]:
    return sso.update(params, state, batch)


def _finite(tree: Any) -> Array:
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.asarray(True)


def sso_step(
    predict: Callable[[Any, Any], Targets],
    params: Any,
    batch: Any,
    gradient: Callable[[Targets, Any], Targets],
    *,
    eta: Any,
    inner: Any = _ARMIJO,
    steps: Any = 10,
    state: State | None = None,
    **settings: Any,
) -> tuple[Any, State, Info]:
    """One update of `SSO`, for loops of one's own; `settings` are its others.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.eye(2)
    >>> w, state, info = sso_step(lambda w, x: x @ w, jnp.zeros(2), x, lambda z, x: z - 1.0, eta=0.5, steps=100)
    >>> print(w.round(3))
    [0.5 0.5]
    """
    sso = SSO(predict, gradient, eta, steps, inner, **settings)
    return sso.update(params, sso.init(params, batch) if state is None else state, batch)
