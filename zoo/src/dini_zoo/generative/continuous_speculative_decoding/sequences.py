"""Sequences with closed forms: calls of the target by draft length, and statistics beside those of the target alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dini_zoo.diffusion.distances import two_sample_test
from dini_zoo.kit.run import Phase

from . import closed_form
from .decoding import sequential_decode, speculative_decode

PREFILL = 0.05
#: Without shared noise only the acceptance is of interest, for which fewer sequences do.
FEWER = 10


@dataclass(frozen=True)
class Case:
    """One way to decode, with one seed."""

    name: str
    gamma: int
    calls: float
    """Of the target, for each sequence."""
    acceptance: float
    """Of the drafts that were tested."""
    scores: dict[str, float]
    """Differences of statistics from the target's, in standard errors."""
    p: float
    """Of the hypothesis that whole sequences have the target's law."""

    @property
    def worst(self) -> float:
        """The score that is farthest from zero."""
        return max(self.scores.values(), key=abs)


#: Ways to decode, the last three of which are biased.
KINDS = ("reflection", "rejection", "prefilled", "unaligned", "in place", "relax 2", "relax 42")


def programs(
    kinds: tuple[str, ...], gammas: tuple[int, ...], gamma: int, length: int
) -> dict[tuple[str, int], Callable[[Array, Array], Any]]:
    """Compiled decoders of many keys and first tokens, by their kinds and draft lengths."""
    draft, target = closed_form.model(closed_form.DRAFT), closed_form.model(closed_form.TARGET)
    options: dict[str, dict[str, Any]] = {
        "reflection": {"residual": "reflection"},
        "rejection": {},
        "prefilled": {"residual": "reflection", "prefill": PREFILL},
        "unaligned": {"residual": "reflection", "aligned": False},
        "in place": {"residual": "reflection", "verification": "in place"},
        "relax 2": {"relax": 2.0},
        "relax 42": {"relax": 42.0},
    }

    def program(kind: str, gamma: int) -> Callable[[Array, Array], Any]:
        chosen = {"gamma": gamma, "prefill": 0.0, **options[kind]}
        one = lambda given: speculative_decode(given[0], draft, target, given[1], length + 1, **chosen)
        return _many(one)

    every = [(kind, count) for kind in kinds for count in (gammas if kind in ("reflection", "unaligned") else (gamma,))]
    return {(kind, count): program(kind, count) for kind, count in every}


def _many(one: Callable[[tuple[Array, Array]], Any]) -> Callable[[Array, Array], Any]:
    """Of keys and first tokens, in pieces each of which waits for its own slowest sequence only."""
    return jax.jit(lambda keys, first: jax.lax.map(one, (keys, first), batch_size=min(1000, len(keys))))


def decoded(
    programs: dict[tuple[str, int], Callable[[Array, Array], Any]],
    key: Array,
    *,
    n: int,
    length: int,
    compared: int,
    phase: Phase,
) -> list[Case]:
    """All cases with one seed, each with keys of its own, beside one set of the target alone."""
    for_target, for_test, *keys = jax.random.split(key, len(programs) + 2)
    target = closed_form.model(closed_form.TARGET)
    alone = _many(lambda given: sequential_decode(given[0], target, given[1], length + 1))
    truth = np.asarray(alone(*_given(for_target, n)))[:, 1:, 0]
    test = jax.jit(two_sample_test)
    found = []
    for ((name, gamma), program), key in zip(programs.items(), keys, strict=True):
        tokens, stats = program(*_given(key, max(n // FEWER, 2) if name == "unaligned" else n))
        x = np.asarray(tokens)[:, 1:, 0]
        p = test(for_test, jnp.asarray(x[:compared]), jnp.asarray(truth[:compared]))
        acceptance = float(stats.accepted.sum() / stats.tested.sum())
        calls = float(stats.target_calls.mean())
        scores = closed_form.scores(x.astype(float), truth.astype(float))
        found.append(Case(name, gamma, calls, acceptance, scores, float(p)))
        phase.advance()
    return found


def _given(key: Array, n: int) -> tuple[Array, Array]:
    """Keys and first tokens of sequences."""
    for_first, for_keys = jax.random.split(key)
    return jax.random.split(for_keys, n), jax.random.normal(for_first, (n, 1, 1))
