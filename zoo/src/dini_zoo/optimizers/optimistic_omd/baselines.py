"""What the method is compared with, beside mirror descent without optimism and other step sizes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .geometry import inside
from .learner import Flags, Learner, checked, floating, kept, no_flags
from .steps import StepRule


class Sums(NamedTuple):
    """Carried from round to round."""

    start: Any
    total: Any
    last: Any
    rule: Any
    flags: Flags


def optimistic_ftrl(constraint: Any, rule: StepRule) -> Learner:
    r"""Follow the regularized leader, with the last gradient as the guess.

    It plays :math:`\arg\min_{x \in C} \langle \sum_{s<t} g_s + g_{t-1}, x \rangle + \|x - x_1\|^2 / (2 \eta_t)`: as
    mirror descent does, but that it never forgets what lies outside of the set.
    """

    def init(x: Any) -> Sums:
        start = inside(constraint, floating(x))
        nothing = jax.tree.map(jnp.zeros_like, start)
        return Sums(start, nothing, nothing, rule.init(start), no_flags())

    def play(state: Sums) -> Any:
        eta = rule.step_size(state.rule)
        return inside(constraint, jax.tree.map(lambda x, s, g: x - eta * (s + g), state.start, state.total, state.last))

    def update(state: Sums, gradient: Any) -> Sums:
        g, flags = checked(gradient, state.start, state.flags, rule.bound)
        total = jax.tree.map(jnp.add, state.total, g)
        return kept(Sums(state.start, total, g, rule.update(state.rule, g), flags), state, gradient)

    return Learner(init, play, update)
