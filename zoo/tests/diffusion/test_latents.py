"""Arcs and lines between latent points: angles, lengths, ends, derivatives, extreme sizes, bad input."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.diffusion import latents
from dini_zoo.diffusion.latents import interpolate, lerp, slerp


def test_an_arc_turns_evenly_and_keeps_the_length():
    """Against rotation by an angle in the plane of both ends."""
    z0, z1 = jax.random.normal(jax.random.key(0), (2, 5, 2, 3))
    norm = lambda z: jnp.sqrt(jnp.sum(z**2, axis=(-2, -1), keepdims=True))
    z1 = z1 / norm(z1) * norm(z0)
    r = jnp.linspace(0.0, 1.0, 7)
    found = jax.jit(slerp)(z0, z1, r)
    assert found.shape == (7, 5, 2, 3)
    for i in range(5):
        a, b = (np.asarray(z[i]).ravel() for z in (z0, z1))
        first = a / np.linalg.norm(a)
        across = b - (b @ first) * first
        across /= np.linalg.norm(across)
        angle = np.arctan2(b @ across, b @ first)
        turned = np.linalg.norm(a) * (np.outer(np.cos(r * angle), first) + np.outer(np.sin(r * angle), across))
        np.testing.assert_allclose(found[:, i].reshape(7, 6), turned, atol=1e-12)
    # each point by itself, and a number for one ratio
    np.testing.assert_allclose(slerp(z0[2:3], z1[2:3], 0.3)[0], slerp(z0, z1, jnp.array([0.3]))[0, 2], atol=1e-14)
    np.testing.assert_allclose(lerp(z0, z1, r), (1 - r[:, None, None, None]) * z0 + r[:, None, None, None] * z1)


def test_where_the_arc_is_not_known_it_is_a_line():
    z = jnp.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
    other = jnp.array([[1.0, 2.001], [-1.0, -2.0], [3.0, 1.0], [0.0, 1.0]])
    arc, line = (interpolate(z, other, 0.3, kind) for kind in ("slerp", "lerp"))
    np.testing.assert_array_equal(arc[:3], line[:3])
    assert np.max(np.abs(arc[3] - line[3])) > 0.1
    # at the angle where a line takes over the two are close
    edge = jnp.arccos(0.9995)
    ends = [jnp.array([[jnp.cos(e), jnp.sin(e)]]) for e in (edge * (1 + 1e-6), edge * (1 - 1e-6))]
    assert np.max(np.abs(np.subtract(*(slerp(jnp.array([[1.0, 0.0]]), end, 0.3) for end in ends)))) < 2e-4


def test_derivatives():
    """As differences say, and finite where the arc is a line."""
    z0, z1 = jax.random.normal(jax.random.key(0), (2, 3, 4))
    z1 = z1.at[1].set(z0[1]).at[2].set(0.0)
    args, tangents = (z0, z1, jnp.asarray(0.3)), (jnp.cos(z0), jnp.sin(z0).at[2].set(0.0), jnp.asarray(0.7))
    h = 1e-6
    arc = jax.jit(slerp)
    moved = lambda h: arc(*(a + h * t for a, t in zip(args, tangents, strict=True)))
    slope = jax.jvp(arc, args, tangents)[1]
    np.testing.assert_allclose(slope, (moved(h) - moved(-h)) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("size", [1e-25, 1e-6, 1.0, 1e6, 1e25])
def test_the_size_does_not_matter(size):
    """In single precision, where squares of such numbers vanish or are infinite; beside a lane that is not finite."""
    z0, z1 = jax.random.normal(jax.random.key(0), (2, 3, 4), jnp.float32)
    expected = slerp(z0, z1, 0.3)
    found = slerp(size * z0.at[1].set(jnp.nan), size * z1, 0.3) / size
    np.testing.assert_allclose(found[::2], expected[::2], rtol=2e-6)
    assert found.dtype == jnp.float32
    assert np.all(np.isnan(found[1]))


def test_bad_input():
    with pytest.raises(ValueError, match=r"z1 must have the shape of z0, \(2, 3\): given \(2, 4\)"):
        slerp(jnp.zeros((2, 3)), jnp.zeros((2, 4)), 0.5)
    with pytest.raises(ValueError, match="kind must be one of 'slerp', 'lerp': given 'cubic'"):
        interpolate(jnp.zeros((2, 3)), jnp.zeros((2, 3)), 0.5, "cubic")


def test_examples():
    with jax.enable_x64(False):
        assert doctest.testmod(latents).failed == 0
