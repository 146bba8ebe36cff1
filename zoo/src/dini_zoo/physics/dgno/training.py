"""Networks of the experiment, their training without a solution, and the baselines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.training import Course, Trainer

from ..layered import solve_layered
from ..operators import Layers, MultiONet, Scaled, silu_id, tanh_sin, vanishing
from ..random_fields import KarhunenLoeve, cell_centers, squared_exponential, two_phase
from ..weak_forms import grid_rule
from .darcy import Darcy
from .generative import GenerativeOperator, virtual_observable_loss
from .two_phase import TwoPhase

SOURCE, LENGTH, TERMS, RADIUS = 10.0, 0.12, 24, 0.05
MULTI, DEEP, DIRECT = KINDS = ("MultiONet", "DeepONet", "PI-DeepONet")


class Sizes(NamedTuple):
    """Of data and networks."""

    cells: int = 64
    train: int = 400
    test: int = 64
    latent: int = 16
    width: int = 48
    depth: int = 4
    products: int = 3
    hidden: int = 128
    steps: int = 1000
    batch: int = 16
    centers: int = 32
    rate: float = 4e-3


class Data(NamedTuple):
    """Media in rows, and the exact pressure of those to test with."""

    train: Float[np.ndarray, "m n"]
    test: Float[np.ndarray, "k n"]
    u: Float[np.ndarray, "k n+1"]


def problem(sizes: Sizes) -> TwoPhase:
    """The flow of the experiment, on a line."""
    return TwoPhase(Darcy(grid_rule(11, 1), RADIUS, SOURCE), (sizes.cells,), centers=sizes.centers)


def media(key: Array, sizes: Sizes, flow: TwoPhase) -> Data:
    """Signs of a Gaussian field on the cells; in double precision, as the exact solutions are."""
    with jax.enable_x64(True):
        points = cell_centers(flow.shape)
        field = KarhunenLoeve.of(points, squared_exponential(LENGTH), min(TERMS, sizes.cells))

        @jax.jit
        def drawn(key: Array) -> tuple[Array, Array]:
            a = two_phase(field.sample(key, sizes.train + sizes.test), flow.low, flow.high)
            return a, solve_layered(a[sizes.train :], SOURCE).u

        a, u = (np.asarray(one, np.float32) for one in drawn(key))
        return Data(a[: sizes.train], a[sizes.train :], u)


class Standard(eqx.Module):
    """Media, standardized cell by cell over those to train with."""

    mean: Float[Array, " n"]
    deviation: Float[Array, " n"]

    def __init__(self, a: Any):
        # a cell that is the same in all media says nothing
        self.mean, self.deviation = jnp.asarray(a.mean(0)), jnp.maximum(jnp.asarray(a.std(0)), 1e-6)

    def __call__(self, a: Float[Array, " n"]) -> Float[Array, " n"]:
        # both are data, and not trained
        return (a - jax.lax.stop_gradient(self.mean)) / jax.lax.stop_gradient(self.deviation)


class Encoder(eqx.Module):
    """A perceptron of one hidden layer on standardized media."""

    standard: Standard
    net: eqx.nn.MLP

    def __init__(self, a: Any, latent: int, hidden: int, *, key: Array):
        net = eqx.nn.MLP(a.shape[1], latent, hidden, 1, jax.nn.silu, key=key)
        self.net = eqx.tree_at(lambda one: [layer.bias for layer in one.layers], net, replace_fn=jnp.zeros_like)
        self.standard = Standard(a)

    def __call__(self, a: Float[Array, " n"]) -> Float[Array, " d"]:
        return self.net(self.standard(a))


def decoder(key: Array, sizes: Sizes, activation: Callable[[Array], Array], inputs: int, products: int) -> MultiONet:
    """One net on the line for codes of so many numbers."""
    for_trunk, for_branch = jax.random.split(key)
    trunk = Layers(1, sizes.width, sizes.depth, activation, key=for_trunk)
    branch = Layers(inputs, sizes.width, sizes.depth, activation, key=for_branch)
    return MultiONet(trunk, branch, products)


def start(kind: str, key: Array, sizes: Sizes, data: Data) -> GenerativeOperator:
    """A model before training; the same key gives the same weights to both generative ones.

    `PI-DeepONet` has no latent: its branches see the medium itself, and it decodes no medium.
    """
    keys = jax.random.split(key, 4)
    inputs = sizes.cells if kind == DIRECT else sizes.latent
    products = sizes.products if kind == MULTI else 1
    make = lambda key, activation: decoder(key, sizes, activation, inputs, products)
    decoders = {"u": Scaled(make(keys[1], tanh_sin), 0.5, vanishing), "s": Scaled(make(keys[2], tanh_sin), 5.0)}
    if kind == DIRECT:
        return GenerativeOperator(Standard(data.train), decoders)
    decoders["logit"] = make(keys[0], silu_id)
    return GenerativeOperator(Encoder(data.train, sizes.latent, sizes.hidden, key=keys[3]), decoders)


class Trainers:
    """One compiled program for each kind of model, whatever the seed."""

    def __init__(self, sizes: Sizes):
        self.sizes, self.flow = sizes, problem(sizes)
        optimizer = optax.chain(
            optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(sizes.rate, sizes.steps))
        )
        make = lambda kind: Trainer(self._loss(kind), optimizer, steps=sizes.steps, batch=sizes.batch, aux=True)
        self._trainers = {kind: make(kind) for kind in KINDS}

    def _loss(self, kind: str) -> Callable[[GenerativeOperator, Array, Array], Any]:
        flow, none = self.flow, lambda model, beta, a: jnp.zeros(len(a), a.dtype)

        def loss(model: GenerativeOperator, a: Array, key: Array) -> Any:
            virtual = lambda model, beta, key: flow.virtual(model, beta, flow.draw(key), flow.medium(a))
            reconstruction = none if kind == DIRECT else flow.reconstruction
            return virtual_observable_loss(model, a, key, reconstruction=reconstruction, virtual=virtual)

        return loss

    def train(
        self, kind: str, data: Data, key: Array, advance: Callable[[int], None] = lambda steps: None
    ) -> Course[GenerativeOperator]:
        """One training."""
        for_weights, for_steps = jax.random.split(key)
        model = start(kind, for_weights, self.sizes, data)
        return self._trainers[kind](model, data.train, key=for_steps, advance=advance)
