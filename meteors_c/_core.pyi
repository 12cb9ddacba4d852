from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Self

class HSI:
    # Read as what the getter gives; assign anything that the constructor takes.
    @property
    def image(self) -> torch.Tensor: ...
    @image.setter
    def image(self, value: Any) -> None: ...
    @property
    def wavelengths(self) -> torch.Tensor: ...
    @wavelengths.setter
    def wavelengths(self, value: Any) -> None: ...
    @property
    def orientation(self) -> tuple[str, str, str]: ...
    @orientation.setter
    def orientation(self, value: tuple[str, str, str] | list[str] | str) -> None: ...
    @property
    def device(self) -> torch.device: ...
    @device.setter
    def device(self, value: str | torch.device | None) -> None: ...
    @property
    def binary_mask(self) -> torch.Tensor: ...
    @binary_mask.setter
    def binary_mask(self, value: Any) -> None: ...
    def __init__(
        self,
        *,
        image: Any,
        wavelengths: Any = ...,
        orientation: tuple[str, str, str] | list[str] | str = ...,
        device: str | torch.device | None = None,
        binary_mask: Any = None,
        wavelength_unit: str | None = None,
        georeference: Any = None,
        source: str | None = None,
    ) -> None: ...
    @property
    def georeference(self) -> Any: ...
    @georeference.setter
    def georeference(self, value: Any) -> None: ...
    @property
    def source(self) -> str | None: ...
    @source.setter
    def source(self, value: str | None) -> None: ...
    @classmethod
    def from_xarray(
        cls,
        da: Any,
        spectral: str = "wavelength",
        *,
        binary_mask: Any = None,
        nodata: float | None = None,
        wavelengths: Any = None,
        wavelength_unit: str | None = None,
        device: str | torch.device | None = None,
    ) -> Self: ...
    def bands(self, name: str | tuple[float, float] | list[str | tuple[float, float]], /) -> NDArray[np.int64]: ...
    @property
    def spectral_axis(self) -> int: ...
    @property
    def spatial_binary_mask(self) -> torch.Tensor: ...
    def to(self, device: str | torch.device) -> Self: ...
    def get_image(self, apply_mask: bool = True) -> torch.Tensor: ...
    def change_orientation(
        self, target_orientation: tuple[str, str, str] | list[str] | str, inplace: bool = False
    ) -> Self: ...
    def extract_band_by_name(
        self,
        band_name: str,
        selection_method: str = "center",
        apply_mask: bool = True,
        apply_min_cutoff: bool = False,
        normalize: bool = True,
    ) -> torch.Tensor: ...
    def get_rgb_image(
        self,
        apply_mask: bool = True,
        apply_min_cutoff: bool = False,
        output_channel_axis: int | None = None,
        normalize: bool = True,
    ) -> torch.Tensor: ...
    def get_picture(
        self,
        apply_mask: bool = True,
        apply_min_cutoff: bool = False,
        output_channel_axis: int | None = None,
    ) -> tuple[torch.Tensor, str | None]: ...
    def _repr_html_(self) -> str: ...
    def _substitute_bands(self) -> tuple[int, int, int]: ...
    def _extract_central_slice_from_band(
        self,
        band_wavelengths: Any,
        apply_mask: bool = True,
        apply_min_cutoff: bool = False,
        normalize: bool = True,
    ) -> torch.Tensor: ...
    @classmethod
    def stack(
        cls,
        images: Any,
        /,
        *,
        wavelengths: Any,
        orientation: tuple[str, str, str] | list[str] | str = ...,
        device: str | torch.device | None = None,
        binary_mask: Any = None,
    ) -> list[Self]: ...
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self: ...

# The bands that have a name: their lowest and highest wavelength, nm, ends included.
band_ranges: dict[str, tuple[float, float]]

def _hsi_image(image: Any, /) -> torch.Tensor: ...
def _hsi_wavelengths(wavelengths: Any, /) -> torch.Tensor: ...
def _hsi_orientation(orientation: Any, /) -> tuple[str, str, str]: ...
def _hsi_device(device: Any, /) -> torch.device: ...
def _hsi_check_wavelengths(wavelengths: torch.Tensor, image: torch.Tensor, spectral_axis: int, /) -> None: ...
def _hsi_mask_tensor(mask: Any, /) -> torch.Tensor: ...
def _hsi_mask(mask: Any, image: Any, orientation: Any, device: Any, /) -> torch.Tensor: ...

Targets = list[tuple[int, ...]]
Arrays = list[NDArray[Any]]
Counts = dict[str, Any]

class Method:
    """A method of the core; see src/core/method.h."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...
    @property
    def nests(self) -> bool: ...
    def __call__(
        self,
        images: list[HSI],
        targets: Targets,
        baselines: list[Any] | None,
        model: object,
        options: dict[str, Any],
        arguments: dict[str, Any],
    ) -> tuple[list[Arrays], tuple[int, ...], dict[str, list[Any]], Counts]: ...

methods: dict[str, Method]

def experience() -> object: ...
def find_method(name: str, /) -> Method: ...
def perturb(
    image: torch.Tensor,
    baseline: torch.Tensor | None,
    n_samples: int,
    seed: int,
    stdev: float,
    selected: tuple[bytes | None, ...],
    probability: float,
    exact: int | None,
) -> NDArray[Any]: ...
def choose(n: int, k: int, n_samples: int, seed: int) -> NDArray[np.bool_]: ...
def draw_coalitions(seed: int, image: int, n_samples: int, features: int) -> NDArray[np.uint8]: ...
def callable_model(forward: Callable[..., Any], gradient: Callable[..., Any] | None = None) -> object: ...
def fit_linear(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    kind: Literal["least_squares", "ridge", "lasso"],
    alpha: float,
    intercept: bool,
    positive: bool,
    max_iterations: int,
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, bool]: ...
def windows(scene: HSI, rows: NDArray[np.int64], columns: NDArray[np.int64], height: int, width: int) -> list[HSI]: ...
def window_spectra(windows: list[torch.Tensor], axis: int, over_window: bool) -> NDArray[np.float64]: ...
def resolve_targets(targets: Targets, shape: tuple[int, ...]) -> list[int]: ...
