r"""Neural operators that are products of two networks: DeepONet, and MultiONet with products of several layers.

An operator maps a function, of which :math:`\beta` is a code, to a function of :math:`x`. A trunk sees :math:`x`, a
branch sees :math:`\beta`, and their layers meet only in inner products,

.. math:: G(x, \beta) = \frac1l \sum_{k = L - l + 1}^{L} w_k\, s\, \langle t_k(x), b_k(\beta) \rangle + c .

So `n` points and `m` codes cost `n + m` networks and one product of matrices, not `n m` networks; and a derivative in
:math:`x` passes through the trunk alone.

References
----------
Lu, Jin, Pang, Zhang and Karniadakis, "Learning nonlinear operators via DeepONet", Nature Machine Intelligence 2021
(arXiv 1910.03193). Zang and Koutsourelakis, "DGenNO", J. Comput. Phys. 538 (2025), arXiv 2502.06250: MultiONet.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, positive


def tanh_sin(x: Array) -> Array:
    r""":math:`\tanh(\sin(\pi (x + 1))) + x`."""
    return jnp.tanh(jnp.sin(jnp.pi * (x + 1))) + x


def silu_sin(x: Array) -> Array:
    r""":math:`\operatorname{silu}(\sin(\pi (x + 1))) + x`."""
    return jax.nn.silu(jnp.sin(jnp.pi * (x + 1))) + x


def silu_id(x: Array) -> Array:
    r""":math:`\operatorname{silu}(x) + x`."""
    return jax.nn.silu(x) + x


class Layers(eqx.Module):
    r"""A perceptron whose every layer is activated, and which returns all of them.

    Weights are uniform in :math:`\pm 1 / \sqrt{\text{inputs}}`, offsets zero.

    Parameters
    ----------
    inputs
        Numbers in.
    width
        Of each layer.
    depth
        Layers.
    channels
        With `m` of them the first layer makes `m` vectors, which the others map alike: the layers have shape
        `(m, width)`. `None`: one vector without that axis.

    Examples
    --------
    >>> layers = Layers(2, 8, 3, jnp.tanh, key=jax.random.key(0))
    >>> [one.shape for one in layers(jnp.ones(2))]
    [(8,), (8,), (8,)]
    """

    maps: tuple[eqx.nn.Linear, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)
    width: int = eqx.field(static=True)
    channels: int | None = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        activation: Callable[[Array], Array],
        *,
        channels: int | None = None,
        key: Array,
    ):
        for name, count in (("inputs", inputs), ("width", width), ("depth", depth), ("channels", channels or 1)):
            at_least(name, count, 1)
        sizes = [(inputs, width * (channels or 1)), *[(width, width)] * (depth - 1)]
        keys = jax.random.split(key, depth)
        maps = [eqx.nn.Linear(*size, key=key) for size, key in zip(sizes, keys, strict=True)]
        zeroed = [eqx.tree_at(lambda one: one.bias, layer, jnp.zeros_like(layer.bias)) for layer in maps]
        self.maps, self.activation, self.width, self.channels = tuple(zeroed), activation, width, channels

    def __call__(self, x: Float[Array, " inputs"]) -> list[Float[Array, ...]]:
        """All layers, from the first."""
        first, *others = self.maps
        x = self.activation(first(x))
        x = x if self.channels is None else x.reshape(self.channels, self.width)
        found = [x]
        for one in others:
            x = self.activation(x @ one.weight.T + one.bias)
            found.append(x)
        return found


class MultiONet(eqx.Module):
    r"""The mean of inner products of the last layers of a trunk and a branch.

    .. math:: G(x, \beta) = \frac1l \sum_{k = L - l + 1}^{L} w_k\, s\, \langle t_k(x), b_k(\beta) \rangle + c

    With a branch of `m` channels there are `m` such sums, and a last linear map makes `out_features` of them.

    Parameters
    ----------
    trunk, branch
        Of :math:`x` and of :math:`\beta`, as deep and as wide as each other.
    num_products
        :math:`l`, less than the layers :math:`L`.
    out_features
        Values at a point; `None` for a number. It needs a branch with channels.
    weight
        The :math:`w_k` to start from. With zero nothing but :math:`w` has a gradient in the first step.
    scaled
        Whether :math:`s = 1 / \sqrt{\text{width}}`, and not one.
    key
        Of the last linear map, where there is one.

    Raises
    ------
    ValueError
        For as many products as there are layers or more, networks that do not fit each other, and channels without
        `out_features` or the other way round.

    Examples
    --------
    >>> one, other = jax.random.split(jax.random.key(0))
    >>> net = MultiONet(Layers(1, 8, 3, tanh_sin, key=one), Layers(4, 8, 3, tanh_sin, key=other), 2)
    >>> net(jnp.ones(1), jnp.ones(4)).shape, net.grid(jnp.ones((7, 1)), jnp.ones((5, 4))).shape
    ((), (5, 7))
    """

    trunk: Layers
    branch: Layers
    weights: Float[Array, " l"]
    offset: Float[Array, "*channels"]
    last: eqx.nn.Linear | None
    num_products: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        trunk: Layers,
        branch: Layers,
        num_products: int,
        out_features: int | None = None,
        *,
        weight: float = 0.5,
        scaled: bool = True,
        key: Array | None = None,
    ):
        depth = len(trunk.maps)
        if (depth, trunk.width) != (len(branch.maps), branch.width):
            raise ValueError(
                f"trunk and branch must be of as many layers, as wide: given {depth} of {trunk.width} and "
                f"{len(branch.maps)} of {branch.width}."
            )
        if not 1 <= num_products < depth:
            raise ValueError(f"num_products must be from 1 to {depth - 1}, less than the layers: given {num_products}.")
        if trunk.channels is not None:
            raise ValueError(f"trunk must have no channels, which are the branch's: given {trunk.channels}.")
        if (branch.channels is None) != (out_features is None):
            raise ValueError(
                f"out_features needs a branch with channels, and channels need it: given {out_features} and "
                f"{branch.channels} channels."
            )
        self.trunk, self.branch, self.num_products = trunk, branch, num_products
        self.weights = jnp.full(num_products, weight, float)
        self.offset = jnp.zeros(() if branch.channels is None else branch.channels)
        self.scale = trunk.width**-0.5 if scaled else 1.0
        if out_features is None:
            self.last = None
        else:
            if key is None:
                raise ValueError("key must be that of the last map of a net with out_features: given None.")
            self.last = eqx.nn.Linear(branch.channels, out_features, key=key)

    def __call__(self, x: Float[Array, " p"], beta: Float[Array, " d"]) -> Float[Array, "*out"]:
        """At one point for one code."""
        return self.grid(x[None], beta[None])[0, 0]

    def grid(self, x: Float[Array, "n p"], beta: Float[Array, "m d"]) -> Float[Array, "m n *out"]:
        """At each point for each code; what happens at a point depends on that point alone."""
        found = jnp.einsum("nq,m...q->mn...", self.basis(x), self.features(beta)) + self.offset
        return found if self.last is None else found @ self.last.weight.T + self.last.bias

    def basis(self, x: Float[Array, "n p"]) -> Float[Array, "n q"]:
        """What the trunk brings into the sum: the layers of all products side by side, with their weights."""
        layers = jax.vmap(self.trunk)(x)[-self.num_products :]
        weighted = [w * t for w, t in zip(self.weights, layers, strict=True)]
        return jnp.concatenate(weighted, axis=-1) * (self.scale / self.num_products)

    def features(self, beta: Float[Array, "m d"]) -> Float[Array, "m *channels q"]:
        """What the branch brings into it."""
        return jnp.concatenate(jax.vmap(self.branch)(beta)[-self.num_products :], axis=-1)


class DeepONet(MultiONet):
    """The inner product of the last layers alone: a :class:`MultiONet` of one product, with its other arguments."""

    def __init__(
        self,
        trunk: Layers,
        branch: Layers,
        out_features: int | None = None,
        *,
        weight: float = 0.5,
        scaled: bool = True,
        key: Array | None = None,
    ):
        super().__init__(trunk, branch, 1, out_features, weight=weight, scaled=scaled, key=key)


class Scaled(eqx.Module):
    r"""A net in the units of what it stands for: :math:`s\, b(x)\, G(x, \beta)`.

    Parameters
    ----------
    net
        A :class:`MultiONet`.
    scale
        The size of what it stands for, in its units: without it, training has to find it.
    boundary
        :math:`b`, a function of points `(n, p)`, such as one that vanishes on the boundary; one, if it is not given.
    """

    net: MultiONet
    scale: float = eqx.field(static=True, default=1.0)
    boundary: Callable[[Array], Array] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        positive("scale", self.scale)

    def __call__(self, x: Float[Array, " p"], beta: Float[Array, " d"]) -> Float[Array, "*out"]:
        """At one point for one code."""
        return self.grid(x[None], beta[None])[0, 0]

    def grid(self, x: Float[Array, "n p"], beta: Float[Array, "m d"]) -> Float[Array, "m n *out"]:
        """At each point for each code."""
        found, factor = self.net.grid(x, beta), self._factor(x)
        return found * factor.reshape(factor.shape + (1,) * (found.ndim - 2))

    def basis(self, x: Float[Array, "n p"]) -> Float[Array, "n q"]:
        """As of the net, in units."""
        return self._factor(x)[:, None] * self.net.basis(x)

    def _factor(self, x: Float[Array, "n p"]) -> Float[Array, " n"]:
        return self.scale * (jnp.ones(len(x), x.dtype) if self.boundary is None else self.boundary(x))


class Tabulated(eqx.Module):
    """A net of numbers at points that stay: the trunk is evaluated once, and of a code only the branch.

    Where the same points are met by many codes one after the other, as in a sampler, this is what costs least.
    """

    branch: MultiONet
    values: Float[Array, "n q+1"]
    slopes: Float[Array, "n q+1 p"]

    def __init__(self, net: MultiONet | Scaled, x: Float[Array, "n p"]):
        inner = net.net if isinstance(net, Scaled) else net
        if inner.last is not None:
            raise ValueError("net must be one of numbers, without out_features: given a net of vectors.")

        def columns(x: Array) -> Array:
            factor = net._factor(x) if isinstance(net, Scaled) else jnp.ones(len(x), x.dtype)
            return jnp.concatenate([net.basis(x), (factor * inner.offset)[:, None]], axis=-1)

        pushed = [jax.jvp(columns, (x,), (jnp.broadcast_to(e, x.shape),)) for e in jnp.eye(x.shape[-1], dtype=x.dtype)]
        self.branch, self.values = inner, pushed[0][0]
        self.slopes = jnp.stack([slope for _, slope in pushed], axis=-1)

    def _features(self, beta: Float[Array, "m d"]) -> Float[Array, "m q+1"]:
        return jnp.concatenate([self.branch.features(beta), jnp.ones((len(beta), 1), beta.dtype)], axis=-1)

    def value(self, beta: Float[Array, "m d"]) -> Float[Array, "m n"]:
        """At each point for each code."""
        return self._features(beta) @ self.values.T

    def slope(self, beta: Float[Array, "m d"]) -> Float[Array, "m n p"]:
        """The gradient in the point there."""
        return jnp.einsum("nqp,mq->mnp", self.slopes, self._features(beta))


def vanishing(x: Float[Array, "n p"]) -> Float[Array, " n"]:
    r""":math:`\prod_i \sin(\pi x_i)`, which is zero on the boundary of the unit cube."""
    return jnp.prod(jnp.sin(jnp.pi * x), axis=-1)
