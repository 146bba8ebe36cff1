r"""Layers whose weights answer to hyperparameters: a second set of weights, its rows gated by linear functions of them.

.. math:: W(\lambda) = W_{\text{elem}} + \operatorname{diag}(V \lambda) \, W_{\text{hyper}}, \qquad
          b(\lambda) = b_{\text{elem}} + (C \lambda) \odot b_{\text{hyper}} .

Every example of a batch may have hyperparameters of its own: the gates act on activations, and no weights are built.

References
----------
M. MacKay, P. Vicol, J. Lorraine, D. Duvenaud, R. Grosse, "Self-tuning networks: bilevel optimization of hyperparameters
using structured best-response functions", ICLR 2019 (arXiv 1903.03088). J. Bae, R. Grosse, "Delta-STN: efficient
bilevel optimization for neural networks using structured response Jacobians", NeurIPS 2020 (centered gates).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, taken

#: The deviation of the gates' weights at the start.
GATES = 0.01


class _HyperLayer(eqx.Module):
    """Two layers of one kind, and the gates of the second one."""

    elementary: Any
    hyper: Any
    gates: Float[Array, "g h"]
    """:math:`V`, followed by :math:`C` where there is a bias."""
    center: Float[Array, " h"]
    """What is taken from the hyperparameters before they reach the gates; it is not trained."""
    name: str = eqx.field(static=True)

    def __init__(self, elementary: Any, hyper: Any, n_hyper: int, key: Array, center: Any, name: str):
        at_least("n_hyper", n_hyper, 1)
        rows = elementary.weight.shape[1] if isinstance(elementary, eqx.nn.Embedding) else elementary.weight.shape[0]
        biased = getattr(elementary, "bias", None) is not None
        self.elementary, self.hyper, self.name = elementary, hyper, name
        self.gates = GATES * jax.random.normal(key, (rows * (1 + biased), n_hyper), elementary.weight.dtype)
        self.center = jnp.broadcast_to(jnp.asarray(center, elementary.weight.dtype), (n_hyper,))

    def gated(self, h: Float[Array, "*n h"], examples: int | None = None) -> tuple[Array, Array | None]:
        """The gates of weights and of biases, for a batch of so many examples."""
        if np.ndim(h) not in (1, 2) or np.shape(h)[-1] != self.gates.shape[1]:
            raise ValueError(
                f"The layer {self.name} takes {self.gates.shape[1]} hyperparameters, or a row of them for each "
                f"example: given the shape {np.shape(h)}."
            )
        if np.ndim(h) == 2 and examples is not None and examples != np.shape(h)[0]:
            raise ValueError(
                f"The layer {self.name} takes a row of hyperparameters for each example, or a vector for all of them: "
                f"given {examples} examples and hyperparameters of the shape {np.shape(h)}."
            )
        found = (h - jax.lax.stop_gradient(self.center)) @ self.gates.T
        if getattr(self.elementary, "bias", None) is None:
            return found, None
        weights, biases = jnp.split(found, 2, axis=-1)
        return weights, biases

    def _at(self, h: Float[Array, " h"], weight_gate: Array) -> Any:
        """The plain layer, with the first gate in the form of its weights."""
        where = lambda layer: layer.weight
        layer = eqx.tree_at(where, self.elementary, self.elementary.weight + weight_gate * self.hyper.weight)
        _, biases = self.gated(h)
        if biases is None:
            return layer
        shape = self.elementary.bias.shape
        return eqx.tree_at(_bias, layer, self.elementary.bias + biases.reshape(shape) * self.hyper.bias)


def _bias(layer: Any) -> Any:
    return layer.bias


class HyperLinear(_HyperLayer):
    """A dense layer.

    Parameters
    ----------
    in_features, out_features
        As those of `eqx.nn.Linear`, whose initial values both sets of weights have.
    n_hyper
        How many hyperparameters.
    key
        Of the initial values.
    use_bias
        Whether there are biases.
    center
        Taken from the hyperparameters before they reach the gates: where they are large, training is slow without.
    name
        For messages.

    Examples
    --------
    >>> layer = HyperLinear(3, 2, 4, key=jax.random.key(0))
    >>> x, h = jnp.ones((5, 3)), jnp.zeros((5, 4)).at[0].set(1.0)
    >>> y = layer(x, h)
    >>> print(y.shape, bool(jnp.all(y[0] != y[1])), bool(jnp.all(y[1] == y[2])))
    (5, 2) True True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_hyper: int,
        *,
        key: Array,
        use_bias: bool = True,
        center: Any = 0.0,
        name: str = "HyperLinear",
    ):
        keys = jax.random.split(key, 3)
        one, other = (eqx.nn.Linear(in_features, out_features, use_bias=use_bias, key=key) for key in keys[:2])
        super().__init__(one, other, n_hyper, keys[2], center, name)

    def __call__(self, x: Float[Array, "*n i"], h: Float[Array, "*m h"]) -> Float[Array, "*n o"]:
        """The layer at `x`, one example or a batch, with hyperparameters for all of it or for each example."""
        weights, biases = self.gated(h, np.shape(x)[0] if np.ndim(x) > 1 else None)
        y = x @ self.elementary.weight.T + weights * (x @ self.hyper.weight.T)
        return y if biases is None else y + self.elementary.bias + biases * self.hyper.bias

    def at(self, h: Float[Array, " h"]) -> eqx.nn.Linear:
        """The plain layer for these hyperparameters."""
        return self._at(h, self.gated(h)[0][:, None])


