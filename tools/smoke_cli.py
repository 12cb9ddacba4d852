"""Use an installed ``meteors-c`` as a user would: an ENVI scene and a TorchScript model in, a map and a page out.

Works in any folder, in the environment of the Python that runs it, with the extras ``geo`` and ``report``. The model is
linear, so that the attributions are known: weight times value.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import torch
from torch import nn

BANDS, ROWS, COLUMNS, TARGET = 5, 6, 7, 1
HEADER = f"""ENVI
samples = {COLUMNS}
lines = {ROWS}
bands = {BANDS}
data type = 4
interleave = bsq
byte order = 0
wavelength units = Micrometers
wavelength = {{0.45, 0.55, 0.65, 0.85, 1.65}}
map info = {{UTM, 1, 1, 500000, 4000000, 30, 30, 33, North, WGS-84}}
"""


def meteors_c(*arguments: str | Path, cwd: Path) -> None:
    """Run the console script of this environment; end with it where it fails."""
    script = Path(sysconfig.get_path("scripts"), "meteors-c")
    done = subprocess.run([script, *arguments], cwd=cwd, check=False)
    if done.returncode:
        sys.exit(f"{script} failed with status {done.returncode}")


def main() -> None:
    values = np.random.default_rng(0).random((BANDS, ROWS, COLUMNS), dtype=np.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(values.size, 3)).eval()
    wanted = model[1].weight[TARGET].detach().numpy().reshape(values.shape) * values
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values.tofile(folder / "scene.img")
        (folder / "scene.hdr").write_text(HEADER)
        torch.jit.script(model).save(str(folder / "model.pt"))
        meteors_c("info", "scene.hdr", cwd=folder)
        meteors_c(
            "explain", "scene.hdr", "--model", "model.pt", "--method", "ig", "--baseline", "0", "--target", str(TARGET),
            "--out", "map.tif", "--report", "page.html", cwd=folder,
        )  # fmt: skip
        with rasterio.open(folder / "map.tif") as file:
            found, crs, transform = file.read(), file.crs, file.transform
        if not np.allclose(found, wanted, rtol=1e-4, atol=1e-6):
            sys.exit(f"the map is wrong by {abs(found - wanted).max():.2g}")
        if crs.to_epsg() != 32633 or transform[:6] != (30, 0, 500000, 0, -30, 4000000):
            sys.exit(f"the map lies elsewhere: {crs}, {transform}")
        page = (folder / "page.html").read_text()
        if "scene.hdr" not in page or "</html>" not in page:
            sys.exit("the page is not whole")
    print("the console script: 1 passed, 0 failed")


if __name__ == "__main__":
    main()
