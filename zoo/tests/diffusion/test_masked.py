"""Masked diffusion: the loss of any curve is one integral, and what is not finite stays hidden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.diffusion.masked import (
    cosine_mask,
    filled,
    linear_mask,
    linear_masks,
    masked_loss,
    masks_of,
    power_mask,
    revealed,
    token_probabilities,
)  # fmt: skip

MASK = 3


def test_the_bound_does_not_depend_on_the_curve():
    """A denoiser that gives the right token e^{-(1 + m)²}: the integral of (1 + m)² over m, 7/3 for each token."""
    x0 = jnp.zeros((100_000, 2), int)

    def denoise(x, m):
        p = jnp.exp(-((1 + m) ** 2))[:, None, None]
        law = jnp.concatenate([p, (1 - p) / 2, (1 - p) / 2], axis=-1)
        return jnp.broadcast_to(jnp.log(law), (*x.shape, 3))

    for curve in (linear_mask, cosine_mask, power_mask(2.0)):
        loss = masked_loss(denoise, x0, jax.random.key(0), mask=MASK, first=1e-4, curve=curve)
        assert abs(loss / (2 * 7 / 3) - 1) < 0.02
    with pytest.raises(ValueError, match="curve must be the chance of a mask"):
        masked_loss(denoise, x0, jax.random.key(0), mask=MASK, curve=lambda t: 1 - t)


def test_curves_at_levels():
    np.testing.assert_allclose(masks_of(linear_mask, 5), linear_masks(5))
    np.testing.assert_allclose(masks_of(cosine_mask, 2), (0, np.sin(np.pi / 4), 1), atol=1e-15)
    for curve in (cosine_mask, power_mask(0.5)):
        assert np.all(np.diff(masks_of(curve, 9)) > 0)
    with pytest.raises(ValueError, match="power must be positive"):
        power_mask(0.0)


def test_what_is_not_finite_stays_hidden():
    x = jnp.full((1, 2), MASK)
    logits = jnp.zeros((1, 2, 3)).at[0, 0, 1].set(jnp.nan)
    law = token_probabilities(logits, x, mask=MASK)
    uniform = jnp.full((1, 2), 0.9)
    for found in (
        revealed(uniform, x, law, 0.0, mask=MASK),
        filled(x, law, mask=MASK),
        filled(x, law, mask=MASK, key=jax.random.key(0)),
    ):
        assert found[0, 0] == MASK
        assert found[0, 1] < MASK
