"""What is fitted to measured peaks by ``benchmarks/estimator.py``, by backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

BackendKind = Literal["metal", "cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The constants of a backend.

    - `logits`: copies of a chunk's logits in the loss; `capped` more where they are soft-capped
    - `scores`, `scores_checkpointed`: copies of a block of attention scores, if none are kept for
      the backward pass
    - `unfused`: copies of all scores that are kept where attention is neither fused nor computed in
      blocks, as with Gemma 2's soft cap
    - `scoring`: copies on top while the backward pass is in such an attention
    - `ahead`: work beyond what a block keeps, in blocks; `ahead_checkpointed`: of a recomputed one,
      with what it keeps
    - `update`: what exists next to the old weights and state in the update, in bytes of the weights
      that are updated at once; `muon` is what Muon's orthogonalization adds
    - `lag`: blocks whose gradients exist before the first one's activations are freed
    - `loss_overlap`: of the loss and what follows, the share of the smaller that coincides with the
      larger
    - `cache`: freed buffers beyond the peak, as a share of it
    - `base`: bytes of the process itself
    """

    logits: float
    capped: float
    scores: float
    scores_checkpointed: float
    unfused: float
    scoring: float
    ahead: float
    ahead_checkpointed: float
    update: float
    muon: float
    lag: float
    loss_overlap: float
    cache: float
    base: int


_GPU: Final = Constants(
    logits=3.0,
    capped=0.0,
    # On an H200 packed rows of 4 × 2,047 tokens took 1.2 GB more than plain ones.
    scores=6.0,
    scores_checkpointed=6.0,
    unfused=2.637,
    scoring=1.472,
    ahead=0.21,
    ahead_checkpointed=2.6,
    update=0.9,
    muon=0.3,
    lag=1.0,
    loss_overlap=0.078,
    cache=0.1,
    base=200_000_000,
)

CONSTANTS: Final[dict[BackendKind, Constants]] = {
    "cpu": Constants(
        # A soft cap's gradient needs the logits before and after it.
        logits=1.458,
        capped=2.0,
        scores=0.867,
        scores_checkpointed=1.25,
        unfused=0.805,
        scoring=1.992,
        ahead=1.159,
        ahead_checkpointed=2.4,
        # The squares that the norm of all gradients is the sum of, up to ten tasks ahead.
        update=10.0,
        muon=1.6,
        lag=2.132,
        # The loss is evaluated before the backward pass begins.
        loss_overlap=0.0,
        cache=0.0,
        base=150_000_000,
    ),
    "metal": _GPU,
    # NVIDIA's base is the CUDA context on the device.
    "cuda": replace(_GPU, base=500_000_000),
}
