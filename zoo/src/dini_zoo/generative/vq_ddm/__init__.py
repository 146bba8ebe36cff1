"""VQ-DDM: a diffusion of the codes of vector-quantized images, with a codebook re-built so that all of it is used.

`vector_quantize` and `rebuild_codebook` make codes, `MultinomialDiffusion` diffuses and draws them with any network,
and completes what is known in part; `kmeans` is Lloyd's fixed point with derivatives. `Transformer` and
`autoregressive_sample` are what it is compared with. The experiment is in `study`, what it prints and draws in `report`
and `picture`.
"""

from .kmeans import Clusters, kmeans, rebuild_codebook
from .multinomial import MultinomialDiffusion, bits
from .quantization import codebook_usage, perplexity, vector_quantize
from .schedules import ImportanceTimeSampler, cosine_alphas
from .tokenizer import Tokenizer, tokenizer_loss
from .transformer import Transformer, autoregressive_sample

__all__ = [
    "Clusters",
    "ImportanceTimeSampler",
    "MultinomialDiffusion",
    "Tokenizer",
    "Transformer",
    "autoregressive_sample",
    "bits",
    "codebook_usage",
    "cosine_alphas",
    "kmeans",
    "perplexity",
    "rebuild_codebook",
    "tokenizer_loss",
    "vector_quantize",
]
