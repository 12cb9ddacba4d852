"""Random architectures: small float64 networks in eval mode, the same for the same seed.

A network is a directed acyclic graph: one to three branches begin at the input, each node applies a random operator or
block to a value that is there, or joins two of them, and what is left over is joined before the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from tests.architecture_blocks import BLOCKS, entrances, head, merge
from tests.architecture_layers import LAYERS, Draw, Function, Shape, settle

OUTPUTS = 3
EXAMPLES = 4  # images that a network is tried with while it is made
MAX_CHANNELS, MAX_SIDE, MAX_SIZE = 24, 18, 4000


@dataclass(frozen=True)
class Architecture:
    """A network for images (bands, rows, columns), and in words what it is made of."""

    module: nn.Module
    shape: Shape
    description: str


class Graph(nn.Module):
    """Value 0 is the input, value k + 1 what node k makes of the values it reads; the last one is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = nn.ModuleList()
        self.reads: list[tuple[int, ...]] = []

    def add(self, node: nn.Module, reads: tuple[int, ...]) -> None:
        self.nodes.append(node)
        self.reads.append(reads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for node, reads in zip(self.nodes, self.reads, strict=True):
            values.append(node(*(values[i] for i in reads)))
        return values[-1]

    def pruned(self) -> Graph:
        """The nodes that the output depends on."""
        needed = {len(self.nodes)}
        for number in range(len(self.nodes), 0, -1):
            if number in needed:
                needed.update(self.reads[number - 1])
        kept = Graph()
        numbers = {old: new for new, old in enumerate(sorted(needed | {0}))}
        for old in sorted(needed - {0}):
            kept.add(self.nodes[old - 1], tuple(numbers[read] for read in self.reads[old - 1]))
        return kept

    def describe(self) -> str:
        """One line for each node: its number, what it is and what it reads."""
        lines = (
            f"{number + 1}: {' '.join(repr(node).split())} of {', '.join(map(str, reads))}"
            for number, (node, reads) in enumerate(zip(self.nodes, self.reads, strict=True))
        )
        return "\n".join(lines)


class Scaled(nn.Module):
    """Another module's values, multiplied."""

    def __init__(self, body: nn.Module, factor: float) -> None:
        super().__init__()
        self.body, self.factor = body, factor

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        return self.body(*x) * self.factor

    def extra_repr(self) -> str:
        return f"* {self.factor:.3g}"


@dataclass
class Growth:
    """A graph that grows, beside the values that its nodes have for the examples."""

    draw: Draw
    values: list[torch.Tensor]
    graph: Graph = field(default_factory=Graph)
    leaves: set[int] = field(default_factory=set)  # values that nothing reads yet

    def shape(self, value: int) -> Shape:
        _, channels, rows, columns = self.values[value].shape
        return channels, rows, columns

    def grow(self, node: nn.Module | None, *reads: int) -> int | None:
        """Add a node and give its value's number; None where its value is none to go on with."""
        if node is None:
            return None
        settle(node)
        try:
            with torch.no_grad():
                value = node(*(self.values[i].clone() for i in reads))
        except (RuntimeError, ValueError, IndexError):  # a kernel larger than the value, say
            return None
        if not usable(value):
            return None
        node, value = of_order_one(node, value)
        self.graph.add(node, reads)
        self.values.append(value)
        self.leaves -= set(reads)
        self.leaves.add(len(self.values) - 1)
        return len(self.values) - 1


def usable(value: torch.Tensor) -> bool:
    if value.ndim == 4:
        _, channels, rows, columns = value.shape
        if channels > MAX_CHANNELS or max(rows, columns) > MAX_SIDE or value[0].numel() > MAX_SIZE:
            return False
    varies = value.numel() > 0 and (value - value[:1]).abs().max() > 1e-3
    return bool(varies and value.isfinite().all())


def of_order_one(node: nn.Module, value: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """The node, scaled where its values are far from one."""
    size = value.square().mean().sqrt().item()
    if 0.2 < size < 4:
        return node, value
    return Scaled(node, 1 / size), value / size


def attempt(seed: str) -> Architecture | None:
    draw = Draw(seed)
    torch.manual_seed(draw.getrandbits(60))
    bands = draw.randint(16, 20) if draw.flag(0.3) else draw.randint(4, 12)
    shape = bands, draw.randint(5, 14), draw.randint(5, 14)
    growth = Growth(draw, [torch.rand(EXAMPLES, *shape, dtype=torch.float64)])
    begin(growth, shape)
    for _ in range(draw.randint(3, 9)):
        step(growth)
    while len(growth.leaves) > 1:
        first, second = sorted(growth.leaves)[-2:]
        if growth.grow(merge(draw, growth.shape(first), growth.shape(second)), second, first) is None:
            growth.leaves.discard(first)
    last = growth.leaves.pop()
    if growth.grow(head(draw, growth.shape(last), OUTPUTS), last) is None:
        return None
    return finished(growth, shape)


def begin(growth: Growth, shape: Shape) -> None:
    """One to three branches, affine at first."""
    for _ in range(growth.draw.choice([1, 1, 1, 2, 2, 3])):
        growth.grow(entrances(growth.draw, shape), 0)
    if not growth.leaves:
        growth.grow(Function("x - 0.5", lambda x: x - 0.5), 0)


def step(growth: Growth) -> None:
    """One more node, behind what nothing reads yet, behind a random value, or of two values."""
    draw, count = growth.draw, len(growth.values)
    kinds = BLOCKS if draw.flag(0.4) else LAYERS
    for _ in range(20):
        value = draw.choice(sorted(growth.leaves)) if draw.flag(0.75) else draw.randrange(1, count)
        if count > 2 and draw.flag(0.2):
            other = draw.choice([i for i in range(1, count) if i != value])
            node, reads = merge(draw, growth.shape(value), growth.shape(other)), (value, other)
        else:
            [build] = draw.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
            node, reads = build(draw, growth.shape(value)), (value,)
        if growth.grow(node, *reads) is not None:
            return


def gradients_of(graph: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Those of the first output, by the samples."""
    images = images.clone().requires_grad_()
    [gradients] = torch.autograd.grad(graph(images)[:, 0].sum(), images)
    return gradients


def finished(growth: Growth, shape: Shape) -> Architecture | None:
    """The network, its outputs scaled to differ by about one; None where they hardly depend on the input."""
    outputs, factor = growth.values[-1], 1 / growth.values[-1].std(0).max().item()
    if not 0.01 < factor < 1000 or outputs.shape != (EXAMPLES, OUTPUTS):
        return None
    graph = growth.graph.pruned()
    graph.nodes[-1] = Scaled(graph.nodes[-1], factor)
    graph.eval().requires_grad_(growth.draw.flag())
    images = growth.values[0]
    try:
        gradients = gradients_of(graph, images)
        alone = torch.cat([gradients_of(graph, image[None]) for image in images])
    except RuntimeError:  # something written in place that a gradient reads
        return None
    # A sample alone must have the gradient that it has among others: torch's own kernels don't always give it.
    if not torch.allclose(gradients, alone, rtol=0, atol=1e-9):
        return None
    size = gradients.abs()
    if size.max() < 1e-3 or (size > 1e-6).double().mean() < 0.2:
        return None
    return Architecture(graph, shape, f"{shape}\n{graph.describe()}")


def random_architecture(seed: int) -> Architecture:
    """The architecture of a seed."""
    with torch.random.fork_rng(devices=[]):
        for trial in range(100):
            found = attempt(f"{seed}.{trial}")
            if found is not None:
                return found
    raise RuntimeError(f"no architecture for seed {seed}")
