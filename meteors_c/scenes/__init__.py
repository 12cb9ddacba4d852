"""Maps of whole scenes: explained in blocks, so that memory does not grow with the scene, on one machine or many."""

from meteors_c.scenes.explain import explain_scene

__all__ = ["explain_scene"]
