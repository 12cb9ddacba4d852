"""What a run of the engine did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """What a run of the engine did, for all images of one call but for ``samples_used``.

    Attributes
    ----------
    method : str
        Name of the attribution method.
    model : str
        How the model was called: ``torch``, ``TorchScript``, ``torch through Python calls``, ``callable on arrays``.
    images : int
        Images of the call.
    evaluations : int
        Samples that the model evaluated and whose results were used.
    evaluations_saved : int
        Samples whose result was known without the model.
    evaluations_verifying : int
        Samples that were evaluated once more: to verify that batches leave a sample's result alone, that a shortcut
        gives what the model gives, and that the model is still that of results that are continued; and images that
        were evaluated again, for their samples to be compared with outputs from a batch of the same size.
    evaluations_discarded : int
        Samples whose results were not used: of a batch whose samples influence each other, or of a shortcut that
        declined half-way.
    model_calls : int
        Calls of the model that evaluated `evaluations`.
    chunk_first, chunk_size, chunk_largest : int
        Samples in the first call, in a call of the size that the engine chose in the end, and in the largest call.
    seconds, seconds_in_model : float
        Wall time of the run, and its part inside the model (for a shortcut: inside the model's share of it).
    peak_bytes : int
        The largest size of the engine's own buffers at one time, without what the model allocates.
    shortcut : str or None
        The shortcut that was taken; where there is none, `shortcut_declined` says why.
    shortcut_evaluations : int
        Samples that went through it.
    shortcut_seconds : float
        Wall time of these.
    program : str or None
        Of the operators of the model's recorded run, how many stand in front of the place where the shortcut cuts it
        (those that are affine in the input told apart), and how many are run in full; and the milliseconds that a
        sample was planned to take.
    shortcut_declined : str or None
        Why no shortcut was taken, in words.
    decline_reason : str or None
        The same as one of ``switched_off``, ``not_offered`` (a model called in this way has none),
        ``nothing_shared`` (by the samples of this method), ``little_work``, ``model_state`` (train mode, hooks),
        ``structure`` (no part of the model can be computed once for all samples), ``values``, ``verification`` (it
        gave other numbers), ``failure``.
    shortcut_failed : str or None
        What a shortcut gave for a sample for which the model gives something else, where that was found out while it
        ran. Nothing of it is in the results.
    one_at_a_time : str or None
        Why the model was given one sample at a time, where it was: samples of a batch influence each other, or it
        gives one number for a batch.
    kernels : str or None
        What was computed by kernels of our own instead of torch's, faster and with other rounding: gradients of
        convolutions with few input channels or strides. ``options(shortcuts=False)`` has the model's own.
    nonfinite : str or None
        Where the first value was that is NaN or infinite.
    nonfinite_outputs, nonfinite_gradients, nonfinite_results : int
        Outputs that were not finite, samples whose gradient had such a value, and such values in the attributions.
    arguments : str or None
        Of the method, as ``name=value``: defaults included, tensors left out.
    samples_used : int or None
        For the noise tunnels, the perturbed copies that this image's result is made of: `n_samples`, or fewer where
        `tolerance` stopped earlier. None for other methods.

    Examples
    --------
    >>> report = result.report
    >>> report.method, report.evaluations
    ('Integrated Gradients', 8)
    >>> print(report)
    Integrated Gradients of 1 image, model: torch
      evaluations  8...
    """

    method: str
    model: str
    images: int
    evaluations: int
    evaluations_saved: int
    model_calls: int
    chunk_first: int
    chunk_size: int
    chunk_largest: int
    seconds: float
    seconds_in_model: float
    peak_bytes: int
    shortcut: str | None
    shortcut_evaluations: int
    shortcut_declined: str | None
    decline_reason: str | None = None
    evaluations_verifying: int = 0
    evaluations_discarded: int = 0
    shortcut_failed: str | None = None
    one_at_a_time: str | None = None
    nonfinite: str | None = None
    nonfinite_outputs: int = 0
    nonfinite_gradients: int = 0
    nonfinite_results: int = 0
    samples_used: int | None = None
    program: str | None = None
    shortcut_seconds: float = 0.0
    arguments: str | None = None
    kernels: str | None = None

    @property
    def seconds_outside_model(self) -> float:
        """Wall time of the engine itself."""
        return max(0.0, self.seconds - self.seconds_in_model)

    @property
    def overhead(self) -> float:
        """Time outside the model as a fraction of the time inside."""
        return self.seconds_outside_model / self.seconds_in_model if self.seconds_in_model > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of plain values.

        Examples
        --------
        >>> result.report.to_dict()["images"]
        1
        """
        return asdict(self)

    def _program_lines(self) -> list[str]:
        if self.program is None or self.shortcut_evaluations == 0:
            return []
        measured = 1e3 * self.shortcut_seconds / self.shortcut_evaluations
        return [f"  program      {self.program}, measured {measured:.3g} ms"]

    def _repr_html_(self) -> str:
        from meteors_c.pages._notebook import report_html

        return report_html(self)

    def __repr__(self) -> str:
        if self.shortcut is not None:
            shortcut = f"{self.shortcut} ({self.shortcut_evaluations} evaluations)"
        else:
            shortcut = "none" + (f" ({self.shortcut_declined})" if self.shortcut_declined else "")
        saved = "".join(
            f", {count} {what}"
            for count, what in [
                (self.evaluations_saved, "saved"),
                (self.evaluations_verifying, "to verify"),
                (self.evaluations_discarded, "discarded"),
            ]
            if count
        )
        plural = "" if self.images == 1 else "s"
        samples = [] if self.samples_used is None else [f"  samples      {self.samples_used} used for this image"]
        return "\n".join(
            [
                f"{self.method} of {self.images} image{plural}, model: {self.model}",
                *samples,
                f"  evaluations  {self.evaluations}{saved}, in {self.model_calls} calls",
                f"  chunk        {self.chunk_size} samples (first {self.chunk_first}, largest {self.chunk_largest})",
                f"  time         {self.seconds:.3f} s: {self.seconds_in_model:.3f} s in the model, "
                f"{self.seconds_outside_model:.3f} s outside ({100 * self.overhead:.1f} %)",
                f"  memory       {self.peak_bytes / 1e6:.1f} MB at most in the engine's buffers",
                f"  shortcut     {shortcut}",
                *self._program_lines(),
                *([] if self.kernels is None else [f"  kernels      {self.kernels}"]),
                *([] if self.shortcut_failed is None else [f"  failed       a shortcut: {self.shortcut_failed}"]),
                *([] if self.one_at_a_time is None else [f"  batches      one sample at a time: {self.one_at_a_time}"]),
                *([] if self.nonfinite is None else [f"  not finite   {self.nonfinite}"]),
            ]
        )
