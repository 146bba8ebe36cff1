r"""Training of constitutive laws through the simulator, from one motion.

The states of a motion are a teacher: a rollout restarts from them every :math:`k` steps, so that a law that is still
wrong has no time to blow up. Segments know nothing of each other and run side by side. The loss over :math:`n` steps is

.. math:: 10^4\, \frac{\lceil n / k \rceil}{n} \sum_{t=1}^n
    \operatorname{mean} \big( x_t - x_t^\text{ref} \big)^2 ,

the mean over particles and components. :math:`k` grows while the law becomes better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least
from dini_zoo.kit.training import Trainer

from ..materials import Material
from ..mpm import MPMConfig, MPMState, Particles
from ..rollouts import Rollout, simulate

LOSS_SCALE = 1e4


def roll(
    config: MPMConfig, particles: Particles, state: MPMState, material: Material, steps: int, **options: Any
) -> Rollout:
    """`simulate` for a material."""
    return simulate(config, particles, state, material.elasticity, material.plasticity, steps=steps, **options)


def motion(config: MPMConfig, particles: Particles, state: MPMState, material: Material, steps: int) -> MPMState:
    """The states of a motion, the first one included: an axis of `steps + 1` in front."""
    states = roll(config, particles, state, material, steps, record=lambda state: state).recorded
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), state, states)


def position_error(x: Float[Array, "*m p d"], reference: Float[Array, "*m p d"]) -> Float[Array, "*m"]:
    """The mean square of what positions are apart, over particles and components."""
    return jnp.mean((x - reference) ** 2, axis=(-2, -1))


def segment_loss(
    config: MPMConfig, particles: Particles, reference: MPMState, material: Material, length: int, checkpoint: int = 1
) -> Float[Array, ""]:
    """The loss of a material for the states of a motion, in segments of so many steps.

    Raises `ValueError` unless the length divides the motion's number of steps.
    """
    n = len(reference.x) - 1
    at_least("length", length, 1)
    if n % length:
        raise ValueError(f"length must divide the {n} steps of the reference: given {length}.")
    count = n // length
    starts = jax.tree.map(lambda leaf: leaf[:-1:length], reference)
    wanted = reference.x[1:].reshape(count, length, *reference.x.shape[1:])

    def one(start: MPMState, wanted: Array) -> Array:
        x = roll(config, particles, start, material, length, checkpoint=checkpoint).recorded
        return jnp.mean(position_error(x, wanted))

    return LOSS_SCALE * count * jnp.mean(jax.vmap(one)(starts, wanted))


@dataclass(frozen=True)
class Curriculum:
    """Epochs with segments of one length after others: one step of the optimizer each."""

    stages: tuple[tuple[int, int], ...] = ((25, 30), (50, 18), (100, 12))
    """Lengths of segments and numbers of epochs."""
    rate: float = 1e-2
    """Of Adam at the start, for each law; it falls to zero by a cosine."""
    clip: float = 0.1
    """The greatest norm of a gradient, for each law."""

    @property
    def epochs(self) -> int:
        """In all."""
        return sum(epochs for _, epochs in self.stages)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam for elasticity and for plasticity, each with a clipped gradient."""
        one = lambda: optax.chain(
            optax.clip_by_global_norm(self.clip), optax.adam(optax.cosine_decay_schedule(self.rate, self.epochs))
        )
        law = lambda path, leaf: path[0].name
        return optax.multi_transform(
            {"elasticity": one(), "plasticity": one()}, lambda tree: jax.tree_util.tree_map_with_path(law, tree)
        )


@dataclass(frozen=True)
class Trained:
    """Materials that were trained side by side, an axis for them in front of each array."""

    materials: Material
    losses: np.ndarray
    """Of each and each epoch, before its step."""


class LawTrainer:
    """Trains materials side by side from one motion; its programs are compiled once.

    Parameters
    ----------
    config, particles
        The simulator.
    curriculum
        Lengths of segments, epochs and rates.
    checkpoint
        As :func:`dini_zoo.physics.rollouts.simulate` has it.
    """

    def __init__(
        self, config: MPMConfig, particles: Particles, curriculum: Curriculum | None = None, *, checkpoint: int = 1
    ):
        curriculum = curriculum or Curriculum()
        optimizer = curriculum.optimizer()

        def trainer(length: int, epochs: int) -> Trainer[Material]:
            loss = lambda material, reference, key: segment_loss(
                config, particles, reference, material, length, checkpoint
            )
            return Trainer(loss, optimizer, steps=epochs)

        self._trainers = [trainer(*stage) for stage in curriculum.stages]
        self._first = lambda material, reference: segment_loss(
            config, particles, reference, material, curriculum.stages[0][0]
        )

    def __call__(
        self,
        materials: Material,
        reference: MPMState,
        *,
        keys: Array,
        advance: Callable[[int], None] = lambda epochs: None,
    ) -> Trained:
        """Train materials, `eqx.filter_vmap(make)(keys)`, for the states of a motion.

        Raises `FloatingPointError` where a loss is not finite: a rollout blew up.
        """
        state, losses = None, []
        for trainer in self._trainers:
            course = trainer.together(materials, reference, keys=keys, state=state, advance=advance)
            materials, state = course.model, course.state
            losses.append(course.loss)
        return Trained(materials, np.concatenate(losses, axis=1))

    def loss(self, material: Material, reference: MPMState) -> Float[Array, ""]:
        """Of one material, with the first stage's segments."""
        return eqx.filter_jit(self._first)(material, reference)


def lane(materials: Material, i: int) -> Material:
    """One of several materials side by side."""
    return jax.tree.map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, materials)
