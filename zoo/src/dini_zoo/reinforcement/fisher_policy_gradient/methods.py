r"""The published optimizers: transported momentum, a step of fixed length or not, and their schedules.

All are transformations of optax for estimates of the gradient of an objective that is to be *maximized*, as in the
paper; with `maximize=False` they descend, for hypergradients and other losses.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dini_zoo.kit.checking import known, not_negative, positive

from .transport import transported_momentum


def decay(initial: Any, power: float) -> optax.Schedule:
    r"""The schedule :math:`c\, (2 / (t + 2))^p`, which is `initial` in the first update.

    Parameters
    ----------
    initial
        :math:`c`, positive.
    power
        :math:`p`, zero or more.

    Raises
    ------
    ValueError
        For numbers that are not.

    Examples
    --------
    >>> print(decay(0.5, 1.0)(2))
    0.25
    """
    positive("initial", initial)
    not_negative("power", power)
    return lambda count: initial * (2 / (count + 2)) ** power


def normalized() -> optax.GradientTransformation:
    r"""The direction alone: :math:`d / \|d\|` with the norm over all leaves.

    Of a zero it is zero, and NaN where something is not finite. It holds for numbers whose squares are too small or too
    large for their precision.

    Examples
    --------
    >>> print(normalized().update(jnp.array([3e-30, 4e-30]), optax.EmptyState())[0])
    [0.6 0.8]
    """

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, Any]:
        del params
        largest = optax.tree.max(jax.tree.map(jnp.abs, updates))
        unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
        scaled = jax.tree.map(lambda leaf: leaf / unit.astype(leaf.dtype), updates)
        norm = optax.tree.norm(scaled)
        length = jnp.where(norm == 0, 1, norm)
        return jax.tree.map(lambda leaf: leaf / length.astype(leaf.dtype), scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _optimizer(
    step: Any, power: float, eta: Any, *, corrected: bool, normalize: bool, maximize: bool
) -> optax.GradientTransformationExtraArgs:
    if not callable(step):
        positive("step", step)
        step = decay(step, power)
    elif known(first := step(0)) and not first > 0:
        raise ValueError(f"step must be a schedule of positive numbers: given one that starts with {first}.")
    parts = [transported_momentum(eta, corrected=corrected)]
    if normalize:
        parts.append(normalized())
    return optax.chain(*parts, optax.scale_by_learning_rate(step, flip_sign=not maximize))


def n_pg_igt(
    step: optax.ScalarOrSchedule, eta: optax.ScalarOrSchedule | None = None, *, maximize: bool = True
) -> optax.GradientTransformationExtraArgs:
    r"""Normalized policy gradient with implicit gradient transport: one trajectory an iteration.

    .. math:: \theta_{t+1} = \theta_t + \gamma_t \frac{d_t}{\|d_t\|}, \qquad
              d_t = (1 - \eta_t)\, d_{t-1} + \eta_t\, g(\tau_t, \tilde\theta_t), \qquad
              \tilde\theta_t = \theta_t + \tfrac{1 - \eta_t}{\eta_t} (\theta_t - \theta_{t-1})

    Draw a trajectory at `igt_lookahead(params, state)`, and give `update` its gradient at that point with the
    parameters :math:`\theta_t`.

    Parameters
    ----------
    step
        A number is :math:`\gamma_0` of the schedule :math:`\gamma_t = 2 \gamma_0 / (t + 2)`; a schedule is taken as it
        is.
    eta
        A number or a schedule. Default: :math:`\eta_t = (2 / (t + 2))^{4/5}`.
    maximize
        Whether steps go along the gradient, or against it.

    Raises
    ------
    ValueError
        Where `step` is not positive or `eta` is outside of (0, 1].

    References
    ----------
    Fatkhullin, Barakat, Kireeva and He, 2023 (arXiv 2302.01734), N-PG-IGT.

    Examples
    --------
    >>> from dini_zoo.reinforcement.fisher_policy_gradient import igt_lookahead
    >>> optimizer = n_pg_igt(0.5)
    >>> x = jnp.array([1.0, 1.0])
    >>> state = optimizer.init(x)
    >>> for _ in range(400):
    ...     gradient = -2 * igt_lookahead(x, state)  # of -|x|²
    ...     updates, state = optimizer.update(gradient, state, x)
    ...     x = optax.apply_updates(x, updates)
    >>> print(bool(jnp.linalg.norm(x) < 0.01))
    True
    """
    eta = decay(1.0, 0.8) if eta is None else eta
    return _optimizer(step, 1.0, eta, corrected=False, normalize=True, maximize=maximize)


def n_harpg(
    step: optax.ScalarOrSchedule, eta: optax.ScalarOrSchedule | None = None, *, maximize: bool = True
) -> optax.GradientTransformationExtraArgs:
    r"""Normalized Hessian-aided recursive policy gradient: two trajectories an iteration.

    .. math:: \theta_{t+1} = \theta_t + \gamma_t \frac{d_t}{\|d_t\|}, \qquad
              d_t = (1 - \eta_t)\,(d_{t-1} + v_t) + \eta_t\, g(\tau_t, \theta_t)

    With the point and the move of `harpg_midpoint(key, params, state)`, draw a second trajectory at the point, and give
    `update` the estimate of the Hessian times the move, :math:`v_t`, as `transport`.

    Parameters
    ----------
    step
        A number is :math:`\gamma_0` of the schedule :math:`\gamma_t = 2 \gamma_0 / (t + 2)`; a schedule is taken as it
        is.
    eta
        A number or a schedule. Default: :math:`\eta_t = 2 / (t + 2)`.
    maximize
        Whether steps go along the gradient, or against it.

    Raises
    ------
    ValueError
        Where `step` is not positive or `eta` is outside of (0, 1].

    References
    ----------
    Fatkhullin, Barakat, Kireeva and He, 2023 (arXiv 2302.01734), N-HARPG.
    """
    eta = decay(1.0, 1.0) if eta is None else eta
    return _optimizer(step, 1.0, eta, corrected=True, normalize=True, maximize=maximize)


def harpg(
    step: optax.ScalarOrSchedule, eta: optax.ScalarOrSchedule | None = None, *, maximize: bool = True
) -> optax.GradientTransformationExtraArgs:
    r"""Hessian-aided recursive policy gradient, as :func:`n_harpg` with steps :math:`\gamma_t d_t`.

    A number for `step` is :math:`\gamma_0` of the schedule :math:`\gamma_t = \gamma_0 \sqrt{2 / (t + 2)}`.
    """
    eta = decay(1.0, 1.0) if eta is None else eta
    return _optimizer(step, 0.5, eta, corrected=True, normalize=False, maximize=maximize)


def storm_pg(
    step: optax.ScalarOrSchedule,
    eta: optax.ScalarOrSchedule | None = None,
    *,
    normalize: bool = True,
    maximize: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Momentum that is brought along by importance weights.

    .. math:: d_t = g(\tau_t, \theta_t) + (1 - \eta_t)\,\bigl(d_{t-1} - w\, g(\tau_t, \theta_{t-1})\bigr), \qquad
              w = \frac{p(\tau_t \mid \theta_{t-1})}{p(\tau_t \mid \theta_t)}

    `update` takes :func:`storm_transport` of the same trajectories as `transport`. The schedules are those of
    :func:`n_harpg`, without `normalize` those of :func:`harpg`.

    References
    ----------
    Yuan, Lian, Liu and Zhou, "Stochastic recursive momentum for policy gradient methods", 2020 (arXiv 2003.04302).
    """
    eta = decay(1.0, 1.0) if eta is None else eta
    return _optimizer(step, 1.0 if normalize else 0.5, eta, corrected=True, normalize=normalize, maximize=maximize)


def normalized_momentum(
    step: optax.ScalarOrSchedule, eta: optax.ScalarOrSchedule | None = None, *, maximize: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Momentum and steps of :func:`n_pg_igt` without transport: gradients are drawn at the parameters themselves."""
    return n_pg_igt(step, eta, maximize=maximize)


def normalized_pg(step: optax.ScalarOrSchedule, *, maximize: bool = True) -> optax.GradientTransformationExtraArgs:
    r"""Steps :math:`\gamma_t\, g / \|g\|`; a number is :math:`\gamma_0` of :math:`2 \gamma_0 / (t + 2)`."""
    return n_pg_igt(step, 1.0, maximize=maximize)


def vanilla_pg(step: optax.ScalarOrSchedule, *, maximize: bool = True) -> optax.GradientTransformationExtraArgs:
    r"""Steps :math:`\gamma\, g` along the gradient: a number is a constant :math:`\gamma`."""
    return _optimizer(step, 0.0, 1.0, corrected=False, normalize=False, maximize=maximize)
