"""Digits drawn row by row: a large and a small network trained on them, and sets of images drawn with both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.diffusion.chains import Chain, cosine_betas
from dini_zoo.diffusion.digits import dequantised, load
from dini_zoo.diffusion.distances import Moments, frechet_distance
from dini_zoo.kit.training import Trainer

from .decoding import sequential_decode, speculative_decode
from .rows import RowModel, loss

ROWS = 8
STEPS = 6
FLOORS = 4
SHOWN = 20


class Recipe(NamedTuple):
    """How networks are trained."""

    steps: int
    target: tuple[int, int]
    draft: tuple[int, int]
    larger: tuple[int, int]


class Networks(NamedTuple):
    """With the averages of their weights."""

    target: RowModel
    draft: RowModel
    larger: RowModel | None


@dataclass(frozen=True)
class Images:
    """What was found with one seed; distances are Fréchet's, of pixels."""

    floors: list[float]
    """Between a reference set of the target alone and others of it."""
    draft: float
    decoded: float
    unaligned: float
    target_to_data: float
    draft_to_data: float
    acceptance: dict[int, float]
    """By draft length."""
    acceptance_unaligned: float
    """With one draft length, each network with noise of its own."""
    per_call: dict[int, float]
    """Tokens for each call of the target, by draft length."""
    larger: tuple[float, float] | None
    """Acceptance and tokens for each call with the larger draft."""
    cost: float
    """Of a token of the draft, in multiplications by weights, over that of the target."""
    shown: dict[str, np.ndarray]


def chain() -> Chain:
    """Of six steps."""
    return Chain.of_betas(jnp.asarray(cosine_betas(STEPS), jnp.result_type(float)))


def trainers(recipe: Recipe) -> Trainer[RowModel]:
    """One for all networks."""
    levels = chain()

    def value(model: RowModel, pixels: Array, key: Array) -> Array:
        for_levels, for_loss = jax.random.split(key)
        return loss(model, levels, dequantised(for_levels, pixels).reshape(-1, ROWS, ROWS), for_loss)

    rates = optax.cosine_decay_schedule(2e-3, recipe.steps)
    return Trainer(value, optax.adam(rates), steps=recipe.steps, batch=128, average=0.995)


def train(
    recipe: Recipe, trainer: Trainer[RowModel], key: Array, *, larger: bool, advance: Callable[[int], None]
) -> Networks:
    """The target, the draft, and another draft if it is asked for."""
    pixels = load()[0].pixels
    networks: list[RowModel | None] = []
    sizes = (recipe.target, recipe.draft, recipe.larger if larger else None)
    for size, own in zip(sizes, jax.random.split(key, 3), strict=True):
        if size is None:
            networks.append(None)
            continue
        for_weights, for_training = jax.random.split(own)
        model = RowModel(ROWS, ROWS, STEPS, hidden=size[0], width=size[1], key=for_weights)
        tell = advance if size != recipe.larger else lambda steps: None
        networks.append(trainer(model, pixels, key=for_training, advance=tell).average)
    return Networks(*networks)


class Programs(NamedTuple):
    """Compiled once for all seeds."""

    alone: Callable[..., Any]
    """Of a network and keys."""
    both: dict[tuple[int, bool], Callable[..., Any]]
    """Of a draft, a target and keys, by draft length and whether the noise is shared."""


def programs(gammas: tuple[int, ...], gamma: int) -> Programs:
    """Samplers of many keys: by all draft lengths, and by one of them without shared noise."""
    levels, none = chain(), jnp.zeros((0, ROWS))

    def alone(network: RowModel, keys: Array) -> Array:
        return jax.vmap(lambda key: sequential_decode(key, network.model(levels), none, ROWS))(keys)

    def both(gamma: int, aligned: bool) -> Callable[..., Any]:
        options = {"gamma": gamma, "aligned": aligned, "prefill": 0.0, "residual": "reflection"}

        def fun(draft: RowModel, target: RowModel, keys: Array) -> Any:
            one = lambda key: speculative_decode(key, draft.model(levels), target.model(levels), none, ROWS, **options)
            return jax.vmap(one)(keys)

        return eqx.filter_jit(fun)

    pairs = [*((count, True) for count in sorted({*gammas, gamma})), (gamma, False)]
    return Programs(eqx.filter_jit(alone), {pair: both(*pair) for pair in pairs})


def drawn(programs: Programs, networks: Networks, key: Array, *, n: int, gamma: int) -> Images:
    """Sets of images, each with keys of its own."""
    count = FLOORS + 3 + len(programs.both)
    sets = iter(jax.random.split(key, count))
    keys = lambda: jax.random.split(next(sets), n)
    reference, *others = (programs.alone(networks.target, keys()) for _ in range(FLOORS + 1))
    small = programs.alone(networks.draft, keys())
    decoded = {pair: program(networks.draft, networks.target, keys()) for pair, program in programs.both.items()}
    truth, data = moments(reference), moments(jnp.asarray(load()[0].centered, reference.dtype))
    to = lambda x, law: float(frechet_distance(moments(x), law))
    accepted = lambda found: float(found.stats.accepted.sum() / found.stats.tested.sum())
    per_call = lambda found: float(ROWS * n / found.stats.target_calls.sum())
    larger = None
    if networks.larger is not None:
        found = programs.both[gamma, True](networks.larger, networks.target, keys())
        larger = (accepted(found), per_call(found))
    ours = decoded[gamma, True].tokens
    shown = {"target alone": reference, "speculative": ours, "draft alone": small}
    return Images(
        floors=[to(one, truth) for one in others],
        draft=to(small, truth),
        decoded=to(ours, truth),
        unaligned=to(decoded[gamma, False].tokens, truth),
        target_to_data=to(reference, data),
        draft_to_data=to(small, data),
        acceptance={count: accepted(found) for (count, aligned), found in decoded.items() if aligned},
        acceptance_unaligned=accepted(decoded[gamma, False]),
        per_call={count: per_call(found) for (count, aligned), found in decoded.items() if aligned},
        larger=larger,
        cost=networks.draft.products(STEPS) / networks.target.products(STEPS),
        shown={name: np.asarray(x[:SHOWN]) for name, x in shown.items()},
    )


def moments(x: Float[Array, "n ..."]) -> Moments:
    """Of pixels."""
    return Moments.of(x.reshape(len(x), -1))
