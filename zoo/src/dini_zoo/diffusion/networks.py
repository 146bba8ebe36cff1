r"""Networks of a point and a time: residual layers for 8×8 images as vectors, layers for a chain's steps, for few
dimensions, and any other network in their form.

All take a batch at once, `x` of shape `(..., d)` and `t` a number or an array of the batch's shape: for one time its
features are computed once. Samplers call them with a number, losses with a time for each point; `Timed` makes a network
that takes one form take both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least


def normal_init(key: Array, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """Normal weights with variance one over the number of inputs, which are the columns."""
    return jax.random.normal(key, (rows, columns)) / jnp.sqrt(columns)


def time_features(t: Any, count: int, highest: float = 1000.0) -> Float[Array, "... f"]:
    """Sines and cosines of `t`, `count` in all, at frequencies from 1 to `highest` in geometric steps."""
    frequencies = jnp.geomspace(1.0, highest, count // 2)
    angles = jnp.asarray(t)[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def step_features(t: Any, count: int, slowest: float = 1e-4) -> Float[Array, "... f"]:
    r"""Sines and cosines of a chain's step, `count` in all: :math:`\sin, \cos(t\, r^{k / h})`, :math:`h` half of them.

    :math:`k` is from 0 to :math:`h - 1` and :math:`r` is `slowest`. `t` is the step of the chain that was trained on,
    from 0 to some thousand, also where samplers skip most of them.
    """
    half = count // 2
    angles = jnp.asarray(t)[..., None] * slowest ** (jnp.arange(half) / half)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def layer_norm(h: Float[Array, "... w"]) -> Float[Array, "... w"]:
    """Without scale and offset."""
    away = h - jnp.mean(h, axis=-1, keepdims=True)
    return away * jax.lax.rsqrt(jnp.mean(away**2, axis=-1, keepdims=True) + 1e-5)


class Block(eqx.Module):
    r""":math:`h + W_2\, \mathrm{silu}(W_1 \mathrm{LN}(h) + b_1 + W_t e) + b_2`, with :math:`W_2` zero at first."""

    first: Array
    offset: Array
    time: Array
    second: Array
    last: Array

    def __init__(self, width: int, features: int, *, key: Array):
        one, other = jax.random.split(key)
        self.first, self.offset = normal_init(one, width, width), jnp.zeros(width)
        self.time = normal_init(other, width, features)
        self.second, self.last = jnp.zeros((width, width)), jnp.zeros(width)

    def __call__(self, h: Array, given: Array, gate: Any = 1.0) -> Array:
        """The block, its residual branch times a gate."""
        inner = jax.nn.silu(layer_norm(h) @ self.first.T + self.offset + given @ self.time.T)
        return h + gate * (inner @ self.second.T + self.last)


class ResidualNetwork(eqx.Module):
    r"""Residual blocks with layer norm between a first and a last linear map; every block takes the time.

    Parameters
    ----------
    size
        Numbers in a point.
    width, blocks
        Of the blocks, and how many.
    outputs
        As many as `size` if it is not given.
    condition
        Numbers in a condition, which is given to the first layer beside the point.
    features
        Sines and cosines of the time.
    key
        Of the weights. The last layer is zero at first, and so is what the network says.

    Examples
    --------
    >>> network = ResidualNetwork(64, width=32, blocks=2, key=jax.random.key(0))
    >>> network(jnp.zeros((5, 64)), 0.5).shape
    (5, 64)
    """

    inlet: Array
    inlet_offset: Array
    blocks: tuple[Block, ...]
    outlet: Array
    outlet_offset: Array
    features: int = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        *,
        width: int = 256,
        blocks: int = 6,
        outputs: int | None = None,
        condition: int = 0,
        features: int = 64,
        key: Array,
    ):
        at_least("width", width, 1)
        at_least("blocks", blocks, 1)
        first, *keys = jax.random.split(key, blocks + 1)
        outputs = size if outputs is None else outputs
        self.inlet, self.inlet_offset = normal_init(first, width, size + condition), jnp.zeros(width)
        self.blocks = tuple(Block(width, features, key=key) for key in keys)
        self.outlet, self.outlet_offset = jnp.zeros((outputs, width)), jnp.zeros(outputs)
        self.features = features

    def __call__(
        self,
        x: Float[Array, "... d"],
        t: Any,
        condition: Float[Array, "... c"] | None = None,
        *,
        gates: Float[Array, " b"] | None = None,
    ) -> Float[Array, "... o"]:
        """What the network says of points at a time or at one each.

        `gates` multiply the residual branch of each block: with 0 it is left out, with 1 nothing changes.
        """
        features = time_features(t, self.features).astype(self.inlet.dtype)
        given = x if condition is None else jnp.concatenate([x, condition], axis=-1)
        h = given @ self.inlet.T + self.inlet_offset
        for i, block in enumerate(self.blocks):
            h = block(h, features, 1.0 if gates is None else gates[i])
        return layer_norm(h) @ self.outlet.T + self.outlet_offset


class PointNetwork(eqx.Module):
    r"""A network for points of a few dimensions and a time in [0, 1], with several vectors of that size as outputs.

    The inputs are :math:`x, t, \sin \pi k t, \cos \pi k t` with :math:`k` of 1, 2, 4, 8. A first layer to the width is
    followed by steps :math:`h \mathrel{+}= \mathrm{silu}(W h + b)` and a linear map.

    Examples
    --------
    >>> velocity, noise = PointNetwork(2, key=jax.random.key(0))(jnp.zeros((5, 2)), 0.5)
    >>> velocity.shape, noise.shape
    ((5, 2), (5, 2))
    """

    weights: tuple[Array, ...]
    offsets: tuple[Array, ...]
    outlet: Array
    outlet_offset: Array
    outputs: int = eqx.field(static=True)

    def __init__(self, size: int, *, width: int = 128, layers: int = 3, outputs: int = 2, key: Array):
        at_least("width", width, 1)
        at_least("layers", layers, 1)
        keys = jax.random.split(key, layers + 1)
        widths = (size + 9, *[width] * layers)
        self.weights = tuple(
            jnp.sqrt(2.0) * normal_init(key, n, m) for key, m, n in zip(keys, widths[:-1], widths[1:], strict=False)
        )
        self.offsets = tuple(jnp.zeros(width) for _ in range(layers))
        self.outlet, self.outlet_offset = normal_init(keys[-1], outputs * size, width), jnp.zeros(outputs * size)
        self.outputs = outputs

    def __call__(self, x: Float[Array, "... d"], t: Any) -> tuple[Float[Array, "... d"], ...]:
        """The outputs at points, at a time or at one each."""
        t = jnp.broadcast_to(jnp.asarray(t, x.dtype), x.shape[:-1])[..., None]
        angles = jnp.pi * t * jnp.array([1.0, 2.0, 4.0, 8.0], x.dtype)
        h = jnp.concatenate([x, t, jnp.sin(angles), jnp.cos(angles)], axis=-1) @ self.weights[0].T + self.offsets[0]
        h = jax.nn.silu(h)
        for W, b in zip(self.weights[1:], self.offsets[1:], strict=True):
            h = h + jax.nn.silu(h @ W.T + b)
        return tuple(jnp.split(h @ self.outlet.T + self.outlet_offset, self.outputs, axis=-1))


class StepNetwork(eqx.Module):
    r"""A plain network of a point, a condition and a step: silu layers on all three side by side.

    With a `code` of :math:`k` numbers the features of the step are :math:`e(t) + P(z)`, where :math:`e` is
    :func:`step_features` and :math:`P(z) = W_2\, \mathrm{silu}(W_1 z + b_1) + b_2` has as many numbers.

    Parameters
    ----------
    size
        Numbers in a point.
    condition
        Numbers in a condition, such as a reconstruction: zeros where none is given.
    code
        Numbers in a code that is added to the step's features: zeros where none is given. With 0 there is no
        :math:`P`.
    width, depth
        Of the hidden layers, and how many.
    outputs
        As many as `size` if it is not given.
    features
        Sines and cosines of the step: :func:`step_features`.
    key
        Of the weights, in `depth + 1` linear layers, which are the same with and without a code.

    Raises
    ------
    ValueError
        For fewer than one hidden layer or unit, a negative number for the code, and, where called, a condition or a
        code of another shape. A code is one for each point: it is not broadcast.

    Examples
    --------
    >>> network = StepNetwork(64, condition=64, key=jax.random.key(0))
    >>> network(jnp.zeros((5, 64)), 999, jnp.ones((5, 64))).shape, network(jnp.zeros((5, 64)), jnp.arange(5)).shape
    ((5, 64), (5, 64))
    >>> network = StepNetwork(64, condition=64, code=8, key=jax.random.key(0))
    >>> network(jnp.zeros((5, 64)), 999, jnp.ones((5, 64)), jnp.ones((5, 8))).shape
    (5, 64)
    """

    layers: tuple[eqx.nn.Linear, ...]
    embedding: tuple[eqx.nn.Linear, ...]
    condition: int = eqx.field(static=True)
    code: int = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        *,
        condition: int = 0,
        code: int = 0,
        width: int = 256,
        depth: int = 3,
        outputs: int | None = None,
        features: int = 32,
        key: Array,
    ):
        at_least("code", code, 0)
        at_least("width", width, 1)
        at_least("depth", depth, 1)
        widths = (size + condition + features, *[width] * depth, size if outputs is None else outputs)
        keys = jax.random.split(key, depth + 1)
        self.layers = tuple(
            eqx.nn.Linear(n, m, key=key) for n, m, key in zip(widths[:-1], widths[1:], keys, strict=True)
        )
        sizes = ((code, features), (features, features)) if code else ()
        self.embedding = tuple(
            eqx.nn.Linear(*size, key=jax.random.fold_in(key, depth + 1 + i)) for i, size in enumerate(sizes)
        )
        self.condition, self.code, self.features = condition, code, features

    def __call__(
        self,
        x: Float[Array, "... d"],
        t: Any,
        condition: Float[Array, "... c"] | None = None,
        code: Float[Array, "... k"] | None = None,
    ) -> Float[Array, "... o"]:
        """What the network says of points at a step or at one each."""
        features = step_features(t, self.features).astype(x.dtype)
        if code is not None and code.shape != (*x.shape[:-1], self.code):
            raise ValueError(
                f"code must have {self.code} numbers for each point, the shape {(*x.shape[:-1], self.code)}: given "
                f"shape {code.shape}."
            )
        if self.code:
            first, last = self.embedding
            hidden = jnp.zeros(self.code, x.dtype) if code is None else code
            hidden = jax.nn.silu(hidden @ first.weight.T + first.bias)
            features = features + hidden @ last.weight.T + last.bias
        given = jnp.zeros(self.condition, x.dtype) if condition is None else condition
        if given.shape[-1] != self.condition:
            raise ValueError(f"condition must have {self.condition} numbers a point: given shape {given.shape}.")
        h = jnp.concatenate(
            [jnp.broadcast_to(one, (*x.shape[:-1], one.shape[-1])) for one in (x, given, features)], axis=-1
        )
        for layer in self.layers[:-1]:
            h = jax.nn.silu(h @ layer.weight.T + layer.bias)
        return h @ self.layers[-1].weight.T + self.layers[-1].bias


class Timed(eqx.Module):
    r"""A network that takes times in one form, as one that takes a number and a time for each point alike.

    Parameters
    ----------
    network
        Called with points `(n, ...)`, times `(n,)` and what else is given.
    single
        Whether it is called with a single point, a number and a single one of what else is given instead, as Equinox'
        layers are: it is mapped over the batch.

    Raises
    ------
    ValueError
        Where called with times that are neither a number nor one for each point.

    Examples
    --------
    >>> mlp = eqx.nn.MLP(3, 2, 16, 1, key=jax.random.key(0))
    >>> score = Timed(lambda x, t: mlp(jnp.append(x, t)), single=True)
    >>> score(jnp.zeros((5, 2)), 0.5).shape, score(jnp.zeros((5, 2)), jnp.ones(5)).shape
    ((5, 2), (5, 2))
    """

    network: Callable[..., Any]
    single: bool = eqx.field(static=True, default=False)

    def __call__(self, x: Float[Array, "n ..."], t: Any, *others: Any) -> Any:
        """What the network says of points at a time or at one each."""
        t = jnp.asarray(t)
        if t.shape not in ((), (len(x),)):
            raise ValueError(f"t must be a number, or one for each of the {len(x)} points: given shape {t.shape}.")
        network = jax.vmap(self.network) if self.single else self.network
        return network(x, jnp.broadcast_to(t, (len(x),)), *others)
