r"""A Fourier neural operator: layers that act on the low waves of a function on a mesh.

A layer takes $v$, with channels, to $\sigma(v W + b + \mathcal{F}^{-1}(R \cdot \mathcal{F} v))$: $R$ is a matrix on the
channels for each wave below a cutoff, and zero for all others. Since few waves are kept, their transforms are products
with small matrices, which is faster here than a fast transform of all waves.

References
----------
Li et al., "Fourier neural operator for parametric partial differential equations", ICLR 2021 (arXiv 2010.08895).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class SpectralLayer(eqx.Module):
    """A linear map of the low waves, those of fewer than `modes` periods an axis: a matrix on the channels for each."""

    real: Float[Array, "waves channels channels"]
    imaginary: Float[Array, "waves channels channels"]
    modes: int = eqx.field(static=True)

    def __init__(self, channels: int, axes: int, modes: int, key: Array):
        shape = (modes * (2 * modes - 1) ** (axes - 1), channels, channels)
        self.real, self.imaginary = jax.random.uniform(key, (2, *shape)) / channels**2
        self.modes = modes

    def __call__(self, v: Float[Array, "*mesh channels"]) -> Float[Array, "*mesh channels"]:
        """The map of a function on a mesh of any number of points."""
        *mesh, channels = v.shape
        if min(mesh) < 2 * self.modes:
            raise ValueError(
                f"A mesh needs at least {2 * self.modes} points an axis for {self.modes} modes: given {mesh}."
            )
        axes = len(mesh)
        transforms: list[np.ndarray] = []
        for axis, n in enumerate(mesh):
            # of a real function the negative waves of one axis are known
            waves = np.arange(0 if axis == axes - 1 else 1 - self.modes, self.modes)
            transforms.append(np.exp(-2j * np.pi * np.outer(waves, np.arange(n)) / n))
        last = transforms[-1]
        # the real and the imaginary part of the last axis' transform, one after the other
        both = jnp.asarray(np.concatenate([last.real, last.imag]), v.dtype)
        f = jnp.einsum("kx,...xc->...kc", both, v)
        f = jax.lax.complex(f[..., : self.modes, :], f[..., self.modes :, :])
        for axis, matrix in enumerate(transforms[:-1]):
            f = jnp.moveaxis(jnp.tensordot(matrix, f, axes=(1, axis)), 0, axis)
        shape = f.shape
        f = jnp.einsum("kc,kcd->kd", f.reshape(-1, channels), jax.lax.complex(self.real, self.imaginary)).reshape(shape)
        for axis, matrix in enumerate(transforms[:-1]):
            f = jnp.moveaxis(jnp.tensordot(matrix.conj().T / mesh[axis], f, axes=(1, axis)), 0, axis)
        # a wave that is not zero stands for its conjugate as well
        twice = np.where(np.arange(self.modes) == 0, 1, 2) / mesh[-1]
        back = jnp.asarray(np.concatenate([last.real.T * twice, last.imag.T * twice], 1), v.dtype)
        return jnp.einsum("xk,...kc->...xc", back, jnp.concatenate([f.real, f.imag], -2))


class Layer(eqx.Module):
    """A spectral layer beside a pointwise one."""

    spectral: SpectralLayer
    pointwise: eqx.nn.Linear

    def __init__(self, channels: int, axes: int, modes: int, key: Array):
        one, other = jax.random.split(key)
        self.spectral = SpectralLayer(channels, axes, modes, one)
        self.pointwise = eqx.nn.Linear(channels, channels, key=other)

    def __call__(self, v: Float[Array, "*mesh channels"]) -> Float[Array, "*mesh channels"]:
        return jax.nn.gelu(self.spectral(v) + at_points(self.pointwise, v))


class FourierOperator(eqx.Module):
    """Basis functions on a mesh, from functions on it (coordinates, parameters, the initial condition).

    Waves are periodic. Where the functions are not, so many points of zeros beyond the end of an axis (`padding`) let
    the values at its two ends differ.
    """

    lift: eqx.nn.Linear
    layers: tuple[Layer, ...]
    projection: eqx.nn.Linear
    head: eqx.nn.Linear
    padding: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        modes: int,
        projection: int,
        padding: tuple[int, ...],
        key: Array,
    ):
        first, second, third, *rest = jax.random.split(key, 3 + depth)
        self.lift = eqx.nn.Linear(inputs, width, key=first)
        self.layers = tuple(Layer(width, len(padding), modes, one) for one in rest)
        self.projection = eqx.nn.Linear(width, projection, key=second)
        self.head = eqx.nn.Linear(projection, outputs, key=third)
        self.padding = padding

    def __call__(self, functions: Float[Array, "*mesh inputs"]) -> Float[Array, "*mesh outputs"]:
        """The functions on a mesh with as many axes as there are paddings, of any number of points."""
        *mesh, inputs = functions.shape
        if len(mesh) != len(self.padding) or inputs != self.lift.in_features:
            raise ValueError(
                f"FourierOperator takes {self.lift.in_features} functions on a mesh of {len(self.padding)} axes: given "
                f"shape {functions.shape}."
            )
        v = at_points(self.lift, jnp.pad(functions, [*((0, more) for more in self.padding), (0, 0)]))
        for layer in self.layers:
            v = layer(v)
        v = v[tuple(slice(n) for n in mesh)]
        v = jax.nn.gelu(at_points(self.projection, v))
        return jax.nn.gelu(at_points(self.head, v))


def at_points(linear: eqx.nn.Linear, v: Float[Array, "*mesh inputs"]) -> Float[Array, "*mesh outputs"]:
    """A linear layer at every point of a mesh."""
    out = v @ linear.weight.T
    return out if linear.bias is None else out + linear.bias
