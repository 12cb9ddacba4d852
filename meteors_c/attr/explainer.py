"""What all attribution methods share: arguments in, one call of the core, results out."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch

from meteors_c import _core
from meteors_c._native import experience_with, make_model, parallel
from meteors_c._options import current, memory_budget
from meteors_c.attr._arguments import RunSettings, validate_and_transform_baseline
from meteors_c.attr._groups import takes_iterators
from meteors_c.attr._progress import progress
from meteors_c.attr._registry import name_in_words, register
from meteors_c.attr._streams import numbers_of
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.attr.report import Report
from meteors_c.exceptions import HSIAttributesError
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel
from meteors_c.utils import floating_dtype, warn_caller

__all__ = ["Explainer", "validate_and_transform_baseline"]

Result = TypeVar("Result", bound=HSIAttributes)
# As the core names them.
_SHORTCUTS: dict[bool | str, str] = {False: "off", True: "where faster", "always": "always", "replay": "replay"}


class Computed(NamedTuple):
    """What the core computed for the images of a call.

    Attributes
    ----------
    arrays : list of list of numpy.ndarray
        For each image, one for each explained output.
    shape : tuple of int
        Of a sample's outputs, where all of them are explained.
    further : dict
        Further results by name, each a list with one entry for each image.
    report : Report
        What the run did.
    """

    arrays: list[list[np.ndarray]]
    shape: tuple[int, ...]
    further: dict[str, list[Any]]
    report: Report

    def tensors(self, images: list[HSI]) -> list[torch.Tensor]:
        """Return the tensor of each image, where one output is explained."""
        return [result_tensor(of[0], image) for of, image in zip(self.arrays, images, strict=True)]


class Explainer(ABC):  # noqa: B024 - a base class that can be instantiated, as users of meteors expect
    """Base of the attribution methods.

    Where a method takes a list of images, it takes an iterator of them too, and then returns an iterator: one result
    for each image, computed in groups of at most 64 MiB as they are asked for. Images of an array ``(n, C, H, W)`` are
    ``HSI.stack(array, wavelengths=...)``.

    Parameters
    ----------
    callable : ExplainableModel or Explainer
        The model, or an explainer of it that this one builds on (one level deep).

    Attributes
    ----------
    explainable_model : ExplainableModel
        The model.
    chained_explainer : Explainer or None
        The explainer given instead of a model.

    Raises
    ------
    TypeError
        If `callable` is neither.
    ValueError
        If `callable` is an explainer of an explainer.

    Examples
    --------
    All methods have this base; it holds the model.

    >>> explainer = Saliency(model)
    >>> isinstance(explainer, Explainer), explainer.explainable_model is model
    (True, True)
    """

    native_method: ClassVar[_core.Method | None] = None
    _attribution_method: Callable[..., Any] | None = None
    multiplies_by_inputs: bool = False

    def __init_subclass__(cls, native: str | None = None, **arguments: Any) -> None:
        """Register a method of the core: `native` is its name there."""
        super().__init_subclass__(**arguments)
        for name in ("attribute", "get_spatial_attributes", "get_spectral_attributes"):
            if name in vars(cls):
                setattr(cls, name, takes_iterators(vars(cls)[name]))
        if native is not None:
            cls.native_method = _core.methods[native]
            register(cls)

    def __init__(self, callable: ExplainableModel | Explainer) -> None:
        self.chained_explainer: Explainer | None = None
        self._attribution_method = self.native_method
        self.explainable_model: ExplainableModel
        if isinstance(callable, Explainer):
            if callable.chained_explainer is not None:
                raise ValueError(
                    f"callable: a {callable.get_name()} that wraps an explainer can't be wrapped again; "
                    "a chain has one level"
                )
            self.chained_explainer = callable
            self.explainable_model = callable.explainable_model
        elif isinstance(callable, ExplainableModel):
            self.explainable_model = callable
        else:
            raise TypeError(f"callable must be an ExplainableModel or an Explainer, not {type(callable).__name__}")

    @property
    def forward_func(self) -> Callable[..., Any]:
        """What is called: the model's `forward_func`."""
        return self.explainable_model.forward_func

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter or buffer lies; the CPU, with a warning, where it has none."""
        device = self.explainable_model.device
        if device is None:
            warnings.warn("the model has no parameters that tell its device; taking the CPU", stacklevel=2)
            return torch.device("cpu")
        return device

    @classmethod
    def get_name(cls) -> str:
        """Return the method's name in words, such as ``Integrated Gradients``.

        Examples
        --------
        >>> HyperNoiseTunnel.get_name()
        'Hyper Noise Tunnel'
        """
        return name_in_words(cls.__name__)

    def has_convergence_delta(self) -> bool:
        """Return whether the method can tell its error of completeness.

        Examples
        --------
        >>> Saliency(model).has_convergence_delta(), IntegratedGradients(model).has_convergence_delta()
        (False, True)
        """
        return False

    def compute_convergence_delta(self, *args: Any, **kwargs: Any) -> Any:
        """Not available; use ``return_convergence_delta`` of `IntegratedGradients.attribute` instead.

        Examples
        --------
        >>> attributes = IntegratedGradients(model).attribute(hsi, target=0, n_steps=8, return_convergence_delta=True)
        >>> type(attributes.score)
        <class 'float'>
        """
        raise NotImplementedError(f"{self.get_name()} has no compute_convergence_delta")

    def to(self, device: str | torch.device) -> Explainer:
        """Move the model to a device.

        Returns
        -------
        Explainer
            This object.

        Examples
        --------
        >>> Saliency(model).to("cpu").device
        device(type='cpu')
        """
        self.explainable_model.to(device)
        return self

    # ---- inside a noise tunnel

    @property
    def is_product_with_image(self) -> bool:
        """Whether the attribution is the image times something that does not hold it."""
        return False

    def nested_arguments(self, images: list[HSI]) -> dict[str, Any]:
        """Return the arguments, as the core takes them, with which the method runs inside a noise tunnel.

        Examples
        --------
        >>> InputXGradient(model).nested_arguments([hsi])
        {}
        """
        return {}

    @classmethod
    def _defaults(cls, *names: str) -> dict[str, Any]:
        """Return the defaults of these arguments of `attribute`."""
        parameters = inspect.signature(cls.attribute).parameters  # type: ignore[attr-defined]
        return {name: parameters[name].default for name in names}

    # ---- one call of the core

    def _native(self) -> Callable[..., Any]:
        """Return the method of the core; an error where it was set to None."""
        if self._attribution_method is None:
            raise RuntimeError(f"{self.get_name()} has no attribution method: it was set to None")
        return self._attribution_method

    def _compute(
        self,
        native: Callable[..., Any],
        images: list[HSI],
        targets: list[tuple[int, ...]],
        settings: RunSettings,
        baselines: list[Any] | None = None,
        **arguments: Any,
    ) -> Computed:
        """Call a method of the core; `arguments` are its own."""
        device = self.explainable_model.device
        device = images[0].image.device if device is None else device
        limits = [limit for limit in (settings.max_batch_size, current().batch) if limit is not None]
        most = min(limits) if limits else None
        core_model = make_model(self.explainable_model, settings.additional_forward_args, images, device, most)
        # Gradients need autograd, also where the caller works in inference mode.
        with torch.inference_mode(False), progress(settings.show_progress, self.get_name()) as bar:
            options = {
                "max_batch_size": most,
                "memory_budget": memory_budget(),
                "dtype": core_model.dtype,
                "shortcuts": _SHORTCUTS[current().shortcuts],
                "finite": current().finite,
                "tune_allocator": current().tune_allocator,
                "parallel": parallel(),
                "progress": bar,
                "experience": experience_with(self.explainable_model),
                "streams": numbers_of(len(images)),
            }
            arrays, shape, further, counts = native(images, targets, baselines, core_model.capsule, options, arguments)
        report = Report(
            method=self.get_name(),
            model=core_model.description,
            images=len(images),
            arguments=_in_words({} if baselines is None else {"baseline": _bare_number(baselines)}, arguments),
            **counts,
        )
        _warn(report)
        return Computed(arrays, shape, further, report)

    def _result(
        self,
        hsi: HSI,
        attributes: torch.Tensor,
        target: tuple[int, ...],
        report: Report,
        result_type: type[Result] = HSIAttributes,  # type: ignore[assignment]
        **fields: Any,
    ) -> Result:
        """Build the result of one image."""
        try:
            return result_type(
                hsi=hsi,
                attributes=attributes,
                attribution_method=self.get_name(),
                report=report,
                target=None if not target else target[0] if len(target) == 1 else target,
                **fields,
            )
        except Exception as error:
            raise HSIAttributesError(f"the result of {self.get_name()} could not be built: {error}") from error

    def _results(
        self,
        images: list[HSI],
        attributes: Sequence[torch.Tensor],
        targets: list[tuple[int, ...]],
        report: Report,
        scores: Sequence[float | None] | None = None,
    ) -> HSIAttributes | list[HSIAttributes]:
        """Return one result for each image, bare where there is one."""
        scores = [None] * len(images) if scores is None else scores
        return bare(
            [
                self._result(hsi, values, one, report, score=score)
                for hsi, values, one, score in zip(images, attributes, targets, scores, strict=True)
            ]
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.chained_explainer or self.explainable_model!r})"


def _bare_number(baselines: list[Any]) -> Any:
    """Return the number that all baselines are; None where they are something else."""
    numbers = {one for one in baselines if isinstance(one, float)}
    return numbers.pop() if len(numbers) == 1 and not any(isinstance(one, torch.Tensor) for one in baselines) else None


def _in_words(*arguments: dict[str, Any]) -> str:
    """Return the arguments of a call that are numbers, strings or tuples of such; others are too long to be read."""

    def plain(value: Any) -> bool:
        if isinstance(value, tuple | list):
            return len(value) <= 8 and all(map(plain, value))
        return isinstance(value, bool | int | float | str)

    words = []
    for name, value in (pair for given in arguments for pair in given.items()):
        if isinstance(value, tuple) and value and isinstance(value[0], _core.Method):  # what a tunnel runs around
            words.append(f"{name}={value[0].name}({_in_words(value[1])})")
        elif plain(value):
            words.append(f"{name}={value!r}")
    return ", ".join(words)


def _warn(report: Report) -> None:
    """Warn the caller of what makes the results slower or less useful than expected."""
    if report.one_at_a_time is not None:
        warn_caller(
            f"the model gets one sample at a time, which takes longer: {report.one_at_a_time}. Where it normalises "
            "over the batch or gives one number for a batch, let it treat each sample by itself"
        )
    if report.shortcut_failed is not None:
        warn_caller(
            f"a shortcut gave other numbers than the model, so all was evaluated again without it: "
            f"{report.shortcut_failed}. The results are those of the model; meteors_c.options(shortcuts=False) saves "
            "the time for the attempt"
        )
    if report.nonfinite is not None and current().finite == "warn":
        warn_caller(
            f"there are values that are NaN or infinite, and the result keeps what they make of it: {report.nonfinite} "
            f"(outputs {report.nonfinite_outputs}, gradients {report.nonfinite_gradients}, attributions "
            f'{report.nonfinite_results}). meteors_c.options(finite="raise") makes this an error'
        )


def for_each_output(
    computed: Computed,
    targets: list[tuple[int, ...]],
    wanted: str | list[tuple[int, ...]] | None,
    build: Callable[[int, int, tuple[int, ...]], HSIAttributes],
) -> Any:
    """Return ``build(image, output, target)`` for each image; where several outputs are `wanted`, a list of them."""
    if wanted is None:
        return bare([build(i, 0, one) for i, one in enumerate(targets)])
    names: list[tuple[int, ...]] = [*np.ndindex(computed.shape)] if isinstance(wanted, str) else wanted
    return bare([[build(i, t, one) for t, one in enumerate(names)] for i in range(len(targets))])


def bare(results: list[Any]) -> Any:
    """Return the only entry of a list, or the list."""
    return results[0] if len(results) == 1 else results


def result_tensor(array: np.ndarray, hsi: HSI) -> torch.Tensor:
    """Return an array of the core as a tensor of the image's floating dtype, on its device."""
    with torch.inference_mode(False):
        return torch.from_numpy(array).to(device=hsi.image.device, dtype=floating_dtype(hsi.image))


def differentiable_image(hsi: HSI) -> torch.Tensor:
    """Return the masked image as a tensor that requires grad, also where the caller works in inference mode."""
    with torch.inference_mode(False):
        image = hsi.get_image()
        image = image.to(floating_dtype(image))
        if image.requires_grad:
            return image
        return (image.clone() if image.is_inference() else image.detach()).requires_grad_()
