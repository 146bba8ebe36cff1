"""Generative models with a latent space. What its systems share stands in modules here; chains, samplers, networks and
data are those of `diffusion`."""
