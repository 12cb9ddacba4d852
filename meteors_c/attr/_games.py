"""What is common to methods that ask the model about coalitions of features: superpixels, superbands, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from meteors_c.attr._arguments import RunSettings, outputs_of, spectral_axis_of
from meteors_c.attr._band_masks import BandMasks
from meteors_c.attr._fields import BandNames, align_band_names_with_mask, distinct_ids, validate_band_names
from meteors_c.attr._segment_ids import number_ids, whole_number_ids
from meteors_c.attr._segmentation_masks import SegmentationMasks, read_band_masks, read_segmentation_masks
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.attr.effects import FeatureEffects
from meteors_c.attr.explainer import Computed, Explainer, for_each_output, result_tensor
from meteors_c.attr.missing import MissingValues, missing_values
from meteors_c.exceptions import HSIAttributesError, MaskCreationError
from meteors_c.hsi import HSI
from meteors_c.utils import warn_caller

__all__ = ["Features", "Game", "GameExplainer", "band_features", "joint_features", "read_features", "segment_features"]

_MANY_FEATURES = 10_000


# ---------------------------------------------------------------- features


@dataclass(frozen=True)
class Features:
    """The features of the images of a call.

    Attributes
    ----------
    masks : list of torch.Tensor
        For each image the ids of its features, as the user gave them; they broadcast to the image.
    numbered : list of numpy.ndarray of int32
        The same, of the image's shape, numbered from 0 on; -1 in none.
    ids : list of numpy.ndarray of int64
        The id of each number.
    result_type : type
        The class of the results.
    names : list of dict, or None
        Of superbands: the id of each name, for each image.
    """

    masks: list[torch.Tensor]
    numbered: list[np.ndarray]
    ids: list[np.ndarray]
    result_type: type[HSIAttributes]
    names: list[BandNames] | None = None

    def fields(self, image: HSI, i: int) -> dict[str, Any]:
        """Return what the result of image i has beside its attributions."""
        mask = self.masks[i].to(image.image.device).expand(image.image.shape)
        if self.result_type is not HSIAttributesSpectral:
            return {"mask": mask}
        ids = [int(number) for number in distinct_ids(mask)]
        return {"mask": mask, "band_names": {str(n): n for n in ids} if self.names is None else self.names[i]}


def read_features(
    masks: Sequence[torch.Tensor],
    images: list[HSI],
    name: str,
    result_type: type[HSIAttributes],
    names: list[BandNames] | None = None,
) -> Features:
    """Number the features in masks that broadcast to their images; `name` is the argument, for messages."""
    read: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # one mask may serve all images
    for mask, image in zip(masks, images, strict=True):
        if id(mask) not in read:
            read[id(mask)] = number_ids(whole_number_ids(mask, name).expand(image.image.shape))
    numbered = [read[id(mask)][0] for mask in masks]
    ids = [read[id(mask)][1] for mask in masks]
    if not all(map(len, ids)):
        raise ValueError(f"{name} must name at least one feature: all its ids are negative")
    most = max(map(len, ids))
    if most > _MANY_FEATURES:
        warn_caller(f"{name} has {most} features: that takes many samples; fewer, larger ones are easier to read too")
    return Features(list(masks), numbered, ids, result_type, names)


def segment_features(segmentation_mask: Any, images: list[HSI], method: str, parameters: dict[str, Any]) -> Features:
    """Return superpixels: of masks that are given, or of one that is made from the first image."""
    spectral_axis_of(images)
    if segmentation_mask is None:
        warn_caller(
            "segmentation_mask is None: superpixels are made from the first image, and serve any others as well"
        )
        segmentation_mask = SegmentationMasks.get_segmentation_mask(images[0], method, **parameters)  # type: ignore[arg-type]
    elif parameters:
        unknown = ", ".join(parameters)
        warn_caller(f"a segmentation_mask is given, so what would make one is not used: {unknown}")
    masks = read_segmentation_masks(segmentation_mask, images)
    return read_features(masks, images, "segmentation_mask", HSIAttributesSpatial)


def band_features(band_mask: Any, band_names: Any, images: list[HSI]) -> Features:
    """Return superbands: of masks that are given, or made from names for each image."""
    spectral_axis_of(images)
    if band_mask is None:
        if band_names is None:
            raise MaskCreationError("either band_mask or band_names must be given: which bands make a superband?")
        made = [BandMasks.get_band_mask(image, band_names) for image in images]
        masks, given = read_band_masks([mask for mask, _ in made], images), [found for _, found in made]
    else:
        masks, given = read_band_masks(band_mask, images), [band_names] * len(images)
        if band_names is not None and not isinstance(band_names, dict):
            raise TypeError(
                f"band_names beside a band_mask must be a dict of the id of each name, not {type(band_names).__name__}"
            )
    names = None if band_names is None else [_checked_names(*one) for one in zip(given, masks, strict=True)]
    return read_features(masks, images, "band_mask", HSIAttributesSpectral, names)


def _checked_names(band_names: BandNames, mask: torch.Tensor) -> BandNames:
    """Match names with the ids in a mask, before the model is asked anything."""
    names = validate_band_names(band_names)
    negative = [name for name, number in names.items() if number < 0]
    if negative:
        raise ValueError(
            f"band_names must not have negative ids, which stand for bands in no superband, but {negative[0]!r} has "
            f"{names[negative[0]]}"
        )
    try:
        return align_band_names_with_mask(names, whole_number_ids(mask, "band_mask"))
    except MaskCreationError as error:
        raise HSIAttributesError(f"band_names and band_mask do not fit together: {error}") from error


def joint_features(segmentation_mask: Any, band_mask: Any, images: list[HSI]) -> Features:
    """Return features that are one superpixel in one superband each."""
    axis = spectral_axis_of(images)
    segments = read_segmentation_masks(segmentation_mask, images)
    bands = read_band_masks(band_mask, images)
    masks = []
    for image, segment, band in zip(images, segments, bands, strict=True):
        if segment.shape[axis] != 1 or band.numel() != band.shape[axis]:
            raise ValueError("joint features need superpixels that are the same in all bands, and bands in all pixels")
        places, _ = number_ids(whole_number_ids(segment, "segmentation_mask"))
        groups, band_ids = number_ids(whole_number_ids(band, "band_mask"))
        joint = places.astype(np.int64) * len(band_ids) + groups
        masks.append(torch.from_numpy(np.where((places < 0) | (groups < 0), -1, joint)).expand(image.image.shape))
    return read_features(masks, images, "segmentation_mask and band_mask", HSIAttributes)


# ---------------------------------------------------------------- one call


@dataclass(frozen=True)
class Game:
    """What a call of a method over features asks for, whatever the method.

    Attributes
    ----------
    images, features
        The images and the features of each.
    target, per_target
        Which outputs.
    baseline
        What left out features take.
    settings : RunSettings
        How the model is called.
    continue_from
        The results of an earlier call, or None.
    """

    images: list[HSI]
    features: Features
    target: Any
    per_target: bool
    baseline: Any
    settings: RunSettings
    continue_from: Any = None

    @cached_property
    def missing(self) -> MissingValues:
        """What left out features take, as the core takes it."""
        return missing_values(self.baseline, self.images, self.features.numbered)


class GameExplainer(Explainer):
    """Base of methods that evaluate coalitions of features; it needs outputs and no gradients."""

    def _play(
        self,
        game: Game,
        arguments: dict[str, Any] | None = None,
        solve: Callable[[Computed], Computed] | None = None,
    ) -> Any:
        """Call the core and return one result for each image, or with several outputs a list of them.

        Parameters
        ----------
        game : Game
            What is asked.
        arguments : dict, optional
            The method's own arguments, as the core takes them; results state their ``seed``.
        solve : callable, optional
            Turns what the core computed into what is wanted.
        """
        images, features = game.images, game.features
        wanted, targets = outputs_of(game.target, game.per_target, len(images))
        missing, arguments = game.missing, arguments or {}
        known = _known(game, self.get_name(), missing, targets, wanted)
        computed = self._compute(
            self._native(),
            images,
            targets,
            game.settings,
            missing.baselines,
            features=features.numbered,
            outputs=wanted,
            backgrounds=missing.backgrounds,
            known_coalitions=known[0],
            known_values=known[1],
            **arguments,
        )
        computed = _go_on(game, wanted, missing, computed)
        computed = computed if solve is None else solve(computed)

        def build(i: int, t: int, target: tuple[int, ...]) -> HSIAttributes:
            with torch.inference_mode(False):  # what is found can be used in autograd
                effects = _effects(computed.further, i, t, features.ids[i], missing.names[i], arguments.get("seed", 0))
            errors = None if effects is None else effects.standard_errors
            return self._result(
                images[i],
                result_tensor(computed.arrays[i][t], images[i]),
                target,
                computed.report,
                features.result_type,
                score=None if effects is None else effects.score,
                standard_error=None if errors is None else _spread(errors, features.numbered[i], images[i]),
                effects=effects,
                **features.fields(images[i], i),
            )

        return for_each_output(computed, targets, wanted, build)


def _spread(numbers: torch.Tensor, numbered: np.ndarray, image: HSI) -> torch.Tensor:
    """Return the number of the feature of each value, 0 in none; what repeats itself is stored once."""
    once = numbered[tuple(slice(0, 1) if step == 0 else slice(None) for step in numbered.strides)]
    return result_tensor(np.append(numbers.numpy(), 0.0)[once], image).expand(image.image.shape)


def _effects(
    further: dict[str, list[Any]], i: int, t: int, ids: np.ndarray, missing: str, seed: int
) -> FeatureEffects | None:
    """Return what the core found of the features of image i and output t; None for methods that tell nothing of it."""

    def row(name: str) -> torch.Tensor | None:
        return torch.from_numpy(further[name][i][t].copy()) if name in further else None

    def number(name: str, *at: int) -> float | None:
        return float(further[name][i][at]) if name in further else None

    values = row("coefficients")
    if values is None:
        return None
    interval = row("score_interval")
    return FeatureEffects(
        ids=torch.from_numpy(ids),
        values=values,
        standard_errors=row("standard_errors"),
        interactions=row("interactions"),
        baseline_output=number("values_of_ends", t, 0),
        output=number("values_of_ends", t, 1),
        intercept=number("intercepts", t),
        score=number("scores", t, 0),
        weighted_score=number("scores", t, 1),
        score_interval=None if interval is None else (float(interval[0]), float(interval[1])),
        effective_samples=number("effective_samples", 0),
        exact=bool(number("exact", 0)),
        missing=missing,
        samples=_samples(further, i),
        seed=seed,
        coalitions=torch.from_numpy(further["coalitions"][i]),
        outputs=torch.from_numpy(further["values"][i][:, t].copy()),
    )


def _samples(further: dict[str, list[Any]], i: int) -> int:
    if "weights" in further:
        return len(further["weights"][i])
    return int(further["permutations"][i][0]) if "permutations" in further else len(further["coalitions"][i])


# ---------------------------------------------------------------- going on


def results_to_continue(continue_from: Any, images: int) -> list[list[HSIAttributes]]:
    """Return the results of each output of each image that an earlier call returned."""
    results = continue_from if isinstance(continue_from, list) else [continue_from]
    if images == 1 and (len(results) != 1 or not isinstance(results[0], list)):
        results = [results]  # a bare result, or a bare list of outputs
    of_images = [one if isinstance(one, list) else [one] for one in results]
    if len(of_images) != images or not all(of_images):
        raise ValueError(f"continue_from must hold the results of {images} images, not of {len(of_images)}")
    if not all(isinstance(getattr(one, "effects", None), FeatureEffects) for of in of_images for one in of):
        raise TypeError("continue_from must be what an earlier call of a method over features returned")
    return of_images


def _effects_of(results: list[HSIAttributes]) -> list[FeatureEffects]:
    return [one.effects for one in results if one.effects is not None]


def _as_target(target: tuple[int, ...]) -> Any:
    """Return a target as results state it."""
    return None if not target else target[0] if len(target) == 1 else target


def _witnesses(effects: FeatureEffects) -> list[int]:
    """Return the coalitions by which the model is verified, ascending: that with most left out and that with least.

    The first is one of those that are asked first, and tells another baseline from that of the earlier call as well; of
    it alone, models without biases say 0 whatever their weights.
    """
    sizes = effects.coalitions.sum(dim=1)
    return sorted({int(sizes[:8].argmin()), int(sizes.argmax())}) if len(sizes) > 0 else []


def _known(
    game: Game, name: str, missing: MissingValues, targets: list[tuple[int, ...]], wanted: Any
) -> tuple[list[np.ndarray] | None, list[np.ndarray] | None]:
    """Return what an earlier call asked and was told, but for the coalitions by which the model is verified."""
    if game.continue_from is None:
        return None, None
    coalitions, values = [], []
    for i, of in enumerate(results_to_continue(game.continue_from, len(game.images))):
        _check_same_call(game, name, of, missing, i)
        if not isinstance(wanted, str):  # "all": told by the outputs
            _check_targets(of, wanted or targets[i : i + 1])
        effects = _effects_of(of)
        others = np.delete(np.arange(len(effects[0].coalitions)), _witnesses(effects[0]))
        coalitions.append(np.ascontiguousarray(effects[0].coalitions.numpy()[others]))
        values.append(np.ascontiguousarray(np.stack([one.outputs.numpy()[others] for one in effects], axis=1)))
    return coalitions, values


def _check_same_call(game: Game, name: str, of: list[HSIAttributes], missing: MissingValues, i: int) -> None:
    """Raise an error unless earlier results are of the method, the image, the features and the missing values."""
    result, effects = of[0], _effects_of(of)[0]
    if result.attribution_method != name:
        raise ValueError(f"continue_from is of {result.attribution_method}, this call of {name}")
    mask = game.features.masks[i].cpu()
    if (
        result.mask is None
        or result.mask.shape != game.images[i].image.shape
        or not np.array_equal(effects.ids.numpy(), game.features.ids[i])
        or not bool((result.mask.cpu() == mask).all())
    ):
        raise ValueError("continue_from is of other features than the masks of this call")
    if not _is_same_image(result.hsi, game.images[i]):
        raise ValueError("continue_from is of another image than this call")
    if effects.missing != missing.names[i]:
        raise ValueError(f"in continue_from left out features take {effects.missing}, in this call {missing.names[i]}")


def _is_same_image(a: HSI, b: HSI) -> bool:
    """Return whether a model sees the same; what masks hide does not count."""
    return a is b or (
        a.orientation == b.orientation
        and a.image.dtype == b.image.dtype
        and torch.equal(a.wavelengths.cpu(), b.wavelengths.cpu())
        and torch.equal(a.binary_mask.cpu(), b.binary_mask.cpu())
        and torch.equal(a.get_image().cpu(), b.get_image().cpu())
    )


def _check_targets(of: list[HSIAttributes], targets: Sequence[tuple[int, ...]]) -> None:
    explained = [_as_target(one) for one in targets]
    if [one.target for one in of] != explained:
        raise ValueError(f"continue_from is of target {[one.target for one in of]}, this call of {explained}")


def _go_on(game: Game, wanted: Any, missing: MissingValues, computed: Computed) -> Computed:
    """Raise an error if the model does not say any more what it said; else order the coalitions as they were.

    What verified the model is counted as such.
    """
    if game.continue_from is None:
        return computed
    verified = 0
    for i, of in enumerate(results_to_continue(game.continue_from, len(game.images))):
        if isinstance(wanted, str):
            _check_targets(of, [*np.ndindex(computed.shape)])
        effects = _effects_of(of)
        coalitions = computed.further["coalitions"][i]
        spectra = None if missing.backgrounds is None else missing.backgrounds[i]
        order = np.arange(len(coalitions))
        for witness in _witnesses(effects[0]):
            found = np.flatnonzero((coalitions == effects[0].coalitions[witness].numpy()).all(axis=1))
            if len(found) == 0:  # no sample of this call is it
                continue
            _check_outputs(effects, witness, computed.further["values"][i][found[0]])
            verified += 1 if spectra is None else len(spectra)
            order = np.insert(order[order != found[0]], witness, found[0])
        for name in ("coalitions", "values"):
            computed.further[name][i] = computed.further[name][i][order]
    report = computed.report
    verifying = report.evaluations_verifying + verified
    report = replace(report, evaluations=report.evaluations - verified, evaluations_verifying=verifying)
    return computed._replace(report=report)


def _check_outputs(effects: list[FeatureEffects], witness: int, now: np.ndarray) -> None:
    """Raise an error unless outputs are those of an earlier call, up to what batches of another size round."""
    for one, number in zip(effects, now, strict=True):
        then = float(one.outputs[witness])
        finite = one.outputs[one.outputs.isfinite()].numpy()
        spread = float(np.ptp(finite)) if len(finite) else 0.0
        if not np.isclose(number, then, rtol=1e-6, atol=1e-4 * (spread or abs(then)), equal_nan=True):
            raise ValueError(
                f"continue_from is of another model, baseline or other arguments: it said {then:.6g} of a sample, of "
                f"which the model now says {float(number):.6g}"
            )


def seed_of(continue_from: Any, images: int, new: Callable[[], int]) -> int:
    """Return the seed of the results that are continued, or a new one."""
    if continue_from is None:
        return new()
    earlier = results_to_continue(continue_from, images)
    seeds = {effects.seed for of in earlier for effects in _effects_of(of)}
    if len(seeds) > 1:
        raise ValueError("continue_from holds results of different calls: their random numbers differ")
    return seeds.pop()
