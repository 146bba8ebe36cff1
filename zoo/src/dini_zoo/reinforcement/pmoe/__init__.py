"""PMOE: policies that are mixtures of experts, whose gate is regressed on which expert's sample is the best one.

`mixture_policy_loss` is the loss for SAC, `PPO` the form for PPO, and `mixture_sac` a whole step; estimators that are
compared with are in `losses`. `gate_fixed_point` is where the gate comes to rest, by `dini.root`. The mixture itself,
`GaussianMixturePolicy`, is the field's. The experiment is in `study`, what it prints and draws in `report` and
`picture`.
"""

from ..mixtures import GaussianMixturePolicy, Mixture
from .control import mixture_sac
from .gates import expected_gate_loss, frequency_gate_loss, gate_fixed_point, win_probability, win_shares
from .losses import (
    PolicyFigures,
    blend,
    blended_policy_loss,
    gumbel_policy_loss,
    mixture_policy_loss,
    reinforce_policy_loss,
    score_ratio_policy_loss,
)
from .ppo import PPO, PPOBatch, PPOFigures, PPOModel

__all__ = [
    "PPO",
    "GaussianMixturePolicy",
    "Mixture",
    "PPOBatch",
    "PPOFigures",
    "PPOModel",
    "PolicyFigures",
    "blend",
    "blended_policy_loss",
    "expected_gate_loss",
    "frequency_gate_loss",
    "gate_fixed_point",
    "gumbel_policy_loss",
    "mixture_policy_loss",
    "mixture_sac",
    "reinforce_policy_loss",
    "score_ratio_policy_loss",
    "win_probability",
    "win_shares",
]
