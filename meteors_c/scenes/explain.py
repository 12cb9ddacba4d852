"""Attribution maps of whole scenes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from meteors_c._options import current
from meteors_c.attr._arguments import integer, one_target
from meteors_c.attr._groups import for_every_image
from meteors_c.attr._progress import progress as progress_bar
from meteors_c.attr.explainer import Explainer
from meteors_c.scenes._explaining import Call
from meteors_c.scenes._fingerprint import fingerprint_of_scene
from meteors_c.scenes._grid import Block, Grid, grid_of
from meteors_c.scenes._job import Job, Outcome
from meteors_c.scenes._result import template_of
from meteors_c.scenes._said import said
from meteors_c.scenes._source import Scene, scene_of
from meteors_c.scenes._store import Memory, Store, ZarrStore, folder
from meteors_c.scenes._tiles import mean_spectrum, tiled
from meteors_c.utils import warn_caller

__all__ = ["explain_scene"]

CHUNK_WINDOWS, CHUNK_TILES = 64, 256
_REDUCTIONS = ("centre", "window")
_OURS = ("hsi", "per_target", "show_progress", "verbose")


def explain_scene(
    explainer: Explainer,
    scene: Any,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | None = None,
    pixels: Any = None,
    target: Any = None,
    reduce: str = "centre",
    values: bool | int = False,
    out: str | os.PathLike[str] | None = None,
    client: Any = None,
    chunk: int | tuple[int, int] | None = None,
    overlap: int | tuple[int, int] | None = None,
    alignment: int | tuple[int, int] | None = None,
    wavelengths: Any = None,
    seed: int = 0,
    call: str = "attribute",
    progress: bool | Callable[[int, int], Any] = False,
    **attribute_arguments: Any,
) -> Any:
    """Explain every pixel of a scene, in blocks, so that memory does not grow with it.

    A classifier of patches is explained at each pixel by the window around it (`window`). A network that makes maps of
    an image of any size is explained by tiles: what is explained is the sum of a map over all pixels of the scene, and
    the attribution of a pixel is the one that a call with the whole scene would give it, within rounding.

    Parameters
    ----------
    explainer : Explainer
        Any method of `meteors_c.attr` with its model. Tiles need a method that attributes to each pixel by what lies
        about it: `Saliency`, `InputXGradient`, `IntegratedGradients`, `Occlusion`, or a tunnel around one of them. What
        leaves out bands or superpixels of the whole scene has one number for each of them and no map; by band,
        ``mean_spectrum`` times ``pixels`` of the former says what the whole scene's sum owes to each.
    scene : xarray.DataArray, HSI, numpy.ndarray or dask array
        What `io.open_scene` gives; a DataArray whose dims are the wavelength and y and x, in any order and in memory
        or not; or an array ``(bands, rows, columns)`` with `wavelengths`. Values that are NaN, or what the attribute
        ``_FillValue`` or ``nodata`` of the DataArray says, are masked; pixels without any other are not explained. The
        unit of its wavelengths is what their coordinate says.
    window : int or two int, optional
        Rows and columns of the window around a pixel, odd. Beyond the border, the scene is reflected. Windows are
        views of the block that was read, not copies. None: the model makes maps.
    stride : int, optional
        With `window`: explain every so many pixels along rows and columns.
    pixels : array, DataArray or list of (row, column), optional
        Which pixels are explained: a mask (bool, of the scene's rows and columns); labels (integers of that shape), of
        which those above 0 are classes; or places. All where None.
    target : int, tuple of int, None or list of these
        The output to explain, or several, which get a map each.
    reduce : {"centre", "window"}, default "centre"
        What a pixel takes from the attributions of its window, for each band: those at its centre, or their sums over
        the window, which keep completeness; not for methods that find numbers of groups.
    values : bool or int, default False
        True: the result has the value of each band of each pixel too, as much as the scene. A number: those of at most
        so many of the explained pixels, drawn evenly among them, and their spectra.
    out : str or path-like, optional
        A folder, written in the Zarr format block by block, by whoever computes it; the result is read from there when
        it is looked at, and can be later by ``xarray.open_zarr(out, decode_coords="all")``. A second call with the same
        arguments computes what is missing. An address that fsspec knows (``s3://bucket/map.zarr``, with its package
        and settings) is written through Zarr's own stores.
    client : distributed.Client, optional
        Of a dask cluster, whose workers compute the blocks: processes on any machines, which have this package and,
        with `out`, see the folder. The explainer goes to each once. Blocks of a worker that dies are computed again.
    chunk : int or two int, optional
        Rows and columns of a block of the map: 64 with `window`, 256 without.
    overlap, alignment : int or two int, optional
        Without `window`: how many rows and columns a tile reaches beyond its block, and what its first ones are
        multiples of. Measured where None: a tile must reach as far as two receptive fields, in steps of the network's
        strides.
    wavelengths : array-like, optional
        Of the bands, nm, for a scene without.
    seed : int, default 0
        Of methods that draw at random. Draws depend on it and the place of the pixel, not on blocks or workers; those
        of `NoiseTunnel` and `HyperNoiseTunnel` are the same for all pixels.
    call : str, default "attribute"
        The method of the explainer, such as ``"get_spectral_attributes"``.
    progress : bool or callable, default False
        True shows a bar; a callable is called with the pixels done and to do.
    **attribute_arguments
        Of that method, one for all windows: a `baseline`, `n_steps`, a `band_mask`, ... A baseline of ``"mean"`` is
        that of the scene without `window`, of each window with it.

    Returns
    -------
    xarray.Dataset
        ``map`` (target, y, x), the sum over bands for each pixel, NaN where it is not explained: what a method finds of
        a group of bands (not of a sliding window) counts once, and so does what it finds of a superpixel;
        ``mean_spectrum`` (target, class, wavelength) over the explained pixels of each class (1 for a mask or places);
        ``pixels`` (class), how many these are; with ``values=True``, ``values`` (target, wavelength, y, x); with a
        number of them, ``pixel_values`` (target, pixel, wavelength) and ``pixel_spectra`` (pixel, wavelength), whose
        places in the map are the coordinates ``row`` and ``column``. In output units. Coordinates and the coordinate
        reference system are those of the scene.

    Raises
    ------
    TypeError, ValueError, IndexError, ShapeMismatchError
        For arguments of another type, value or shape.
    ValueError
        Without `window`, if no tiles give what the whole scene gives: the model looks at all of it (global pooling,
        attention, a normalisation over the image), or its outputs are no sums over pixels.
    FileExistsError
        If `out` is there and holds something else, a run with other arguments, or one that can't be told from another.

    Warns
    -----
    UserWarning
        If nothing can go on with the run in `out` once it is cut short. Without `window`, if tiles with the `overlap`
        that was given differ from the whole scene, or for noise, which does so by its nature.

    Notes
    -----
    A method that finds numbers of groups, of bands or of pixels, repeats them in all bands and pixels of a group, in
    the values and the mean spectra too: of these, take one band of each group to sum them up.

    A second start with `out` compares the explainer, with the model's weights, attributes and functions and what these
    read from outside, all arguments, and the scene: its values if it lies in memory (up to 256 MiB), else its shape,
    wavelengths and the spectra of nine pixels. Where the model holds an object of which nothing can be told, a warning
    says so at the first start, and there is no second one.

    A model may round otherwise in batches of another size; but for that, results depend neither on `chunk` nor on the
    number of workers.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, models
    >>> scene = HSI(image=torch.rand(3, 40, 50), wavelengths=[450.0, 550.0, 650.0])
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 5 * 5, 2)).eval()
    >>> explainer = attr.Saliency(models.ExplainableModel(net, "classification"))
    >>> maps = attr.explain_scene(explainer, scene, window=5, target=[0, 1])
    >>> maps["map"].shape
    (2, 40, 50)

    On a cluster, into a folder, which the same call goes on with if it is cut short:

    >>> maps = attr.explain_scene(explainer, scene, window=5, target=0, client=client, out="map.zarr")  # doctest: +SKIP
    """
    _check(explainer, call, reduce, attribute_arguments)
    targets = _targets(target)
    size = _window(window)
    arguments = for_every_image(attribute_arguments, "a scene")
    source = scene_of(scene, wavelengths)
    every, some = _values(values)
    grid = _grid(source, size, stride, pixels, chunk, some)
    tiling, computing = None, explainer
    if size is None:
        if reduce != "centre":
            raise ValueError("reduce='window' needs window=: without one, each pixel has one attribution for each band")
        computing, tiling = tiled(
            explainer, call, arguments, source, _pair(overlap, "overlap", 0), _pair(alignment, "alignment", 1),
            grid.number == 1,
        )  # fmt: skip
        if isinstance(arguments.get("baseline"), str) and arguments["baseline"] == "mean":
            arguments = arguments | {"baseline": mean_spectrum(source)}
    elif overlap is not None or alignment is not None:
        raise ValueError("overlap and alignment are for models that make maps: leave them out, or window")
    else:
        _check_features(explainer, call, arguments)
    seed = integer(seed, "seed", "an int from 0 to 2^62", 0, 2**62)
    over_window = reduce == "window"
    job = Job(
        source, grid.without_pixels(), Call(computing, call, targets, arguments, seed, over_window), len(grid.classes),
        size, tiling, over_window, every, current(),
    )  # fmt: skip
    says = {"reduce": reduce, "window": 0 if size is None else list(size), "stride": grid.stride}
    template = template_of(source, grid, targets, every, explainer.get_name(), says)
    store: Store
    if out is None:
        store = Memory(template, grid)
    else:
        run, opaque = _run(job, explainer, attribute_arguments, grid, pixels)
        store = _folder(folder(out, client is not None), template, grid, run, opaque)
    _compute(job, grid, store, client, progress, explainer.get_name())
    return store.result()


# ---------------------------------------------------------------- arguments


def _check(explainer: Any, call: str, reduce: str, arguments: dict[str, Any]) -> None:
    if not isinstance(explainer, Explainer):
        raise TypeError(f"explainer must be an attribution method with its model, not {type(explainer).__name__}")
    if not isinstance(call, str) or not callable(getattr(explainer, call, None)):
        raise ValueError(f"call must name a method of {explainer.get_name()}, not {call!r}")
    if reduce not in _REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(_REDUCTIONS)}, not {reduce!r}")
    if wrong := [name for name in _OURS if name in arguments]:
        raise TypeError(f"explain_scene takes no {wrong[0]}; several targets are a list, and progress= shows a bar")


def _targets(target: Any) -> list[Any]:
    """Return the targets, checked, as users gave them."""
    given = list(target) if isinstance(target, list | np.ndarray | range) else [target]
    if not given:
        raise ValueError("target must be an output or a list of them, not an empty list")
    indices = [one_target(one) for one in given]
    return [None if not one else one[0] if len(one) == 1 else one for one in indices]


def _pair(value: Any, name: str, least: int) -> tuple[int, int] | None:
    if value is None:
        return None
    given = tuple(value) if isinstance(value, tuple | list) else (value, value)
    wanted = f"an int of at least {least}, or two for rows and columns"
    if len(given) != 2:
        raise ValueError(f"{name} must be {wanted}, not {value!r}")
    rows, columns = (integer(one, name, wanted, least) for one in given)
    return rows, columns


def _window(window: Any) -> tuple[int, int] | None:
    size = _pair(window, "window", 1)
    if size is not None and (size[0] % 2 == 0 or size[1] % 2 == 0):
        raise ValueError(f"window must be odd, so that it has a pixel at its centre, not {window!r}")
    return size


def _values(values: Any) -> tuple[bool, int]:
    """Return whether all values are results, and of how many pixels they are where not."""
    if isinstance(values, bool | np.bool_):
        return bool(values), 0
    return False, integer(values, "values", "a bool, or how many pixels, at least 1", 1)


def _grid(source: Scene, window: tuple[int, int] | None, stride: Any, pixels: Any, chunk: Any, keep: int) -> Grid:
    if window is None and stride is not None:
        raise ValueError("stride needs window=: without one, the model makes maps of all pixels at once")
    step = 1 if stride is None else integer(stride, "stride", "a positive int", 1)
    side = CHUNK_WINDOWS if window is not None else CHUNK_TILES
    return grid_of(source.shape[1:], _pair(chunk, "chunk", 1) or (side, side), step, pixels, keep)


def _check_features(explainer: Explainer, call: str, arguments: dict[str, Any]) -> None:
    """Raise where superpixels would be made of whichever window comes first."""
    spatial = call == "get_spatial_attributes" or arguments.get("attribution_type") == "spatial"
    if spatial and hasattr(explainer, "get_segmentation_mask") and arguments.get("segmentation_mask") is None:
        raise ValueError("segmentation_mask is missing: give one of the shape of a window, for all of them")


# ---------------------------------------------------------------- runs


def _run(
    job: Job, explainer: Explainer, arguments: dict[str, Any], grid: Grid, pixels: Any
) -> tuple[dict[str, str], list[str]]:
    """Return what a run computes, as text by argument, and the types of objects that nothing can be told of."""
    opaque: list[str] = []
    run = {
        "explainer": said(explainer, opaque),
        "arguments": said([job.call.name, sorted(arguments), [arguments[name] for name in sorted(arguments)]], opaque),
        "target": said(job.call.targets),
        "window": said([job.window, grid.stride]),
        "pixels": "all" if pixels is None else said(grid.labels),
        "reduce": said(job.over_window),
        "values": said(job.keep_values or len(grid.kept)),
        "chunk": said(list(grid.chunk)),
        "overlap": "" if job.tiling is None else said([job.tiling.overlap, job.tiling.alignment]),
        "seed": said(job.call.seed),
        "scene": fingerprint_of_scene(job.scene),
    }
    return run, sorted(set(opaque))


def _folder(path: str, template: Any, grid: Grid, run: dict[str, str], opaque: list[str]) -> ZarrStore:
    """Return the folder of a run: a new one, or one that the same run began.

    Raises
    ------
    FileExistsError
        The folder holds another run, or what it holds can't be told from another because of `opaque` objects.
    """
    found = ZarrStore.run_of(path)
    if found is None:
        if opaque:
            warn_caller(
                f"out {path!r}: if this run is cut short, no second start will go on with it, since nothing tells "
                f"what the explainer or its arguments hold in {', '.join(opaque)}: a __reduce__ of that would"
            )
        return ZarrStore.create(path, template, grid, run)
    other = [name for name in run if found.get(name) != run[name]]
    if opaque and not other:
        raise FileExistsError(
            f"out {path!r} holds a run that may be another: nothing tells what the explainer or its arguments hold in "
            f"{', '.join(opaque)}. Choose another name, or remove it to start anew"
        )
    if other:
        ran = " A model that changes as it runs counts as another: load it anew." if other == ["explainer"] else ""
        raise FileExistsError(
            f"out {path!r} holds a run that differs in its {', '.join(other)}: choose another name, or remove it "
            f"to start anew.{ran}"
        )
    return ZarrStore(path, grid)


def _compute(
    job: Job, grid: Grid, store: Store, client: Any, show: bool | Callable[[int, int], Any], name: str
) -> None:
    """Compute the blocks that are missing."""
    total = grid.pixels
    done = sum(block.pixels for block in grid.blocks() if store.done[block.number]) if store.done.any() else 0
    missing: Iterator[Block] = (block for block in grid.blocks() if not store.done[block.number])
    with progress_bar(show, name, unit="pixel") as bar:
        if bar is not None:
            bar(done, total)

        def finished(block: Block, outcome: Outcome | None) -> None:
            nonlocal done
            done += block.pixels
            if outcome is not None and store.location is None:
                store.put(block, outcome)
            if bar is not None:
                bar(done, total)

        if client is not None:
            from meteors_c.scenes._cluster import run_on  # needs packages that nothing else needs

            run_on(client, job, missing, store.location, finished)
            return
        for block in missing:
            outcome = job.compute(block, job.read(block))
            if store.location is not None:
                store.put(block, outcome)
            finished(block, outcome)
