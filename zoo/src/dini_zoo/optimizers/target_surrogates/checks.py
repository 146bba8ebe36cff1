"""What is asked of targets, gradients and settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import positive

Targets = Any
"""An array, or a tree of arrays, with examples along their first axes."""


def total(tree: Any) -> Float[Array, ""]:
    """The sum of all elements of a tree."""
    first, *rest = [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)]
    return sum(rest, first)


def known(value: Any) -> bool:
    """Whether numbers are known now, and not only when a program runs."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def require_positive(name: str, value: Any, *, scalar: bool = False) -> None:
    """Raise unless numbers are positive and finite, if they are known now; if asked, unless there is only one.

    Traced ones make the result NaN.
    """
    if scalar and np.ndim(value):
        raise ValueError(f"{name} must be one number: given shape {np.shape(value)}.")
    positive(name, value)


def losses(loss: Callable[[Targets, Any], Any], z: Targets, batch: Any) -> Float[Array, " b"]:
    """The losses of some targets, or `ValueError` if there is not one number for each example.

    A mean and a sum are both one number, and steps for the one are too small or too large for the other by the number
    of examples.
    """
    found, count = loss(z, batch), len(jax.tree.leaves(z)[0])
    if jnp.shape(found) != (count,):
        raise ValueError(
            f"loss must return one number for each of the {count} examples, neither their mean nor their sum: given "
            f"shape {jnp.shape(found)} in place of {(count,)}."
        )
    return found


def require_like(gradients: Targets, targets: Targets) -> None:
    """Raise unless gradients have the shapes of the targets and are finite, if that is known now."""
    given, needed = jax.tree.structure(gradients), jax.tree.structure(targets)
    if given != needed:
        raise ValueError(f"Gradients must be a tree like the targets, {needed}: given {given}.")
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (gradients, targets)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"Gradients must have the targets' shapes, {shapes[1]}: given {shapes[0]}.")
    if any(not shape for shape in shapes[1]):
        raise ValueError("Targets must have the examples along their first axes: given a scalar.")
    if known(gradients) and not all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(gradients)):
        raise ValueError("Gradients must be finite: given NaN or infinity.")
