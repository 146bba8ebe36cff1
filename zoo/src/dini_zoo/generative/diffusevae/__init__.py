"""A diffusion that refines a variational autoencoder: a code of a few numbers, and sharp images in a few steps.

`Refiner` is a noise predictor that is given the decoded image, in one of two formulations; `refiner_loss` trains it,
`refine` draws by it, and `recover` finds the noise behind an image. `fit_latent_mixture` is the prior of the codes. The
samplers and chains are those of `diffusion`, the autoencoder is any with `encode` and `decode`. The experiment is in
`study`, what it prints in `report`.
"""

from .priors import fit_latent_mixture
from .refiner import Refiner, centered, decoded, recover, refine, refiner_loss, unit

__all__ = ["Refiner", "centered", "decoded", "fit_latent_mixture", "recover", "refine", "refiner_loss", "unit"]
