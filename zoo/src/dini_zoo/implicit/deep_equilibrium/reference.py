"""The exact gradient of the classifier by dense algebra in NumPy, and how strongly the layer contracts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dini_zoo.kit.data import Sample

from .equilibrium import MARGIN, Params


def fixed_point(params: Params, X: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "m d"]:
    """The fixed point for each input, by Newton's method to rounding."""
    W, inputs = _recurrent(params), X @ np.asarray(params.U).T + np.asarray(params.b)
    z = np.zeros_like(inputs)
    for _ in range(500):  # the averaged map brings the points near, even where the map itself does not contract
        z = 0.8 * z + 0.2 * np.tanh(z @ W.T + inputs)
    for _ in range(20):
        value = np.tanh(z @ W.T + inputs)
        A = np.eye(len(W)) - (1 - value**2)[:, :, None] * W
        step = np.linalg.solve(A, (value - z)[:, :, None])[:, :, 0]
        z = z + step
        if np.abs(step).max() < 1e-14:
            break
    return z


def _jacobians(params: Params, z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d d"]:
    return (1 - z**2)[:, :, None] * _recurrent(params)


class Contraction(NamedTuple):
    """The largest spectral radius and spectral norm of the layer's Jacobian at the fixed points of a batch.

    An iteration near its fixed point converges in the end as fast as the powers of the radius. A norm
    above one says that the first few steps may lead away.
    """

    radius: float
    norm: float


def contraction(params: Params, X: Float[np.ndarray, "m p"]) -> Contraction:
    """How strongly the layer contracts at its fixed points."""
    J = _jacobians(params, fixed_point(params, X))
    return Contraction(float(np.abs(np.linalg.eigvals(J)).max()), float(np.linalg.norm(J, 2, axis=(1, 2)).max()))


class Reference(NamedTuple):
    """The loss on a sample and its exact gradient."""

    loss: float
    gradient: Params

    @classmethod
    def at(cls, params: Params, sample: Sample) -> Reference:
        """Solve for the fixed points and for the adjoint of each input by dense algebra."""
        z = fixed_point(params, sample.X)
        V = np.asarray(params.V, np.float64)
        loss, P = _readout(params, z, sample)
        slope = (P - sample.Y) / len(z)
        A = np.eye(z.shape[1]) - _jacobians(params, z)
        u = np.linalg.solve(A.transpose(0, 2, 1), (slope @ V)[:, :, None])[:, :, 0]
        inner = u * (1 - z**2)
        A, G = np.asarray(params.A), inner.T @ z  # G is the gradient in W
        gradient = Params(-A @ (G + G.T), G - G.T, inner.T @ sample.X, inner.sum(0), slope.T @ z, slope.sum(0))  # pyright: ignore[reportArgumentType]
        return cls(loss, gradient)

    def slope_error(self, params: Params, sample: Sample, width: float = 1e-5) -> float:
        """Relative distance of the slope along a random direction from the loss's central difference."""
        random = np.random.RandomState(0)
        direction = [random.randn(*np.shape(leaf)) for leaf in params]

        def moved(t: float) -> float:
            point = Params(*(np.asarray(leaf) + t * d for leaf, d in zip(params, direction, strict=True)))  # pyright: ignore[reportArgumentType]
            return _readout(point, fixed_point(point, sample.X), sample)[0]

        slope = sum(float(np.sum(g * d)) for g, d in zip(self.gradient, direction, strict=True))
        return abs((moved(width) - moved(-width)) / (2 * width) - slope) / abs(slope)


def _recurrent(params: Params) -> Float[np.ndarray, "d d"]:
    A, B = np.asarray(params.A, np.float64), np.asarray(params.B, np.float64)
    return (1 - MARGIN) * np.eye(len(A)) - A.T @ A + B - B.T


def _readout(params: Params, z: np.ndarray, sample: Sample) -> tuple[float, np.ndarray]:
    """The cross-entropy and the probabilities of the classes."""
    scores = z @ np.asarray(params.V).T + np.asarray(params.c)
    scores = scores - scores.max(axis=1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return -float(np.sum(sample.Y * logs)) / len(z), np.exp(logs)