class HyperConv(_HyperLayer):
    """A convolution in two dimensions, a gate for each output channel.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding
        As those of `eqx.nn.Conv2d`.
    n_hyper, key, use_bias, center, name
        As those of :class:`HyperLinear`.

    Examples
    --------
    >>> layer = HyperConv(1, 2, 3, n_hyper=4, padding=1, key=jax.random.key(0))
    >>> layer(jnp.ones((5, 1, 8, 8)), jnp.zeros((5, 4))).shape
    (5, 2, 8, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        n_hyper: int,
        key: Array,
        stride: int = 1,
        padding: int | str = 0,
        use_bias: bool = True,
        center: Any = 0.0,
        name: str = "HyperConv",
    ):
        keys = jax.random.split(key, 3)
        if not isinstance(padding, str):
            at_least("padding", padding, 0)
        how = {"stride": stride, "padding": padding, "use_bias": use_bias}
        one, other = (eqx.nn.Conv2d(in_channels, out_channels, kernel_size, key=key, **how) for key in keys[:2])
        super().__init__(one, other, n_hyper, keys[2], center, name)

    def __call__(self, x: Float[Array, "*n c a b"], h: Float[Array, "*m h"]) -> Float[Array, "*n o d e"]:
        """The layer at an image or a batch of them, with hyperparameters for all of it or for each image."""
        if np.ndim(x) == 3:
            return self(x[None], h)[0]
        over_space = lambda gate: gate[..., None, None]
        bare = lambda layer: jax.vmap(layer if layer.bias is None else eqx.tree_at(_bias, layer, 0 * layer.bias))
        weights, biases = self.gated(h, np.shape(x)[0])
        y = bare(self.elementary)(x) + over_space(weights) * bare(self.hyper)(x)
        return y if biases is None else y + self.elementary.bias + over_space(biases) * self.hyper.bias

    def at(self, h: Float[Array, " h"]) -> eqx.nn.Conv2d:
        """The plain layer for these hyperparameters."""
        return self._at(h, self.gated(h)[0][:, None, None, None])


class HyperEmbedding(_HyperLayer):
    """An embedding, a gate for each of its dimensions.

    Parameters
    ----------
    num_embeddings, embedding_size
        As those of `eqx.nn.Embedding`.
    n_hyper, key, center, name
        As those of :class:`HyperLinear`.

    Examples
    --------
    >>> layer = HyperEmbedding(10, 3, n_hyper=2, key=jax.random.key(0))
    >>> layer(jnp.array([1, 1, 7]), jnp.ones(2)).shape
    (3, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_size: int,
        *,
        n_hyper: int,
        key: Array,
        center: Any = 0.0,
        name: str = "HyperEmbedding",
    ):
        keys = jax.random.split(key, 3)
        one, other = (eqx.nn.Embedding(num_embeddings, embedding_size, key=key) for key in keys[:2])
        super().__init__(one, other, n_hyper, keys[2], center, name)

    def __call__(self, i: Int[Array, "*n"], h: Float[Array, "*m h"]) -> Float[Array, "*n d"]:
        """The rows of these numbers."""
        examples = np.shape(i)[0] if np.ndim(i) else None
        rows = taken("i", self.elementary.weight, i), taken("i", self.hyper.weight, i)
        return rows[0] + self.gated(h, examples)[0] * rows[1]

    def at(self, h: Float[Array, " h"]) -> eqx.nn.Embedding:
        """The plain layer for these hyperparameters."""
        return self._at(h, self.gated(h)[0])


