r"""Distillation of a network from its own past: several snapshots vote.

.. math:: q = \frac1M \sum_m \operatorname{softmax}(z_m / \tau), \qquad
          L_{\text{SD}} = \frac{\tau^2}{n} \sum_{i, c} q_{ic}
          ( \log q_{ic} - \log \operatorname{softmax}(z_i / \tau)_c ) .

To first order this is the Fisher length of the path since the snapshots: it penalizes fast change, and so sharpness.

References
----------
X. Zhu, J. Li, Y. Liu, W. Wang, "Improving differentiable architecture search via self-distillation", Neural Networks
2023 (arXiv 2302.05629). J. Du, D. Zhou, J. Feng, V. Tan, J. T. Zhou, "Sharpness-aware training for free", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, one_of, positive, same_tree

Tree = Any
type Vote = Literal["prob", "logit", "hard"]


class Teachers(NamedTuple):
    """Snapshots, and how many there have been."""

    slots: Tree
    """An axis for the snapshots in front of each array."""
    pushed: Int[Array, ""]


@dataclass(frozen=True)
class TeacherBuffer:
    """The last few snapshots of a tree of arrays, weights and mixture, say.

    Examples
    --------
    >>> buffer = TeacherBuffer(2)
    >>> teachers = buffer.init(jnp.zeros(3))
    >>> for value in (1.0, 2.0, 3.0):
    ...     teachers = buffer.push(teachers, jnp.full(3, value))
    >>> print(teachers.slots[:, 0], buffer.full(teachers))
    [3. 2.] True
    """

    size: int

    def __post_init__(self) -> None:
        at_least("size", self.size, 1)

    def init(self, params: Tree) -> Teachers:
        """An empty buffer for trees like this one."""
        empty = lambda leaf: jnp.zeros((self.size, *jnp.shape(leaf)), jnp.result_type(leaf))
        return Teachers(jax.tree.map(empty, params), jnp.zeros((), jnp.int32))

    def push(self, teachers: Teachers, params: Tree) -> Teachers:
        """Put a snapshot in place of the oldest."""
        slot = jax.tree.map(lambda slots: slots[0], teachers.slots)
        same_tree("params", params, "a snapshot of the buffer", slot)
        place = teachers.pushed % self.size
        slots = jax.tree.map(lambda slots, leaf: slots.at[place].set(leaf), teachers.slots, params)
        return Teachers(slots, teachers.pushed + 1)

    def full(self, teachers: Teachers) -> Bool[Array, ""]:
        """Whether there have been as many snapshots as it holds."""
        return teachers.pushed >= self.size

    def vote(
        self,
        apply: Callable[[Tree, Any], Float[Array, "m k"]],
        teachers: Teachers,
        x: Any,
        temperature: Any = 2.0,
        how: Vote = "prob",
    ) -> Float[Array, "m k"]:
        """What the snapshots say of a batch, each with statistics of this batch; a constant of differentiation.

        Parameters
        ----------
        apply
            `apply(params, x)`: the logits of a snapshot.
        teachers
            A full buffer: empty slots vote as well.
        x
            The batch that the student sees.
        temperature
            Of the softmax.
        how
            The mean of probabilities, of logits before the softmax, or of votes for one class each.
        """
        positive("temperature", temperature)
        one_of("how", how, ("prob", "logit", "hard"))
        logits = jax.vmap(apply, in_axes=(0, None))(jax.lax.stop_gradient(teachers.slots), x)
        if how == "prob":
            found = jnp.mean(jax.nn.softmax(logits / temperature, axis=-1), axis=0)
        elif how == "logit":
            found = jax.nn.softmax(jnp.mean(logits, axis=0) / temperature, axis=-1)
        else:
            found = jnp.mean(jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=logits.dtype), axis=0)
        return jax.lax.stop_gradient(found)


def self_distillation_loss(
    student_logits: Float[Array, "m k"], teacher_probs: Float[Array, "m k"], temperature: Any = 2.0
) -> Float[Array, ""]:
    """The mean divergence of the student from the teachers, times the square of the temperature.

    Examples
    --------
    >>> teacher = jax.nn.softmax(jnp.array([[1.0, 0.0, 0.0]]))
    >>> print(f"{self_distillation_loss(jnp.array([[0.0, 2.0, 0.0]]), teacher, 1.0):.4f}")
    0.8403
    """
    positive("temperature", temperature)
    if jnp.shape(student_logits) != jnp.shape(teacher_probs):
        raise ValueError(
            f"teacher_probs must have the shape of student_logits, {jnp.shape(student_logits)}: given "
            f"{jnp.shape(teacher_probs)}."
        )
    said = jax.nn.log_softmax(student_logits / temperature, axis=-1)
    # a class that no teacher names counts nothing
    entropy = jnp.sum(jax.scipy.special.xlogy(teacher_probs, teacher_probs), axis=-1)
    return temperature**2 * jnp.mean(entropy - jnp.sum(teacher_probs * said, axis=-1))
