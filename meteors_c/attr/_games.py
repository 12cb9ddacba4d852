"""What is common to methods that ask the model about coalitions of features: superpixels, superbands, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from meteors_c.attr._arguments import RunSettings, outputs_of, spectral_axis_of
from meteors_c.attr._band_masks import BandMasks
from meteors_c.attr._fields import BandNames, distinct_ids
from meteors_c.attr._segment_ids import number_ids, whole_number_ids
from meteors_c.attr._segmentation_masks import SegmentationMasks, read_band_masks, read_segmentation_masks
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.attr.effects import FeatureEffects
from meteors_c.attr.explainer import Computed, Explainer, for_each_output, result_tensor
from meteors_c.attr.missing import MissingValues, missing_values
from meteors_c.exceptions import MaskCreationError
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
        names = {str(number): number for number in distinct_ids(mask)} if self.names is None else self.names[i]
        return {"mask": mask, "band_names": names}


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
        if len(images) > 1:
            warn_caller("segmentation_mask is None: superpixels are made from the first image and serve all of them")
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
        masks, names = [mask for mask, _ in made], [found for _, found in made]
        return read_features(read_band_masks(masks, images), images, "band_mask", HSIAttributesSpectral, names)
    masks = read_band_masks(band_mask, images)
    given = None if band_names is None else [_checked_names(band_names)] * len(images)
    return read_features(masks, images, "band_mask", HSIAttributesSpectral, given)


def _checked_names(band_names: Any) -> BandNames:
    if not isinstance(band_names, dict):
        raise TypeError(
            f"band_names beside a band_mask must be a dict of the id of each name, not {type(band_names).__name__}"
        )
    return band_names


def joint_features(segmentation_mask: Any, band_mask: Any, images: list[HSI]) -> Features:
    """Return features that are one superpixel in one superband each."""
    axis = spectral_axis_of(images)
    segments = read_segmentation_masks(segmentation_mask, images)
    bands = read_band_masks(band_mask, images)
    masks = []
    for image, segment, band in zip(images, segments, bands, strict=True):
        if segment.shape[axis] != 1 or band.numel() != band.shape[axis]:
            raise ValueError("joint features need superpixels that are the same in all bands, and bands in all pixels")
        places, segment_ids = number_ids(whole_number_ids(segment, "segmentation_mask"))
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
    arguments : dict
        The method's own arguments, as the core takes them.
    """

    images: list[HSI]
    features: Features
    target: Any
    per_target: bool
    baseline: Any
    settings: RunSettings
    continue_from: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)


class GameExplainer(Explainer):
    """Base of methods that evaluate coalitions of features; it needs outputs and no gradients."""

    def _play(
        self,
        game: Game,
        seed: int = 0,
        solve: Callable[[Computed, MissingValues], Computed] | None = None,
    ) -> Any:
        """Call the core and return one result for each image, or with several outputs a list of them.

        Parameters
        ----------
        game : Game
            What is asked.
        seed : int
            What results say of it.
        solve : callable, optional
            Turns what the core computed into what is wanted.
        """
        images, features = game.images, game.features
        wanted, targets = outputs_of(game.target, game.per_target, len(images))
        missing = missing_values(game.baseline, images, features.numbered)
        known = _known(game, missing, targets, wanted)
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
            **game.arguments,
        )
        _verify(game.continue_from, computed)
        computed = computed if solve is None else solve(computed, missing)

        def build(i: int, t: int, target: tuple[int, ...]) -> HSIAttributes:
            effects = _effects(computed.further, i, t, features.ids[i], missing.names[i], seed)
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
    values = np.append(numbers.numpy(), 0.0)[once]
    spread: torch.Tensor = torch.from_numpy(values).to(image.image.device).expand(image.image.shape)
    return spread


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
    if len(of_images) != images:
        raise ValueError(f"continue_from must hold the results of {images} images, not of {len(of_images)}")
    if not all(isinstance(getattr(one, "effects", None), FeatureEffects) for of in of_images for one in of):
        raise TypeError("continue_from must be what an earlier call of a method over features returned")
    return of_images


def _known(
    game: Game, missing: MissingValues, targets: list[tuple[int, ...]], wanted: str | list[tuple[int, ...]] | None
) -> tuple[list[np.ndarray] | None, list[np.ndarray] | None]:
    """Return what an earlier call asked and was told but for one answer, by which the model is verified."""
    if game.continue_from is None:
        return None, None
    coalitions, values = [], []
    for i, of in enumerate(results_to_continue(game.continue_from, len(game.images))):
        effects = [one.effects for one in of]
        explained = [None if not one else one[0] if len(one) == 1 else one for one in (wanted or targets[i : i + 1])]
        if not isinstance(wanted, str) and [one.target for one in of] != explained:
            raise ValueError(f"continue_from is of target {[one.target for one in of]}, this call of {explained}")
        if isinstance(wanted, str) and len(of) == 1 and of[0].target is not None:
            raise ValueError("continue_from is of one target, this call of all")
        if not np.array_equal(effects[0].ids.numpy(), game.features.ids[i]) or not torch.equal(
            of[0].mask.cpu(), game.features.masks[i].cpu().expand(of[0].mask.shape)
        ):
            raise ValueError("continue_from is of other features than the masks of this call")
        if of[0].hsi is not game.images[i] and of[0].hsi != game.images[i]:
            raise ValueError("continue_from is of another image than this call")
        if effects[0].missing != missing.names[i]:
            raise ValueError(
                f"in continue_from left out features take {effects[0].missing}, in this call {missing.names[i]}"
            )
        told = np.stack([one.outputs.numpy() for one in effects], axis=1)
        asked_anew = _asked_anew(effects[0])
        coalitions.append(np.ascontiguousarray(np.delete(effects[0].coalitions.numpy(), asked_anew, axis=0)))
        values.append(np.ascontiguousarray(np.delete(told, asked_anew, axis=0)))
    return coalitions, values


def _asked_anew(effects: FeatureEffects) -> slice:
    """Return which coalition of an earlier call is asked once more: the image itself, else the first.

    Of the baseline, the first one of Shapley values, different models may say the same: 0, for one, without biases.
    """
    whole = effects.coalitions.numpy().all(axis=1)
    at = int(whole.argmax()) if len(whole) else 0
    return slice(at, at + 1)


def _verify(continue_from: Any, computed: Computed) -> None:
    """Raise an error if the model does not say any more what it said of a coalition of an earlier call."""
    if continue_from is None:
        return
    for i, of in enumerate(results_to_continue(continue_from, len(computed.arrays))):
        if len(of[0].effects.coalitions) == 0:
            continue
        at = _asked_anew(of[0].effects)
        same = (computed.further["coalitions"][i] == of[0].effects.coalitions[at].numpy()).all(axis=1)
        for t, one in enumerate(of):
            now, then = computed.further["values"][i][same, t], float(one.effects.outputs[at])
            if len(now) and not np.allclose(now[0], then, rtol=1e-3, atol=1e-6, equal_nan=True):
                raise ValueError(
                    f"continue_from is of another model or other arguments: it said {then:.6g} of a sample, of which "
                    f"the model now says {float(now[0]):.6g}"
                )


def seed_of(continue_from: Any, images: int, new: Callable[[], int]) -> int:
    """Return the seed of the results that are continued, or a new one."""
    if continue_from is None:
        return new()
    seeds = {one.effects.seed for of in results_to_continue(continue_from, images) for one in of}
    if len(seeds) > 1:
        raise ValueError("continue_from holds results of different calls: their random numbers differ")
    return seeds.pop()
