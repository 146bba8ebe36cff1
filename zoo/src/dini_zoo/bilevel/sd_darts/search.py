"""One step of the search: of the mixture, and of the weights, which past snapshots may teach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, not_negative, one_of, positive, trainable

from .distillation import TeacherBuffer, Teachers, Vote, self_distillation_loss
from .gradient import MODES, Mode, arch_gradient

Tree = Any
type Batch = tuple[Array, Array]


class DartsState(NamedTuple):
    """Where the search is."""

    w: Tree
    alpha: Tree
    optimizer: Any
    alpha_optimizer: Any
    teachers: Teachers
    t: Int[Array, ""]
    finite: Bool[Array, ""]
    """Whether all numbers were finite so far; from the first step whose are not, nothing changes any more."""


@dataclass(frozen=True)
class Search:
    r"""DARTS, with self-distillation where `strength` is positive.

    Parameters
    ----------
    apply
        `apply(w, alpha, x)`: the logits of a batch.
    optimizer, alpha_optimizer
        Optax transformations of weights and mixture. Weight decay of one must not reach the other.
    mode, terms, damping
        As those of :func:`arch_gradient`.
    xi
        The step in it: a number, or a function of the step's number, such as the weights' schedule.
    strength
        :math:`\lambda`, of the self-distillation. It begins when the buffer is full.
    teachers
        :math:`M`.
    interval
        Steps between two snapshots. With 1 the last teacher is the student, and nothing is taught.
    temperature, vote
        As those of :meth:`TeacherBuffer.vote`.

    Raises
    ------
    ValueError
        For settings out of range.
    """

    apply: Callable[[Tree, Tree, Array], Float[Array, "m k"]]
    optimizer: optax.GradientTransformation
    alpha_optimizer: optax.GradientTransformation
    mode: Mode = "first"
    xi: Any = None
    terms: int = 2
    damping: Any = 0.0
    strength: Any = 0.0
    teachers: int = 4
    interval: int = 25
    temperature: Any = 2.0
    vote: Vote = "prob"

    def __post_init__(self) -> None:
        one_of("mode", self.mode, MODES)
        not_negative("strength", self.strength)
        not_negative("damping", self.damping)
        at_least("terms", self.terms, 0)
        one_of("vote", self.vote, ("prob", "logit", "hard"))
        if self.xi is not None and not callable(self.xi):
            not_negative("xi", self.xi)
        at_least("teachers", self.teachers, 1)
        at_least("interval", self.interval, 1)
        positive("temperature", self.temperature)

    def init(self, w: Tree, alpha: Tree) -> DartsState:
        """The start, of trees of floats."""
        trainable("w", w)
        trainable("alpha", alpha)
        zero = jnp.zeros((), jnp.int32)
        buffer = TeacherBuffer(self.teachers).init((w, alpha))
        started = self.optimizer.init(w), self.alpha_optimizer.init(alpha)
        return DartsState(w, alpha, *started, buffer, zero, jnp.asarray(True))

    def loss(self, w: Tree, alpha: Tree, batch: Batch) -> Float[Array, ""]:
        """The mean cross-entropy."""
        x, y = batch
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(self.apply(w, alpha, x), y))

    def taught(self, w: Tree, alpha: Tree, batch: Batch, teachers: Teachers) -> Float[Array, ""]:
        """The self-distillation loss, without its strength."""
        one = lambda snapshot, x: self.apply(*snapshot, x)
        votes = TeacherBuffer(self.teachers).vote(one, teachers, batch[0], self.temperature, self.vote)
        return self_distillation_loss(self.apply(w, alpha, batch[0]), votes, self.temperature)

    def step(self, state: DartsState, batch_train: Batch, batch_validation: Batch) -> DartsState:
        """One step of the mixture, then one of the weights.

        Raises
        ------
        ValueError
            Where images and labels of a batch are not as many.
        """
        for name, (x, y) in (("batch_train", batch_train), ("batch_validation", batch_validation)):
            if len(x) != len(y):
                raise ValueError(f"{name} must have a label for each image: given {len(x)} and {len(y)}.")
        xi = self.xi(state.t) if callable(self.xi) else self.xi
        slope = arch_gradient(
            self.loss,
            self.loss,
            state.w,
            state.alpha,
            batch_train,
            batch_validation,
            mode=self.mode,
            xi=xi,
            terms=self.terms,
            damping=self.damping,
        )
        updates, alpha_optimizer = self.alpha_optimizer.update(slope, state.alpha_optimizer, state.alpha)
        alpha = optax.apply_updates(state.alpha, updates)
        slope = jax.grad(self.loss)(state.w, alpha, batch_train)

        def distilled() -> Tree:
            lesson = jax.grad(self.taught)(state.w, alpha, batch_train, state.teachers)
            return jax.tree.map(
                lambda plain, taught: plain + jnp.asarray(self.strength, plain.dtype) * taught, slope, lesson
            )

        on = (state.t >= self.teachers * self.interval) & (jnp.asarray(self.strength) > 0)
        slope = jax.lax.cond(on, distilled, lambda: slope)
        updates, optimizer = self.optimizer.update(slope, state.optimizer, state.w)
        w = optax.apply_updates(state.w, updates)
        buffer = TeacherBuffer(self.teachers)
        due = state.t % self.interval == 0
        teachers = jax.lax.cond(due, lambda: buffer.push(state.teachers, (w, alpha)), lambda: state.teachers)
        finite = state.finite & jnp.all(
            jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((w, alpha))])
        )
        new = (w, alpha, optimizer, alpha_optimizer, teachers)
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, tuple(state[:5]))
        return DartsState(*kept, state.t + 1, finite)
