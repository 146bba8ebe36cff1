r"""Adam whose step in each coordinate is multiplied by a friction that grows with the change of the gradient.

With Adam's bias-corrected moments :math:`\hat m_t, \hat v_t` of the gradients :math:`g_t`, and :math:`g_0 = 0`,

.. math:: \theta_{t+1} = \theta_t - \alpha \, \xi_t \, \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}, \qquad
          \xi_t = \frac{1}{1 + e^{-|g_{t-1} - g_t|}} \in [\tfrac12, 1) .

All operations are of one coordinate each.

References
----------
Dubey, Chakraborty, Roy, Mukherjee, Singh, Chaudhuri, "diffGrad: an optimization method for convolutional neural
networks", IEEE Transactions on Neural Networks and Learning Systems 31(11), 2020 (arXiv 1909.11015).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ...kit.checking import trainable

#: `friction(previous, gradient)`, for one leaf of the parameters.
Friction = Callable[[Array, Array], Any]


class DiffgradState(NamedTuple):
    """The state of :func:`scale_by_diffgrad`: trees like the parameters, and the number of updates."""

    count: Int[Array, ""]
    mu: optax.Updates
    """The moving average of gradients."""
    nu: optax.Updates
    """The moving average of their squared absolute values."""
    prev_grad: optax.Updates
    """The gradient of the update before, zero at first."""


def abs_sigmoid(previous: Float[Array, " ..."], gradient: Float[Array, " ..."]) -> Float[Array, " ..."]:
    r"""The paper's friction :math:`\xi = 1 / (1 + e^{-|g_{t-1} - g_t|})`, in every coordinate.

    Where the two gradients are equal its derivative is taken as zero, the middle of those on both sides.

    Examples
    --------
    >>> print(abs_sigmoid(jnp.array([0.0, 1.0, 50.0]), jnp.array([0.0, 0.0, -50.0])).round(3))
    [0.5   0.731 1.   ]
    """
    change = previous - gradient
    # JAX's own derivative of an absolute value is 1 at 0
    return jax.nn.sigmoid(jnp.where(change == 0, 0, jnp.abs(change)))


def scale_by_diffgrad(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    *,
    friction: Friction | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    mu_dtype: Any = None,
    prev_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""The direction of diffGrad, without the learning rate: :math:`\xi_t \hat m_t / (\sqrt{\hat v_t + r} + \epsilon)`.

    It goes where `optax.scale_by_adam` would go in a chain. What changes gradients, such as clipping, stands before it:
    the friction compares the gradients that come here.

    Parameters
    ----------
    b1, b2
        Decays of the averages of gradients and of their squares, in [0, 1).
    eps, eps_root
        :math:`\epsilon` and :math:`r`, at least zero. To differentiate through updates in which a gradient may be zero
        from the start, `eps_root` must be positive, as with Adam.
    friction
        `friction(previous, gradient)`, called once for each leaf, with two arrays of its shape, of single precision at
        least. What it returns is real and broadcasts to that shape. The default is :func:`abs_sigmoid`.
    scale
        Multiplies both arguments of `friction`; at least zero. The friction of the paper depends on the units of the
        loss: gradients far below 1 give 1/2, and so Adam with half the learning rate; gradients far above 1 give Adam.
    normalize
        Whether both arguments of `friction` are also divided by :math:`\sqrt{\hat v_t + r} + \epsilon`, so that a
        multiple of the loss makes no difference. This is not in the paper.
    mu_dtype, prev_dtype
        In which the average of gradients and the gradient before are kept; that of the parameters if not given. With
        less precision than the gradients', equal gradients differ by rounding.

    Returns
    -------
    optax.GradientTransformation
        Its state is a :class:`DiffgradState`.

    Raises
    ------
    ValueError
        If a number is out of its range, or what `friction` returns does not fit its leaf.

    Examples
    --------
    The same gradient for a second time has a friction of 1/2:

    >>> transform = scale_by_diffgrad(b1=0.0, b2=0.0)
    >>> state = transform.init(jnp.zeros(2))
    >>> for _ in range(2):
    ...     update, state = transform.update(jnp.array([1.0, -20.0]), state)
    ...     print(update.round(3))
    [ 0.731 -1.   ]
    [ 0.5 -0.5]
    """
    _demand("b1", b1, lambda value: 0 <= value < 1, "in [0, 1)")
    _demand("b2", b2, lambda value: 0 <= value < 1, "in [0, 1)")
    for name, value in (("eps", eps), ("eps_root", eps_root), ("scale", scale)):
        _demand(name, value, lambda value: 0 <= value < float("inf"), "finite and at least 0")
    if friction is not None and not callable(friction):
        raise ValueError(f"friction must be a function of the gradient before and the gradient: given {friction!r}.")
    coefficient = abs_sigmoid if friction is None else friction

    def init(params: optax.Params) -> DiffgradState:
        trainable("params", params)
        return DiffgradState(
            count=jnp.zeros([], jnp.int32),
            mu=jax.tree.map(lambda p: jnp.zeros_like(p, dtype=mu_dtype), params),
            nu=jax.tree.map(lambda p: jnp.zeros_like(jnp.real(p)), params),
            prev_grad=jax.tree.map(lambda p: jnp.zeros_like(p, dtype=prev_dtype), params),
        )

    def update(
        updates: optax.Updates, state: DiffgradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, DiffgradState]:
        del params
        count = optax.safe_increment(state.count)
        t = count.astype(jnp.result_type(float))

        def one(g: Array, m: Array, v: Array, previous: Array) -> tuple[Array, Array, Array, Array]:
            m_dtype, v_dtype, p_dtype = m.dtype, v.dtype, previous.dtype
            m = (1 - b1) * g + b1 * m.astype(g.dtype)
            v = (1 - b2) * _squared(g) + b2 * v
            m_hat = m / (1 - b1**t).astype(m.dtype)
            root = jnp.sqrt(v / (1 - b2**t).astype(v.dtype) + eps_root) + eps
            # sixteen bits are too few for a sigmoid and for products of it
            wide = g.dtype if jnp.finfo(g.dtype).bits >= 32 else jnp.float32
            unit = scale / root.astype(_real(wide)) if normalize else scale
            xi = _fitting(coefficient(unit * previous.astype(wide), unit * g.astype(wide)), g.shape, _real(wide))
            step = (xi * (m_hat / root).astype(wide)).astype(g.dtype)
            # only now is this the gradient before: set earlier, every friction would be 1/2
            return step, m.astype(m_dtype), v.astype(v_dtype), g.astype(p_dtype)

        # a leaf without a gradient keeps its state
        leaves, form = jax.tree.flatten(updates, is_leaf=lambda leaf: leaf is None)
        rows = zip(leaves, *(form.flatten_up_to(tree) for tree in state[1:]), strict=True)
        found = [row if row[0] is None else one(*row) for row in rows]
        steps, *rest = (
            (form.unflatten(column) for column in zip(*found, strict=True)) if found else (updates, *state[1:])
        )
        return steps, DiffgradState(count, *rest)

    return optax.GradientTransformation(init, update)


