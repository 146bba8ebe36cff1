"""Where the learners play: squared distances from points that are noisy and that drift, and a bilinear game."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float

import dini

DIMENSIONS = 5
D, L = 2.0, 1.0
"""Of the unit ball, and of the losses."""
RADIUS = 0.8

BALL = dini.sets.L2Ball(1.0)


def bound(noise: float) -> float:
    """The longest gradient of the losses within the ball."""
    return 1 + RADIUS + noise


def gradient(x: Array, a: Array) -> Array:
    """Of half of the squared distance."""
    return x - a


def noisy(centers: np.ndarray, noise: float, random: np.random.Generator) -> Float[np.ndarray, "T 5"]:
    """Points at a distance `noise` from the centers, in directions without preference."""
    xi = random.normal(size=centers.shape)
    return centers + noise * xi / np.linalg.norm(xi, axis=1, keepdims=True)


def turned(angles: np.ndarray) -> Float[np.ndarray, "T 5"]:
    """Centers at these angles on a circle in the first two coordinates."""
    plane = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.hstack([plane, np.zeros((len(angles), DIMENSIONS - 2))])


def drifting(rounds: int, drift: float, random: np.random.Generator) -> Float[np.ndarray, "T 5"]:
    """Centers that go this far along the circle each round, in one direction or the other by chance."""
    signs = random.choice([-1.0, 1.0], rounds - 1)
    return turned(np.concatenate([[0.0], drift * np.cumsum(signs)]))


def moving(name: str, rounds: int, random: np.random.Generator) -> Float[np.ndarray, "T 5"]:
    """The centers of an environment of the dynamic regret: static, slow, switch or drift."""
    time = np.arange(rounds)
    if name == "static":
        return np.tile(0.6 * np.eye(DIMENSIONS)[0], (rounds, 1))
    if name == "slow":
        return turned(2 * np.pi * time / rounds)
    if name == "drift":
        return turned(0.3 * time)
    if name == "switch":
        directions = random.normal(size=(20, DIMENSIONS))
        directions *= RADIUS / np.linalg.norm(directions, axis=1, keepdims=True)
        return directions[time * 20 // rounds]
    raise ValueError(f"The environment must be static, slow, switch or drift: given {name!r}.")


MOVING = ("static", "slow", "switch", "drift")


def in_hindsight(a: np.ndarray) -> np.ndarray:
    """The best fixed point of the ball for half of squared distances: the projection of their mean."""
    mean = a.mean(axis=-2)
    return mean / np.maximum(1, np.linalg.norm(mean, axis=-1, keepdims=True))


def game() -> Float[np.ndarray, "5 5"]:
    """The matrix of the bilinear game, of norm one."""
    A = np.random.RandomState(0).randn(DIMENSIONS, DIMENSIONS)
    return A / np.linalg.norm(A, 2)


def game_start(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where both players begin."""
    random = np.random.RandomState(seed)
    return 0.3 * random.randn(DIMENSIONS), 0.3 * random.randn(DIMENSIONS)


def duality_gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How much both could gain by another answer, along any number of axes."""
    A = game()
    return np.linalg.norm(x @ A, axis=-1) + np.linalg.norm(y @ A.T, axis=-1)


def game_gradients(A: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """The gradients of the two players, of whom the second one maximizes."""
    return A @ y, -(A.T @ x)
