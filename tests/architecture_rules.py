"""Rules inside of models: what a model may do beside differentiable operators on its input.

Each reads the input x (n, bands, rows, columns), beside a value y made of it, and gives a value like y.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Rule:
    """A rule, and what is expected of shortcuts for a model that has it."""

    apply: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  # of the module that holds it, y and x
    operator: str = ""  # what the reason for declining names; "" for rules that a recording may hold
    repeats: bool = True  # the same numbers each time

    @property
    def declined(self) -> bool:
        return bool(self.operator)


def each(values: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One number for each sample, shaped to be multiplied with y."""
    return values.to(y).reshape(-1, *[1] * (y.ndim - 1))


# ---------------------------------------------------------------- operators only: recorded, or declined

GATES: dict[str, Rule] = {
    "masked_fill": Rule(lambda m, y, x: y * each(x.masked_fill(x[:, 1:2] < 0.2, 0).mean((1, 2, 3)), y)),
    "where": Rule(lambda m, y, x: torch.where(each(x[:, 1].mean((1, 2)), y) > 0.45, y, -0.5 * y)),
    "a comparison": Rule(lambda m, y, x: y * (1 + each((x.amax((1, 2, 3)) > 0.97), y))),
    "sign": Rule(lambda m, y, x: y * each(torch.sign(x[:, 0, 0] - 0.5).mean(1), y)),
    "rounding": Rule(lambda m, y, x: y + each(x.mean((1, 2, 3)).round(decimals=1).detach(), y)),
    "argmax": Rule(lambda m, y, x: y * (1 + each(x.argmax(1).double().mean((1, 2)), y))),
    "order": Rule(lambda m, y, x: y * each(x.gather(1, x.argsort(1)[:, :2]).sum((1, 2, 3)) / 9, y)),
    "the same data": Rule(lambda m, y, x: y * each(x.data[:, :1].mean((1, 2, 3)), y)),
    "no data": Rule(lambda m, y, x: y * each((x < 0.05).any(1).logical_not().double().mean((1, 2)) + 0.5, y)),
}


# ---------------------------------------------------------------- values that leave torch's operators
# Decisions come out alike for any batch, so that results with and without shortcuts can be compared.


def by_if(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y if x.mean() > -9 else 3 * y


def by_equal(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y if torch.equal(x, x.clamp(-9, 9)) else 2 * y


def by_numpy(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y * each(torch.from_numpy(x.detach().cpu().numpy().mean((1, 2, 3))), y)


def by_list(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y * each(torch.tensor(x.detach().mean((1, 2, 3)).tolist()), y)


PYTHON: dict[str, Rule] = {
    "if": Rule(by_if, "is_nonzero"),
    "item": Rule(lambda m, y, x: y * x.mean().item(), "item"),
    "float": Rule(lambda m, y, x: y * float(x.amax() > -9), "item"),
    "int": Rule(lambda m, y, x: y * (1 + int(x.amax() < 99)), "item"),
    "equal": Rule(by_equal, "equal"),
    "allclose": Rule(lambda m, y, x: y if torch.allclose(x, x.clamp(-9, 9)) else 2 * y, "allclose"),
    "numpy": Rule(by_numpy, "leaves torch"),
    "tolist": Rule(by_list, "leaves torch"),
}


# ---------------------------------------------------------------- shapes that depend on values


def by_index(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    counts = torch.stack([one[one > 0.3].sum() for one in x])
    return y * each(counts, y) / 10


def by_nonzero(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    sample = (x > 0.3).nonzero()[:, 0]
    return y * each(x.new_zeros(len(x)).index_add(0, sample, x.new_ones(len(sample))), y)


def by_unique(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y * each(torch.stack([one.detach().mul(5).round().unique().sum() for one in x]), y)


SHAPES: dict[str, Rule] = {
    "boolean index": Rule(by_index, "index|nonzero"),
    "nonzero": Rule(by_nonzero, "nonzero"),
    "unique": Rule(by_unique, "unique"),
    "masked_select": Rule(
        lambda m, y, x: y * each(torch.stack([one.masked_select(one > 0.4).sum() / 50 for one in x]), y),
        "masked_select",
    ),
}


# ---------------------------------------------------------------- random numbers


RANDOM: dict[str, Rule] = {
    "dropout": Rule(lambda m, y, x: F.dropout(y, 0.3, training=True), "dropout|bernoulli", repeats=False),
    "rand": Rule(lambda m, y, x: y + each(torch.rand(len(y)), y), "rand", repeats=False),
    "randn_like": Rule(lambda m, y, x: y + 0.1 * torch.randn_like(y), "randn", repeats=False),
    "bernoulli": Rule(lambda m, y, x: y * torch.bernoulli(torch.full_like(y, 0.5)), "bernoulli", repeats=False),
    "normal_": Rule(lambda m, y, x: y + torch.empty_like(y).normal_(), "normal_", repeats=False),
}


# ---------------------------------------------------------------- writes to what was there before the run


def counted(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    m.counter.add_(1)
    return y


def averaged(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        m.running.mul_(0.9).add_(0.1 * x.mean())
    return y


def written_through_a_view(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        m.running.view(1)[0] = x.detach().amax()
    return y


STATE: dict[str, Rule] = {
    "a counter": Rule(counted, "add_"),
    "a running mean": Rule(averaged, "mul_"),
    "a write through a view": Rule(written_through_a_view, "fill_|copy_"),
}


# ---------------------------------------------------------------- samples that influence each other


INFLUENCE: dict[str, Rule] = {
    "the batch's maximum": Rule(lambda m, y, x: y * (1 + x.amax()), "batch|sample|influence"),
    "the batch's mean": Rule(lambda m, y, x: y * (1 + x.mean(0).mean()), "batch|sample|influence"),
    "batch statistics": Rule(
        lambda m, y, x: y * (1 + each(F.batch_norm(x, None, None, training=True).square().mean((1, 2, 3)), y)),
        "batch|sample|influence",
    ),
}

RULES = GATES | PYTHON | SHAPES | RANDOM | STATE | INFLUENCE


class Ruled(nn.Module):
    """A model whose output a rule changes by its input."""

    counter: torch.Tensor
    running: torch.Tensor

    def __init__(self, body: nn.Module, rule: Rule) -> None:
        super().__init__()
        self.body, self.rule = body, rule
        self.register_buffer("counter", torch.zeros((), dtype=torch.int64))
        self.register_buffer("running", torch.zeros((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rule.apply(self, self.body(x), x)


def with_rule(body: nn.Module, rule: Rule) -> nn.Module:
    """The model with a rule at its end, and state of its own."""
    return Ruled(copy.deepcopy(body), rule).eval()
