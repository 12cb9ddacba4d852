"""Results for pages, with numbers that can be told from each other."""

from __future__ import annotations

from typing import Any

import torch

from meteors_c import HSI, attr
from tests.toys import explainable, smooth

BANDS, ROWS, COLUMNS = 6, 8, 5
WAVELENGTHS = [850.0, 450.0, 550.0, 650.0, 700.0, 480.0]  # in no order


def field(rows: int = ROWS, columns: int = COLUMNS, bands: int = BANDS, **fields: Any) -> HSI:
    """An image whose value tells band, row and column: 100 band + row + column / 100."""
    places = torch.meshgrid(torch.arange(bands), torch.arange(rows), torch.arange(columns), indexing="ij")
    image = 100.0 * places[0] + places[1] + places[2] / 100
    wavelengths = WAVELENGTHS if bands == BANDS else torch.linspace(400, 2400, bands)
    return HSI(**{"image": image.float(), "wavelengths": wavelengths, **fields})


def full(hsi: HSI | None = None, seed: int = 0, **fields: Any) -> attr.HSIAttributes:
    hsi = field() if hsi is None else hsi
    values = torch.randn(hsi.image.shape, generator=torch.Generator().manual_seed(seed))
    return attr.HSIAttributes(**{"hsi": hsi, "attributes": values, "attribution_method": "Saliency", **fields})


def explained() -> dict[str, attr.HSIAttributes]:
    """Results of each kind, as methods make them."""
    hsi = field()
    hsi.image = hsi.image / 500
    model = explainable(smooth(size=BANDS * ROWS * COLUMNS))
    superpixels = (torch.arange(ROWS * COLUMNS) // 10).reshape(1, ROWS, COLUMNS)
    names = {"blue": 0, "rest": 1}
    return {
        "full": attr.IntegratedGradients(model).attribute(hsi, target=1, return_convergence_delta=True),
        "spatial": attr.KernelShap(model).get_spatial_attributes(hsi, superpixels, target=1),
        "spectral": attr.Lime(model).get_spectral_attributes(
            hsi, torch.tensor([1, 0, 1, 1, 1, 0]), target=1, n_samples=30, standard_errors=True, band_names=names
        ),
        "tunnel": attr.NoiseTunnel(attr.Saliency(model)).attribute(
            hsi, target=1, n_samples=10, stdevs=0.1, standard_error=True
        ),
    }
