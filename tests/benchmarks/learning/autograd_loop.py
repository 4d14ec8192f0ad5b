"""The mathematics of `torch_based` in the usual way: a session at a time, its gradient by autograd, torch's AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from improvement_service.adjust.evidence import Evidence, Floats

RATE = 0.1
STEPS = 10


def descend(evidence: Evidence, sessions: int, items: int) -> Floats:
    """Return what the first `sessions` move their rows to, [R, D]; session s speaks of `items` items from s * items on.

    COSINE with softmax over parts (MIN) at temperature 1.
    """
    start = np.searchsorted(evidence.item_of_row, items * np.arange(sessions + 1))
    moved = [_session(evidence, number, items, slice(start[number], start[number + 1])) for number in range(sessions)]
    return np.concatenate(moved)


def _session(evidence: Evidence, number: int, items: int, rows: slice) -> Floats:
    said = slice(items * number, items * (number + 1))
    x = torch.tensor(evidence.vectors[rows], requires_grad=True)
    query = torch.tensor(evidence.queries[number])[None]
    item = torch.tensor(evidence.item_of_row[rows] - items * number)
    positive, weight = torch.tensor(evidence.positive[said]), torch.tensor(evidence.weight[said])
    share = torch.where(positive, -weight / weight[positive].sum(), weight / weight[~positive].sum())
    optimizer = torch.optim.AdamW([x], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        near = torch.nn.functional.cosine_similarity(x, query, dim=-1)
        odds = near.exp()
        total = torch.zeros(items).index_add(0, item, odds)
        similarity = torch.zeros(items).index_add(0, item, odds / total[item] * near)
        (share * similarity**3).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return x.detach().numpy()
