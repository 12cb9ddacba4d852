"""Train the demo model on simulated fields and write meteors_c/datasets/demo_model.npz.

Run from anywhere: ``python tools/train_demo_model.py``; about a minute on one core. Seeded: the same machine and
torch give the same weights (another machine may round differently). Prints the test error of each target beside that of
the trivial predictor, which always says the middle of the range.

Three choices make the network look at what the targets act on, without telling it where that is:

- bands are standardised (the unit is a quarter of the reference spectrum), so that bright bands weigh no more;
- the training fields get a random calibration error of 2 % per band, so that it averages over bands that say the same;
- the first layer carries a small L1 penalty, so that it drops bands that say nothing.

The standardisation of inputs and targets is folded into the first and the last layer afterwards.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from meteors_c.datasets._model import FieldRegressor
from meteors_c.datasets._simulate import TARGET_NAMES, TARGET_RANGES, reference_spectrum, simulate_fields

FILE = Path(__file__).parents[1] / "meteors_c" / "datasets" / "demo_model.npz"
SEED = 7
POOLS, POOL_FIELDS, CROP = 64, 64, 16  # training fields: pools of simulated crops
TEST_SEED, TEST_FIELDS, TEST_SIZE = 9000, 32, 96  # fresh fields of full size
BATCH, LEARNING_RATE = 64, 4e-3
L1, CALIBRATION = 1e-3, 0.02

MEAN = torch.from_numpy(reference_spectrum())
UNIT = 0.25 * MEAN
TARGET_MEAN = torch.from_numpy(TARGET_RANGES.mean(axis=1))
TARGET_UNIT = torch.from_numpy(np.ptp(TARGET_RANGES, axis=1) / np.sqrt(12.0))  # of a uniform variable


def training_fields() -> tuple[Tensor, Tensor]:
    """Crops of int16, (n, 150, CROP, CROP), and standardised targets of float32, (n, 4)."""
    pools = [simulate_fields(seed, POOL_FIELDS, CROP) for seed in range(1000, 1000 + POOLS)]
    data = torch.from_numpy(np.concatenate([pool.data for pool in pools]))
    targets = torch.from_numpy(np.concatenate([pool.targets for pool in pools]))
    return data, ((targets - TARGET_MEAN) / TARGET_UNIT).float()


def train(data: Tensor, targets: Tensor, epochs: int) -> FieldRegressor:
    """Fit the network to standardised bands and targets."""
    model = FieldRegressor()
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    mean, unit = (part.float()[:, None, None] for part in (MEAN, UNIT))
    start = time.perf_counter()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(data)).split(BATCH):
            gain = 1.0 + CALIBRATION * torch.randn(len(rows), data.shape[1], 1, 1)
            error = ((model((data[rows] * gain - mean) / unit) - targets[rows]) ** 2).mean()
            loss = error + L1 * model.stem.weight.abs().sum() / model.stem.out_channels
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += error.item() * len(rows)
        print(f"epoch {epoch + 1:2d}  mean squared error {total / len(data):.4f}  {time.perf_counter() - start:.0f} s")
    return model


def fold(model: FieldRegressor) -> FieldRegressor:
    """The same network on counts and in the targets' own units."""
    model = model.double()
    with torch.no_grad():
        weight = model.stem.weight / UNIT[:, None, None]
        model.stem.bias -= torch.einsum("fcij,c->f", weight, MEAN)
        model.stem.weight.copy_(weight)
        model.head.weight[:-1] *= TARGET_UNIT[:, None, None, None]
        model.head.bias[:-1] = model.head.bias[:-1] * TARGET_UNIT + TARGET_MEAN
    return model.float().eval()


def report(model: FieldRegressor) -> None:
    """Print root mean squared errors on fresh fields of full size."""
    test = simulate_fields(TEST_SEED, TEST_FIELDS, TEST_SIZE)
    with torch.no_grad():
        output = torch.cat([model(part.float()) for part in torch.from_numpy(test.data).split(4)]).double().numpy()
    rmse = np.sqrt(((output - test.targets) ** 2).mean(axis=0))
    trivial = np.sqrt(((TARGET_MEAN.numpy() - test.targets) ** 2).mean(axis=0))
    print(f"test: {TEST_FIELDS} fields of {TEST_SIZE} x {TEST_SIZE}\ntarget   error   trivial   ratio")
    for name, error, other in zip(TARGET_NAMES, rmse, trivial, strict=True):
        print(f"{name:6s} {error:7.3f} {other:9.3f} {error / other:7.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)  # sums in one order, whatever the machine's cores
    torch.manual_seed(SEED)
    model = fold(train(*training_fields(), epochs))
    report(model)
    np.savez_compressed(FILE, **{name: value.numpy() for name, value in model.state_dict().items()})
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
