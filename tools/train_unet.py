"""Train the U-Net that tells five groups of classes of the Indian Pines scene apart, and write its weights.

Run from anywhere: ``python tools/train_unet.py``; some minutes on one core. Seeded: the same machine and torch give the
same weights. Needs the package tensorly, which holds the scene.

A U-Net looks far: a margin as wide as its receptive field would leave nothing to train with. So the held-out strips are
hidden from it in training, values and labels alike: the mean spectrum stands there. Their accuracy is measured on the
whole scene, where the network sees them for the first time. It trains on crops at random places,
turned and mirrored, with a little noise.
"""

from __future__ import annotations

import argparse
import time

import torch
from _indian_pines_training import fold, keep, score, statistics, write
from torch import Tensor, nn
from train_indian_pines import NOISE, turn, weights_of

from meteors_c.datasets import IndianPines, load_indian_pines
from meteors_c.datasets._indian_pines_models import UNet
from meteors_c.datasets.indian_pines import GROUPS, group_labels, held_out_strips

SEED = 5
CROP, BATCH, RATE = 48, 8, 4e-3


def crops(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """BATCH crops with labels in them, turned and mirrored."""
    images, known = [], []
    while len(images) < BATCH:
        row, column = (int(torch.randint(size - CROP + 1, ())) for size in labels.shape)
        part = slice(row, row + CROP), slice(column, column + CROP)
        if (labels[part] >= 0).any():
            turned, turned_labels = turn(image[(slice(None), *part)], labels[part])
            images.append(turned)
            known.append(turned_labels)
    return torch.stack(images), torch.stack(known)


def train(scene: IndianPines, steps: int) -> UNet:
    model = UNet()
    mean, unit = (part.float() for part in statistics(scene))
    known = torch.where(scene.training, group_labels(scene.labels), -1)
    shown = ~held_out_strips()
    loss_of = nn.CrossEntropyLoss(weights_of(known[known >= 0], len(GROUPS)), ignore_index=-1, label_smoothing=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    standardised = torch.where(shown, (scene.hsi.image - mean) / unit, 0.0)
    start, total = time.perf_counter(), 0.0
    for step in range(steps):
        images, labels = crops(standardised, known)
        loss = loss_of(model(images + NOISE * torch.randn_like(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 50 == 49:
            print(f"step {step + 1:4d}  loss {total / 50:.4f}  {time.perf_counter() - start:.0f} s", flush=True)
            total = 0.0
    fold(model.stem, *statistics(scene))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--dry", action="store_true", help="print what it reaches, write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order, whatever the machine's cores
    torch.manual_seed(SEED)
    scene = load_indian_pines()
    start = time.perf_counter()
    model = train(scene, arguments.steps)
    seconds = time.perf_counter() - start
    size = 0 if arguments.dry else keep(model, "indian_pines_unet.npz", ("stem",))
    groups = group_labels(scene.labels)
    with torch.no_grad():
        predicted = model(scene.hsi.image[None])[0].argmax(0)
    names = [name for name, _ in GROUPS]
    record = {
        "scene": scene.citation,
        "training_pixels": int(scene.training.sum()),
        "weights": sum(weight.numel() for weight in model.parameters()),
        "bytes": size,
        "training_seconds": round(seconds),
        "held_out": score(predicted[scene.held_out], groups[scene.held_out], groups[scene.training], names),
    }
    if arguments.dry:
        print(record)
    else:
        write("indian_pines_unet.json", record)


if __name__ == "__main__":
    main()
