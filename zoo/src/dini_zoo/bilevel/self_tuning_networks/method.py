r"""Two alternating steps: weights for hyperparameters near the present ones, and hyperparameters for these weights.

With a model that is a function of the hyperparameters, :math:`\hat w_\phi(\lambda)`, of the training loss with
regularization :math:`f` and the validation loss without it :math:`F`, in place of the bilevel problem

.. math:: \min_\lambda F(w^\star(\lambda)), \qquad w^\star(\lambda) = \arg\min_w f(\lambda, w),

.. math:: \min_\phi \; E_\epsilon f(\lambda + \epsilon, \hat w_\phi(\lambda + \epsilon)), \qquad
          \min_{\lambda, \sigma} \; E_\epsilon F(\hat w_\phi(\lambda + \epsilon)) - \tau \, \text{Ent}(\sigma) .

The second derivative passes through the model alone, and none of the training loss in :math:`\lambda` is taken: rates
of random masks and whole numbers may be tuned.

References
----------
M. MacKay, P. Vicol, J. Lorraine, D. Duvenaud, R. Grosse, "Self-tuning networks: bilevel optimization of hyperparameters
using structured best-response functions", ICLR 2019 (arXiv 1903.03088).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from dini_zoo.kit.checking import at_least, not_negative

from .space import HyperSpace, HyperState, perturbation_entropy

Tree = Any
type TrainLoss = Callable[[Any, Array, dict[str, Array], Any, Array], Array]
type ValidLoss = Callable[[Any, Array, Any], Array]


class STNState(NamedTuple):
    """Where training is. `model` holds its arrays of floats; :meth:`STN.model` completes it."""

    params: Tree
    hyper: HyperState
    optimizer: Any
    hyper_optimizer: Any
    finite: Bool[Array, ""]
    """Whether losses, weights and hyperparameters were finite so far; from the first that is not, nothing changes any
    more."""


class Course(NamedTuple):
    """A training that has ended."""

    state: STNState
    watched: Any
    """What `watch` returned before the first cycle and after every so many."""
    loss: Float[Array, " cycles"]
    """The training loss of the last step of each cycle."""


@dataclass(frozen=True)
class STN:
    r"""Self-tuning training.

    Parameters
    ----------
    like
        The model, an Equinox module or any tree; what is not an array of floats in it stays as it is.
    train_loss
        `train_loss(model, numbers, hypers, batch, key)`: a number. `numbers`, of shape `(batch, H)`, are for the
        model's layers, and `hypers`, by name and from the same numbers, for the regularization. Drawn apart they would
        teach the model nothing.
    valid_loss
        `valid_loss(model, numbers, batch)`: a number, without dropout, augmentation or penalties.
    space
        The hyperparameters.
    optimizer, hyper_optimizer
        Optax transformations, of the model and of the distribution.
    batch
        How many hyperparameters are drawn in a step, one for each example: as many as a batch of either sample has.
    train_steps, valid_steps
        Steps of each kind in a cycle.
    entropy
        :math:`\tau`. With 0 the distribution shrinks until the model learns nothing of the hyperparameters.
    tune_deviation
        Whether :math:`\sigma` is tuned. If not, hyperparameters are not drawn in the second kind of step.

    Raises
    ------
    ValueError
        For settings out of range; of a step, for a batch none of whose arrays has so many rows.
    """

    like: Any
    train_loss: TrainLoss
    valid_loss: ValidLoss
    space: HyperSpace
    optimizer: optax.GradientTransformation
    hyper_optimizer: optax.GradientTransformation
    batch: int
    train_steps: int = 2
    valid_steps: int = 1
    entropy: float = 1e-3
    tune_deviation: bool = True

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 1)
        at_least("train_steps", self.train_steps, 1)
        at_least("valid_steps", self.valid_steps, 1)
        not_negative("entropy", self.entropy)

    def init(self, model: Any, hyper: HyperState) -> STNState:
        """The start: a model of the form of `like`, and what :meth:`HyperSpace.init` gives."""
        params = eqx.filter(model, eqx.is_inexact_array)
        started = self.optimizer.init(params), self.hyper_optimizer.init(hyper)
        return STNState(params, hyper, *started, jnp.asarray(True))

    def model(self, state: STNState) -> Any:
        """The model with its present weights."""
        return self._complete(state.params)

    def _complete(self, params: Tree) -> Any:
        return eqx.combine(params, eqx.filter(self.like, eqx.is_inexact_array, inverse=True))

    def train_step(self, state: STNState, batch: Any, key: Array) -> tuple[STNState, Array, Array]:
        """One step of the model; also the loss, and the numbers that were drawn."""
        self._require_length("a training batch", batch)
        for_numbers, for_loss = jax.random.split(key)
        numbers = self.space.perturb(state.hyper, for_numbers, self.batch)

        def loss(params: Tree) -> Array:
            return self.train_loss(self._complete(params), numbers, self.space.constrain(numbers), batch, for_loss)

        value, slope = jax.value_and_grad(loss)(state.params)
        updates, optimizer = self.optimizer.update(slope, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        new = state._replace(params=params, optimizer=optimizer)
        return _unless_lost(new, state, value), value, numbers

    def hyper_gradient(self, state: STNState, batch: Any, key: Array) -> tuple[Array, HyperState]:
        """The second objective and its gradient in center and scale."""
        self._require_length("a validation batch", batch)

        def objective(hyper: HyperState) -> Array:
            center = jnp.broadcast_to(hyper.center, (self.batch, len(hyper.center)))
            numbers = self.space.perturb(hyper, key, self.batch) if self.tune_deviation else center
            value = self.valid_loss(self.model(state), numbers, batch)
            return value - self.entropy * perturbation_entropy(hyper.scale) * self.tune_deviation

        return jax.value_and_grad(objective)(state.hyper)

    def _require_length(self, name: str, batch: Any) -> None:
        """Raise where arrays of a batch have rows, and none as many as hyperparameters are drawn."""
        rows = [np.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if np.ndim(leaf)]
        if rows and self.batch not in rows:
            raise ValueError(
                f"batch must be the number of examples in {name}, for each of which hyperparameters are drawn: given "
                f"batch={self.batch} and arrays with {', '.join(map(str, sorted(set(rows))))} rows."
            )

    def hyper_step(self, state: STNState, batch: Any, key: Array) -> STNState:
        """One step of the distribution."""
        value, slope = self.hyper_gradient(state, batch, key)
        updates, optimizer = self.hyper_optimizer.update(slope, state.hyper_optimizer, state.hyper)
        new = state._replace(hyper=optax.apply_updates(state.hyper, updates), hyper_optimizer=optimizer)
        return _unless_lost(new, state, value)

    def run(
        self,
        state: STNState,
        sample_train: Callable[[Array], Any],
        sample_valid: Callable[[Array], Any],
        key: Array,
        *,
        cycles: int,
        warmup: int = 0,
        every: int | None = None,
        watch: Callable[[STNState], Any] = lambda state: None,
    ) -> Course:
        """Train: so many steps of the model alone, then cycles of both kinds.

        Parameters
        ----------
        state
            From :meth:`init`.
        sample_train, sample_valid
            `sample(key)`: a batch of either sample. They must have no example in common.
        key
            Of everything random.
        cycles, warmup
            How many of each.
        every
            Cycles between two calls of `watch`; it divides them. All of them if it is not given.
        watch
            `watch(state)`: a tree of figures.
        """
        every = cycles if every is None else every
        at_least("cycles", cycles, 1)
        if every < 1 or cycles % every:
            raise ValueError(f"every must divide cycles, {cycles}: given {every}.")

        def train(state: STNState, key: Array) -> tuple[STNState, Array]:
            for_batch, for_step = jax.random.split(key)
            state, value, _ = self.train_step(state, sample_train(for_batch), for_step)
            return state, value

        def tune(state: STNState, key: Array) -> tuple[STNState, None]:
            for_batch, for_step = jax.random.split(key)
            return self.hyper_step(state, sample_valid(for_batch), for_step), None

        def cycle(state: STNState, key: Array) -> tuple[STNState, Array]:
            for_train, for_valid = jax.random.split(key)
            state, values = jax.lax.scan(train, state, jax.random.split(for_train, self.train_steps))
            state, _ = jax.lax.scan(tune, state, jax.random.split(for_valid, self.valid_steps))
            return state, values[-1]

        def chunk(state: STNState, keys: Array) -> tuple[STNState, Any]:
            state, values = jax.lax.scan(cycle, state, keys)
            return state, (values, watch(state))

        for_warmup, for_cycles = jax.random.split(key)
        if warmup:
            state, _ = jax.lax.scan(train, state, jax.random.split(for_warmup, warmup))
        first = watch(state)
        keys = jax.random.split(for_cycles, (cycles // every, every))
        state, (values, watched) = jax.lax.scan(chunk, state, keys)
        watched = jax.tree.map(lambda one, rest: jnp.concatenate([jnp.asarray(one)[None], rest]), first, watched)
        return Course(state, watched, values.reshape(-1))


def _unless_lost(new: STNState, old: STNState, value: Array) -> STNState:
    """The new state, if it and the loss are finite and always have been: a finite loss may have a slope that is not."""
    finite = old.finite & jnp.isfinite(value)
    for leaf in jax.tree.leaves((new.params, new.hyper)):
        finite &= jnp.all(jnp.isfinite(leaf))
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    return kept._replace(finite=finite)


def best_response_hypergradient(
    outer: Callable[[Array, Tree], Array], response: Callable[[Array], Tree], numbers: Array
) -> Array:
    r"""The derivative of :math:`F(\lambda, \hat w(\lambda))`, of a response that stands for the solution.

    The same estimate as implicit differentiation's, as good as the response. Where the inner problem is small and its
    objective differentiable in :math:`\lambda`, a solve that dini differentiates is exact.

    Examples
    --------
    >>> slope = best_response_hypergradient(lambda h, w: jnp.sum(w**2) + h, lambda h: 3 * h, jnp.array(1.0))
    >>> print(slope)
    19.0
    """
    return jax.grad(lambda numbers: outer(numbers, response(numbers)))(numbers)
