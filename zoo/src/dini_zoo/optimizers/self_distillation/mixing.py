r"""The best mixture of ground truth and a model's own predictions, for models of any kind.

A student that is fitted to :math:`\alpha Y + (1 - \alpha) \hat Y` predicts :math:`\alpha u + (1 - \alpha) w` where its
predictions are linear in its targets: :math:`u` is what a fit to the ground truth says (the teacher), :math:`w` what a
fit to :math:`\hat Y` alone says (a student with :math:`\alpha = 0`). On held-out points with targets :math:`Y_{val}`

.. math:: \alpha^\star = \frac{\langle Y_{val} - w, u - w \rangle}{\|u - w\|^2}

has the least squared error. Ridge regression is linear in its targets exactly, a neural network nearly.

References
----------
K. Borup, L. N. Andersen, "Even your teacher needs guidance: ground-truth targets dampen regularization imposed by
self-distillation", NeurIPS 2021 (arXiv 2102.13088).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import holds


def optimal_mixing_weight(
    teacher: Any, student: Any, targets: Any, clip: tuple[float, float] | None = (0.0, 1.0)
) -> Float[Array, ""]:
    r"""The share of the ground truth with the least squared error on held-out points.

    Parameters
    ----------
    teacher
        :math:`u`, the predictions of a model fitted to the ground truth: an array, or a tree of them, such as a list
        with an array for each fold of a cross-validation, whose sums are then taken together before they are divided.
    student
        :math:`w`, those of a model fitted to the predictions of the model before alone.
    targets
        :math:`Y_{val}`. They must not be those that the models were fitted to.
    clip
        The least and the greatest share. To stay between them is best, for the error is a parabola. `None`: none.

    Returns
    -------
    :math:`\alpha^\star`, differentiable in all of the arrays. Where both predictions are the same up to rounding, every
    share is as good as any other: it is one, or the greatest share, and its derivative is zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> u, w = jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0])
    >>> print(optimal_mixing_weight(u, w, jnp.array([0.5, 2.0])))
    0.5
    """
    trees = [jax.tree.leaves(tree) for tree in (teacher, student, targets)]
    if len({tuple(jnp.shape(leaf) for leaf in leaves) for leaves in trees}) != 1 or not trees[0]:
        shapes = ", ".join(str([jnp.shape(leaf) for leaf in leaves]) for leaves in trees)
        raise ValueError(f"Predictions of teacher and student and targets must be of the same shapes: given {shapes}.")
    if clip is not None and not clip[0] <= clip[1]:
        raise ValueError(f"clip must have the least share first: given {clip}.")
    above = below = scale = jnp.zeros(())
    for u, w, y in zip(*trees, strict=True):
        u, w, y = jnp.asarray(u), jnp.asarray(w), jnp.asarray(y)
        above += jnp.sum((y - w) * (u - w))
        below += jnp.sum((u - w) ** 2)
        scale += jnp.sum(u**2) + jnp.sum(w**2)
    same = below <= (64 * jnp.finfo(below.dtype).eps) ** 2 * scale
    # a quotient that is not taken must not have a derivative that is not a number
    alpha = jnp.where(same, 1.0, above / jnp.where(same, 1.0, below))
    return alpha if clip is None else jnp.clip(alpha, *clip)


def distillation_targets(Y: Any, predictions: Any, alpha: Any) -> Array:
    r""":math:`\alpha Y + (1 - \alpha) \hat Y`: with `alpha` one the ground truth, with zero what a model says of it."""
    Y, predictions = jnp.asarray(Y), jnp.asarray(predictions)
    if Y.shape != predictions.shape:
        raise ValueError(f"The predictions must be of the shape {Y.shape} of the targets: given {predictions.shape}.")
    return alpha * Y + (1 - alpha) * predictions


def require_shares(name: str, alphas: Any) -> None:
    """Raise where a weight that is known is not from zero to one; a traced one makes the result NaN."""
    share = lambda given: (given >= 0) & (given <= 1)
    holds(alphas, share, lambda: f"{name} must be from 0 to 1, the share of the ground truth: given {alphas}.")
