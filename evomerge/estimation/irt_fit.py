"""The fit of an M2PL model in torch: joint maximum a posteriori by Adam over all responses at once.

The priors fix scale and sign, and keep parameters finite for items that no model or every model solves:

    theta_j ~ N(0, I)    a_i ~ N((1, 0, …, 0), 1 / A_PRECISION)    b_i ~ N(mean of b, 1 / B_PRECISION)

The fit is joint estimation rather than variational inference: the estimators use only chances of success on the
calibrated items, which both give, and a full-batch step costs two matrix products.
"""

from __future__ import annotations

import numpy as np
import torch

from evomerge.estimation.responses import Floats

A_PRECISION = 0.5
B_PRECISION = 0.1


def joint_map(R: Floats, *, dimension: int, rasch: bool, steps: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Fit an M2PL model to responses.

    Args:
        R: `(n_models, n_items)` responses; NaN: missing.
        dimension: the number of abilities of a model.
        rasch: whether every discrimination stays at 1.
        steps: steps of gradient descent.
        seed: of the random start.

    Returns:
        `(n_items, n_dims)` discriminations, `(n_items,)` difficulties and `(n_models, n_dims)` abilities.
    """
    m, N = R.shape
    generator = torch.Generator().manual_seed(seed)
    known = torch.from_numpy(~np.isnan(R)).float()
    Y = torch.from_numpy(np.nan_to_num(R)).float() * known

    centre = torch.zeros(N, dimension)
    centre[:, 0] = 1.0
    # Start from the observed rates, shrunk to one half by a pseudo-response of each kind.
    ability = torch.logit((Y.sum(1) + 1) / (known.sum(1) + 2))
    theta = 0.3 * torch.randn(m, dimension, generator=generator)
    theta[:, 0] = (ability - ability.mean()) / ability.std(correction=0).clamp(min=0.5)
    a = centre + 0.3 * torch.randn(N, dimension, generator=generator) * (0.0 if rasch else 1.0)
    b = -torch.logit((Y.sum(0) + 1) / (known.sum(0) + 2))

    free = [theta, b] if rasch else [theta, b, a]
    for tensor in free:
        tensor.grad = torch.zeros_like(tensor)
    optimizer = torch.optim.Adam(free, lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        # The gradient is written out, d loss / d logit = p - y where known; autograd takes three times as long.
        excess = torch.addmm(-b, theta, a.T).sigmoid_().sub_(Y).mul_(known)
        theta.grad = excess @ a + theta
        b.grad = B_PRECISION * (b - b.mean()) - excess.sum(0)
        if not rasch:
            a.grad = excess.T @ theta + A_PRECISION * (a - centre)
        optimizer.step()
        schedule.step()
    return tuple(tensor.double().numpy() for tensor in (a, b, theta))  # type: ignore[return-value]
