"""Self-distillation of any model: trained, asked for its predictions, and trained again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float

from .mixing import distillation_targets, optimal_mixing_weight, require_shares

Predict = Callable[[Any], Array]
Train = Callable[[Array, Array], Predict]


@dataclass(frozen=True)
class Step:
    """One model of a self-distillation."""

    predict: Predict
    """The model: inputs to predictions."""
    targets: Float[Array, n * c]
    """What it was trained on."""
    alpha: float
    """The share of the ground truth in that."""
    student: Predict | None = None
    """The model with a share of zero from which a rule estimated the share."""


@dataclass(frozen=True)
class BestOnValidation:
    """The rule that a step's share of the ground truth is the best one on held-out points.

    It is an estimate for models that are not linear in their targets: see :func:`optimal_mixing_weight`. It costs one
    more training a step, where a search over shares costs one for each of them.
    """

    X: Any
    """Held-out inputs."""
    Y: Float[Array, m * c]
    """Their targets."""
    clip: tuple[float, float] | None = (0.0, 1.0)
    """The least and the greatest share, as of :func:`optimal_mixing_weight`; `distill` takes none beyond 0 and 1."""

    def __call__(self, teacher: Predict, student: Predict) -> float:
        """The share, from the first model and from one that was trained on the last one's predictions alone."""
        return float(optimal_mixing_weight(teacher(self.X), student(self.X), self.Y, self.clip))


def distill(
    train: Train,
    X: Any,
    Y: Float[Array, n * c],
    shares: Sequence[float] | Callable[[Predict, Predict], float],
    steps: int | None = None,
    *,
    key: Array | None = None,
) -> list[Step]:
    r"""Train a model, and then again and again on :math:`\alpha_t Y + (1 - \alpha_t) \hat Y_{t-1}`.

    Parameters
    ----------
    train
        `train(targets, key)` trains a model on the inputs `X` from scratch and returns it as a function of inputs.
    X, Y
        The inputs, and the ground truth for them.
    shares
        :math:`\alpha_2, \alpha_3, \dots`, from 0 to 1; or a rule such as :class:`BestOnValidation`, which takes the
        first model and, at each step, one that was trained with a share of zero, to the step's share.
    steps
        The number of models, the first one included. With a sequence it may be left out.
    key
        Random. All trainings of a step have one key: what a rule compares differs in its targets alone.

    Raises
    ------
    ValueError
        If a share is not from 0 to 1, or the number of steps does not fit the shares.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> def train(targets, key):  # a mean, shrunken towards zero
    ...     return lambda x: jnp.full(len(x), 0.9 * jnp.mean(targets))
    >>> X, Y = jnp.zeros(4), jnp.ones(4)
    >>> [round(float(step.predict(X)[0]), 4) for step in distill(train, X, Y, [0.0, 0.5])]
    [0.9, 0.81, 0.8145]
    """
    rule = shares if callable(shares) else None
    given: Sequence[float] = [] if callable(shares) else list(shares)
    if rule is None:
        require_shares("shares", given)
        if steps not in (None, len(given) + 1):
            raise ValueError(f"steps must be {len(given) + 1}, one more than there are shares: given {steps}.")
        steps = len(given) + 1
    if steps is None or steps < 1:
        raise ValueError(f"steps must be at least 1 and be given with a rule: given {steps}.")
    key = jax.random.key(0) if key is None else key
    done = [Step(train(Y, jax.random.fold_in(key, 0)), Y, 1.0)]
    for t in range(1, steps):
        own = jax.random.fold_in(key, t)
        predictions, student = done[-1].predict(X), None
        if rule is None:
            alpha = given[t - 1]
        else:
            student = train(distillation_targets(Y, predictions, 0.0), own)
            alpha = rule(done[0].predict, student)
            require_shares("The share that the rule gives", alpha)
        targets = distillation_targets(Y, predictions, alpha)
        done.append(Step(train(targets, own), targets, alpha, student))
    return done
