"""Attribution methods and their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.attr.effects import FeatureEffects
from meteors_c.attr.explainer import Explainer
from meteors_c.attr.feature_ablation import FeatureAblation
from meteors_c.attr.input_x_gradients import InputXGradient
from meteors_c.attr.integrated_gradients import IntegratedGradients
from meteors_c.attr.kernel_shap import KernelShap
from meteors_c.attr.lime import Lime
from meteors_c.attr.missing import Background, Blur, SegmentMean
from meteors_c.attr.noise_tunnel import HyperNoiseTunnel, NoiseTunnel
from meteors_c.attr.occlusion import Occlusion
from meteors_c.attr.report import Report
from meteors_c.attr.saliency import Saliency
from meteors_c.attr.shapley_sampling import ShapleyValueSampling
from meteors_c.models._extra_arguments import AsIs, PerImage

if TYPE_CHECKING:
    from meteors_c.scenes.explain import explain_scene

__all__ = [
    "AsIs",
    "Background",
    "Blur",
    "Explainer",
    "FeatureAblation",
    "FeatureEffects",
    "HSIAttributes",
    "HSIAttributesSpatial",
    "HSIAttributesSpectral",
    "HyperNoiseTunnel",
    "InputXGradient",
    "IntegratedGradients",
    "KernelShap",
    "Lime",
    "NoiseTunnel",
    "Occlusion",
    "PerImage",
    "Report",
    "Saliency",
    "SegmentMean",
    "ShapleyValueSampling",
    "explain_scene",
]


def __getattr__(name: str) -> Any:
    if name == "explain_scene":  # which stands on the methods above
        from meteors_c.scenes.explain import explain_scene

        return explain_scene
    raise AttributeError(f"module 'meteors_c.attr' has no attribute '{name}'")