def _is_plain(node: Any) -> bool:
    return isinstance(node, eqx.nn.Linear | eqx.nn.Conv2d | eqx.nn.Embedding)


def hyperize(model: Any, n_hyper: int, key: Array, *, center: Any = 0.0) -> Any:
    """A model whose dense, convolutional and embedding layers answer to hyperparameters.

    The layers that it had become the elementary ones. The model is called through :func:`settle`, or passes the
    hyperparameters to its layers itself, which saves building weights for each example.

    Parameters
    ----------
    model
        An Equinox module with layers of `eqx.nn`.
    n_hyper, center
        As those of :class:`HyperLinear`.
    key
        Of what is new.

    Raises
    ------
    ValueError
        Where the model has no such layer.

    Examples
    --------
    >>> model = hyperize(eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0)), 4, jax.random.key(1))
    >>> settle(model, jnp.zeros(4))(jnp.ones(3)).shape
    (2,)
    """
    paths = [path for path, node in jax.tree.leaves_with_path(model, is_leaf=_is_plain) if _is_plain(node)]
    if not paths:
        raise ValueError(
            "model has no layer of eqx.nn that can answer to hyperparameters: Linear, Conv2d or Embedding."
        )
    keys = dict(zip(map(jax.tree_util.keystr, paths), jax.random.split(key, len(paths)), strict=True))

    def answering(path: Any, node: Any) -> Any:
        if not _is_plain(node):
            return node
        name = jax.tree_util.keystr(path)
        for_weights, for_gates = jax.random.split(keys[name])
        kinds = {eqx.nn.Linear: HyperLinear, eqx.nn.Conv2d: HyperConv, eqx.nn.Embedding: HyperEmbedding}
        kind = next(new for old, new in kinds.items() if isinstance(node, old))
        made = kind.__new__(kind)
        _HyperLayer.__init__(made, node, _like(node, for_weights), n_hyper, for_gates, center, name)
        return made

    return jax.tree_util.tree_map_with_path(answering, model, is_leaf=_is_plain)


def _like(layer: Any, key: Array) -> Any:
    """New values of the layer's form, as wide as Equinox has them."""
    arrays, static = eqx.partition(layer, eqx.is_inexact_array)
    leaves, form = jax.tree.flatten(arrays)
    keys = jax.random.split(key, len(leaves))
    if isinstance(layer, eqx.nn.Embedding):
        drawn = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    else:
        width = 1 / np.sqrt(np.prod(layer.weight.shape[1:]))
        draw = lambda key, leaf: jax.random.uniform(key, leaf.shape, leaf.dtype, -width, width)
        drawn = [draw(key, leaf) for key, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(form, drawn), static)


def settle(model: Any, h: Float[Array, " h"]) -> Any:
    """The plain model for these hyperparameters: to be called as it was before, or to be kept when tuning is over."""
    is_hyper = lambda node: isinstance(node, _HyperLayer)
    return jax.tree.map(lambda node: node.at(h) if is_hyper(node) else node, model, is_leaf=is_hyper)