def diffgrad(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    *,
    friction: Friction | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    mu_dtype: Any = None,
    prev_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""The optimizer diffGrad: Adam with a friction that grows with the change of the gradient.

    It is used as `optax.adam` is, and composes with all of optax: chains, masks, schedules, `inject_hyperparams` (which
    takes any function for a schedule: name a `friction` of your own in its `static_args`). There is no weight decay in
    it: `optax.add_decayed_weights` before it is the paper's, which adds to the gradient; between
    :func:`scale_by_diffgrad` and the learning rate it is that of AdamW. Memory is three times that of the parameters,
    where Adam's is twice. State is placed as the parameters are, over any number of devices.

    The other arguments are those of :func:`scale_by_diffgrad`.

    Parameters
    ----------
    learning_rate
        :math:`\alpha \ge 0`, or a schedule of it.

    Raises
    ------
    ValueError
        If a number is out of its range, or what `friction` returns does not fit its leaf.

    Examples
    --------
    >>> import optax
    >>> optimizer = optax.chain(optax.clip_by_global_norm(1.0), diffgrad(0.1))
    >>> x = jnp.array([1.0, -2.0])
    >>> state = optimizer.init(x)
    >>> updates, state = optimizer.update(2 * x, state)
    >>> print(optax.apply_updates(x, updates).round(3))
    [ 0.939 -1.929]
    """
    if not callable(learning_rate):
        _demand("learning_rate", learning_rate, lambda value: 0 <= value < float("inf"), "finite and at least 0")
    direction = scale_by_diffgrad(
        b1,
        b2,
        eps,
        eps_root,
        friction=friction,
        scale=scale,
        normalize=normalize,
        mu_dtype=mu_dtype,
        prev_dtype=prev_dtype,
    )
    return optax.chain(direction, optax.scale_by_learning_rate(learning_rate))


def _squared(g: Array) -> Array:
    """The squared absolute value, real."""
    return jnp.real(g) ** 2 + jnp.imag(g) ** 2 if jnp.iscomplexobj(g) else g**2


def _real(dtype: Any) -> Any:
    """The real type of a real or complex one."""
    return jnp.finfo(dtype).dtype


def _fitting(xi: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """A friction of a leaf's shape, or an error that says what came."""
    xi = jnp.asarray(xi)
    fits = len(xi.shape) <= len(shape) and all(
        own in (1, other) for own, other in zip(reversed(xi.shape), reversed(shape), strict=False)
    )
    if not fits or jnp.iscomplexobj(xi):
        raise ValueError(
            "friction must return real numbers, one for all or an array that broadcasts to its leaf, which has the "
            f"shape {shape}: given an array of type {xi.dtype} and shape {xi.shape}."
        )
    return jnp.broadcast_to(xi.astype(dtype), shape)


def _demand(name: str, value: Any, holds: Callable[[Any], bool], needed: str) -> None:
    """Refuse a number out of its range. One that a program computes is not known here."""
    if not isinstance(value, jax.core.Tracer) and not holds(value):
        raise ValueError(f"{name} must be {needed}: given {value}.")
