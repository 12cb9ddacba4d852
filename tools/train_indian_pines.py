"""Train the two classifiers of the Indian Pines scene and write their weights and what they reach.

Run from anywhere: ``python tools/train_indian_pines.py``; some minutes on one core. Seeded: the same machine and torch
give the same weights. Needs the package tensorly, which holds the scene.

Held-out pixels lie in two strips of 12 rows, at least 9 rows away from training pixels (see
``meteors_c.datasets.load_indian_pines``). A random choice of pixels, which is usual for this scene, puts a held-out
pixel beside training pixels of the same field, where its patch overlaps theirs, and accuracies above 95 % say little.
These are lower and mean something. No epoch and no weight is chosen by the held-out pixels; but which strips are held
out, and a few settings, were settled after results on held-out pixels had been seen, so they flatter a little.

Bands are standardised by the training pixels alone. Patches and scenes are turned and mirrored at random, and get a
little noise. Choices for the fully convolutional network were made on strips held out inside the training rows: a
random gain for each scene, a second 3 x 3 convolution, dropout and smoothed labels came out no better there and were
left out; 800 steps came out better than 300.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from _indian_pines_training import fold, keep, read, score, statistics, write
from torch import Tensor, nn

from meteors_c.datasets import IndianPines, load_indian_pines
from meteors_c.datasets._indian_pines_models import PatchClassifier, Segmenter

RECORD = "indian_pines_models.json"
SEED = 11
NOISE = 0.1  # its standard deviation, in standard deviations of the band
BATCH, PATCH_RATE = 64, 3e-3
SCENE_RATE = 5e-3


def turn(images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Turn and mirror at random, all alike; labels (..., rows, columns) along."""
    turns, mirror = int(torch.randint(4, ())), bool(torch.randint(2, ()))

    def moved(x: Tensor) -> Tensor:
        x = torch.rot90(x, turns, (-2, -1))
        return x.flip(-1) if mirror else x

    return moved(images), None if labels is None else moved(labels)


def patches_at(image: Tensor, where: Tensor, size: int) -> Tensor:
    """Patches about pixels, (n, bands, size, size); beyond the scene's edge it is mirrored."""
    half = size // 2
    padded = nn.functional.pad(image[None], (half,) * 4, mode="reflect")[0]
    return torch.stack([padded[:, row : row + size, column : column + size] for row, column in where.tolist()])


def weights_of(labels: Tensor, classes: int) -> Tensor:
    """Weight of each class: rare ones count more, by the square root; 0 for those that are not there."""
    counts = torch.bincount(labels, minlength=classes).float()
    weights = torch.where(counts > 0, counts.clamp(min=1).rsqrt(), 0.0)
    return weights / weights.sum() * (counts > 0).sum()


def train_classifier(scene: IndianPines, epochs: int) -> PatchClassifier:
    model = PatchClassifier()
    mean, unit = statistics(scene)
    model.standardise.mean.copy_(mean)
    model.standardise.unit.copy_(unit)
    where = scene.training.nonzero()
    patches = patches_at(scene.hsi.image, where, model.size)
    known = scene.labels[scene.training].long() - 1
    loss_of = nn.CrossEntropyLoss(weights_of(known, 16), label_smoothing=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = epochs * -(-len(known) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PATCH_RATE, total_steps=steps)
    start = time.perf_counter()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(known)).split(BATCH):
            noise = NOISE * unit.float() * torch.randn_like(patches[rows])
            loss = loss_of(model(turn(patches[rows] + noise)[0]), known[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(
            f"patches: epoch {epoch + 1:2d}  loss {total / len(known):.4f}  {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return model.eval()


def train_segmenter(scene: IndianPines, steps: int) -> Segmenter:
    model = Segmenter()
    mean, unit = statistics(scene)
    standardised = ((scene.hsi.image - mean) / unit).float()
    known = torch.where(scene.training, scene.labels.long() - 1, -1)
    loss_of = nn.CrossEntropyLoss(weights_of(known[known >= 0], 16), ignore_index=-1)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SCENE_RATE, total_steps=steps)
    start = time.perf_counter()
    for step in range(steps):
        image, labels = turn(standardised + NOISE * torch.randn_like(standardised), known)
        loss = loss_of(model(image[None]), labels[None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 24:
            print(f"scene: step {step + 1:3d}  loss {loss.item():.4f}  {time.perf_counter() - start:.0f} s", flush=True)
    fold(model.stem, mean, unit)
    return model.eval()


@torch.no_grad()
def predict(model: nn.Module, scene: IndianPines, where: Tensor) -> Tensor:
    """Labels that a network gives to the pixels where the mask is True."""
    if isinstance(model, PatchClassifier):
        parts = where.nonzero().split(256)
        logits = torch.cat([model(patches_at(scene.hsi.image, part, model.size)) for part in parts])
    else:
        logits = model(scene.hsi.image[None])[0][:, where].T
    return logits.argmax(1) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="of the classifier of patches")
    parser.add_argument("--steps", type=int, default=800, help="of the fully convolutional network")
    parser.add_argument(
        "--only", choices=["classifier", "segmenter"], help="train this one; the other's weights and record stay"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order, whatever the machine's cores
    scene = load_indian_pines()
    record: dict[str, Any] = {"scene": scene.citation, "training_pixels": int(scene.training.sum())}
    if arguments.only:
        record = read(RECORD) | record
    recipes = {
        "classifier": (lambda: train_classifier(scene, arguments.epochs), ("standardise",)),
        "segmenter": (lambda: train_segmenter(scene, arguments.steps), ("stem",)),
    }
    for name, (train, exact) in recipes.items():
        if arguments.only not in (None, name):
            continue
        torch.manual_seed(SEED)
        start = time.perf_counter()
        model = train()
        seconds = time.perf_counter() - start
        size = keep(model, f"indian_pines_{name}.npz", exact)
        found = score(
            predict(model, scene, scene.held_out),
            scene.labels[scene.held_out].long(),
            scene.labels[scene.training].long(),
            scene.class_names,
        )
        record[name] = {
            "weights": sum(weight.numel() for weight in model.parameters()),
            "bytes": size,
            "training_seconds": round(seconds),
            "held_out": found,
        }
    write(RECORD, record)


if __name__ == "__main__":
    main()
