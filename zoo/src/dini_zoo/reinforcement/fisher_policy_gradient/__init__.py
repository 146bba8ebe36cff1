"""Policy gradients whose momentum is carried along when the policy changes.

`policy_gradient` and `policy_hvp` are the estimates of one trajectory, `score_gradient` and `score_hvp` those of a
sample of any law that depends on the parameters. `n_pg_igt`, `harpg`, `n_harpg` and `storm_pg` are optimizers for
optax, made of `transported_momentum`; `igt_lookahead` and `harpg_midpoint` say where they want their samples. `search`
is the loop. The experiment's problems are in `benchmark` and `collection`, the experiment in `study`, what it prints in
`report`.
"""

from .baselines import LinearBaseline, fit_baseline, quadratic_features
from .estimators import log_likelihood, log_weight, policy_gradient, policy_hvp, rewards_to_go
from .methods import (
    decay,
    harpg,
    n_harpg,
    n_pg_igt,
    normalized,
    normalized_momentum,
    normalized_pg,
    storm_pg,
    vanilla_pg,
)
from .score import score_gradient, score_hvp
from .search import AtLookahead, AtMidpoint, AtParameters, ByWeights, Found, Oracle, Path, search
from .tasks import PolicyTask, ScoreTask, Task
from .transport import (
    Midpoint,
    TransportState,
    harpg_midpoint,
    igt_lookahead,
    lookahead_norm,
    storm_transport,
    transport_state,
    transported_momentum,
)

__all__ = [
    "AtLookahead",
    "AtMidpoint",
    "AtParameters",
    "ByWeights",
    "Found",
    "LinearBaseline",
    "Midpoint",
    "Oracle",
    "Path",
    "PolicyTask",
    "ScoreTask",
    "Task",
    "TransportState",
    "decay",
    "fit_baseline",
    "harpg",
    "harpg_midpoint",
    "igt_lookahead",
    "log_likelihood",
    "log_weight",
    "lookahead_norm",
    "n_harpg",
    "n_pg_igt",
    "normalized",
    "normalized_momentum",
    "normalized_pg",
    "policy_gradient",
    "policy_hvp",
    "quadratic_features",
    "rewards_to_go",
    "score_gradient",
    "score_hvp",
    "search",
    "storm_pg",
    "storm_transport",
    "transport_state",
    "transported_momentum",
    "vanilla_pg",
]
