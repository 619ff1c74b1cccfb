"""Settings of the GRPO family by the name of their paper, for `rl.preset`.

A preset sets what its paper says of credit, loss and loop; learning rate, lengths and batch sizes
belong to a model and a data set, and stay. The equations stand in train/loss.py and
train/advantage.py.
"""

from collections.abc import Mapping
from typing import Any

_PLAIN: dict[str, Any] = {
    "advantage.baseline": "mean",
    "advantage.scale": "group",
    "loss.ratio": "token",
    "loss.surrogate": "clip",
    "loss.clip_low": 0.2,
    "loss.clip_high": 0.2,
    "loss.aggregation": "sequence",
    "loss.kl_coef": 0.0,
    "loss.correction": "none",
    "loss.mask_truncated": False,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    # R1 paper, B.4.1. The clip of R1-Zero is not reported; 10 is that of R1's first stage.
    "r1_zero": _PLAIN
    | {
        "loss.clip_low": 10.0,
        "loss.clip_high": 10.0,
        "loss.kl_coef": 0.001,
        "loss.kl_estimator": "k3",
        "rl.reference_every": 25,
    },
    # R1 paper, B.4.2: as R1-Zero, with the language reward.
    "r1": _PLAIN
    | {
        "loss.clip_low": 10.0,
        "loss.clip_high": 10.0,
        "loss.kl_coef": 0.001,
        "loss.kl_estimator": "k3",
        "rl.reference_every": 25,
        "reward.language": 1.0,
    },
    # DAPO, 2503.14476: clip-higher, token-level loss, dynamic sampling, soft overlong punishment.
    "dapo": _PLAIN
    | {"loss.clip_high": 0.28, "loss.aggregation": "token", "rl.refill": 3, "reward.overlong": 1.0},
    # Dr. GRPO, 2503.20783: neither the standard deviation nor the length of a completion divides.
    "dr_grpo": _PLAIN | {"advantage.scale": "none", "loss.aggregation": "constant"},
    # GSPO, 2507.18071: one ratio for each sequence, with its far narrower clip.
    "gspo": _PLAIN | {"loss.ratio": "sequence", "loss.clip_low": 3e-4, "loss.clip_high": 4e-4},
    # CISPO, 2506.13585: the weight of a token is bounded above, and no token loses its gradient.
    "cispo": _PLAIN | {"loss.surrogate": "cispo", "loss.clip_high": 5.0, "loss.aggregation": "token"},
    # RLOO, 2402.14740: REINFORCE of whole completions (a sum over tokens, up to a constant), with the mean
    # of the others as baseline.
    "rloo": _PLAIN
    | {
        "advantage.baseline": "leave_one_out",
        "advantage.scale": "none",
        "loss.aggregation": "constant",
    },
    # REINFORCE++, 2501.03262, with the group's mean as baseline: normalized over the whole batch.
    "reinforce_pp": _PLAIN
    | {
        "advantage.scale": "batch",
        "loss.aggregation": "token",
        "loss.kl_coef": 0.001,
        "loss.kl_estimator": "k2",
    },
    # DeepSeek-V3.2, section 3.1: no standard deviation, unbiased KL, mask of stale wrong sequences.
    "v3_2": _PLAIN
    | {
        "advantage.scale": "none",
        "loss.kl_coef": 0.001,
        "loss.kl_estimator": "unbiased",
        "loss.correction": "stale_mask",
        "loss.correction_high": 0.5,
    },
}
