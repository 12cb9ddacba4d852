"""Published weights: fetched once through a URL, checked by SHA-256, kept in a cache.

Files live under ``$METEORS_C_CACHE``, or where the platform keeps caches (``~/.cache/meteors_c`` on Linux), in a folder
named after their hash: two files of one name never meet. What arrives goes to ``<file>.part`` and takes its place in
one step once its hash is right, so the cache never holds half a file under its final name. A download that was cut
goes on where it stopped. A lock beside the file lets one process fetch while others wait. Pooch does the downloading;
what it lacks, going on with a part and telling a busy server from one that refuses, is here.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from filelock import FileLock

from meteors_c._version import __version__
from meteors_c.exceptions import ValidationError

with warnings.catch_warnings():  # in notebooks without widgets tqdm warns of its own, which pooch imports
    warnings.filterwarnings("ignore", message="IProgress not found")
    import pooch

if TYPE_CHECKING:
    from requests import Response
    from tqdm import tqdm

__all__ = ["ChecksumError", "DownloadError", "cache_dir", "cached_path", "fetch", "load_model", "load_weights"]

_BLOCK = 1 << 16  # bytes read at a time; of what is read, so much may be lost when the connection is cut
_PAUSES = (0.5, 2.0)  # seconds before each further attempt after a cut connection
_RETRIED_STATUS = {408, 429, 500, 502, 503, 504}  # with which the next request may well succeed

Module = TypeVar("Module", bound=torch.nn.Module)


class DownloadError(OSError):
    """A file can't be fetched; the message names the URL and where to put the file by hand.

    Examples
    --------
    >>> issubclass(DownloadError, OSError)
    True
    """


class ChecksumError(OSError):
    """A file arrived whole, but its SHA-256 is another one than wanted.

    Examples
    --------
    >>> try:
    ...     fetch(url, sha256="0" * 64)
    ... except ChecksumError:
    ...     print("the server has another file")
    the server has another file
    """


class _ConnectionLostError(Exception):
    """The connection failed or ended early: another attempt may go on from there."""


class _RefusedError(Exception):
    """The server refuses the request, and would refuse it again."""


def cache_dir() -> Path:
    """Return the folder that fetched files are kept in; it need not exist yet.

    Returns
    -------
    Path
        ``$METEORS_C_CACHE`` if that is set, else ``meteors_c`` in the platform's folder for caches:
        ``$XDG_CACHE_HOME`` or ``~/.cache``, ``~/Library/Caches`` on macOS.

    Examples
    --------
    >>> cache_dir().name
    'cache'
    """
    own = os.environ.get("METEORS_C_CACHE")
    return Path(own).expanduser() if own else Path(pooch.os_cache("meteors_c"))


def cached_path(url: str, sha256: str) -> Path:
    """Return where a file is kept, whether it is there or not.

    Parameters
    ----------
    url : str
        Its address; the last part of its path is the file's name.
    sha256 : str
        Its SHA-256 in 64 hexadecimal digits.

    Returns
    -------
    Path
        The file in the cache.

    Raises
    ------
    ValidationError
        `url` is no http or https address of a file, or `sha256` no SHA-256.

    Examples
    --------
    >>> cached_path("https://example.org/weights.npz", sha256=sha256).name
    'weights.npz'
    """
    parts = urlsplit(url)
    name = Path(unquote(parts.path)).name
    if parts.scheme not in ("http", "https") or not parts.hostname or name in ("", "..") or "\0" in name:
        raise ValidationError(f"url must be an http or https address of a file, got {url!r}")
    return cache_dir() / _checked_hash(sha256)[:16] / name


def fetch(url: str, sha256: str, *, timeout: float = 30.0, progress: bool = False) -> Path:
    """Fetch a file into the cache, unless it is there.

    Parameters
    ----------
    url : str
        Its address, http or https.
    sha256 : str
        Its SHA-256 in 64 hexadecimal digits. A file in the cache is checked too, each time.
    timeout : float
        Seconds that the server may stay silent.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The file in the cache.

    Raises
    ------
    DownloadError
        The server can't be reached, or refuses. What has come so far stays, and the next call goes on from there.
    ChecksumError
        The server has another file under this address. Nothing is kept of it.
    ValidationError
        A bad `url`, `sha256` or `timeout`.

    Examples
    --------
    >>> path = fetch(url, sha256=sha256)  # an address, and the 64 digits of the file's hash
    >>> path == cached_path(url, sha256)
    True
    """
    path, wanted = cached_path(url, sha256), _checked_hash(sha256)
    if not timeout > 0:
        raise ValidationError(f"timeout must be a positive number of seconds, got {timeout}")
    if _matches(path, wanted):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):  # ends with the process, however it ends
        if not _matches(path, wanted):  # no other process fetched it while we waited
            _download(url, path, wanted, timeout, progress)
    return path


def load_weights(path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Read weights without running code that the file might hold.

    Parameters
    ----------
    path : path
        An npz archive of arrays (no pickles), or what ``torch.save`` wrote: a dict of tensors, possibly under the key
        ``state_dict``.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValidationError
        Not such a file, or it holds something else.

    Examples
    --------
    >>> network.load_state_dict(load_weights(fetch(url, sha256=sha256)))
    <All keys matched successfully>
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights at {path}")
    weights: Any
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                weights = {name: torch.from_numpy(archive[name]) for name in archive.files}
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and NumPy raise many kinds for a damaged file, pickle's own among them
        raise ValidationError(f"{path} holds no readable weights: {error}") from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValidationError(f"{path} must hold a dict of tensors, got {type(weights).__name__}")
    return dict(weights)


def load_model(
    network: Module,
    url: str,
    sha256: str,
    *,
    fallback: bool = False,
    timeout: float = 30.0,
    progress: bool = False,
) -> Module:
    """Give a network its published weights.

    Parameters
    ----------
    network : torch.nn.Module
        The network; all of its weights are replaced.
    url, sha256, timeout, progress
        As in :func:`fetch`.
    fallback : bool
        When the weights can't be fetched, warn and keep those that the network has. A file with the wrong hash or
        with weights that do not fit is an error all the same.

    Returns
    -------
    torch.nn.Module
        `network`, in eval mode.

    Raises
    ------
    DownloadError, ChecksumError
        As in :func:`fetch`.
    ValidationError
        The file holds no weights, or not those of this network; the network keeps its own.

    Examples
    --------
    >>> network = load_model(datasets.load_demo_model(), url, sha256=sha256)
    """
    try:
        path = fetch(url, sha256, timeout=timeout, progress=progress)
    except DownloadError as error:
        if not fallback:
            raise
        warnings.warn(f"the network keeps the weights that it has: {error}", UserWarning, stacklevel=2)
        return network.eval()
    weights, own = load_weights(path), network.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unknown:
        raise ValidationError(
            f"{path} does not fit {type(network).__name__}: it lacks {_listed(missing)} "
            f"and has {_listed(unknown)} besides"
        )
    if wrong := [name for name in own if own[name].shape != weights[name].shape]:
        raise ValidationError(
            f"{path} does not fit {type(network).__name__}: {wrong[0]} must have the shape "
            f"{tuple(own[wrong[0]].shape)}, got {tuple(weights[wrong[0]].shape)}"
        )
    network.load_state_dict(weights)
    return network.eval()


def _listed(names: list[str]) -> str:
    """Return the first names in words, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"


def _checked_hash(sha256: str) -> str:
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValidationError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}")
    return sha256.lower()


def _matches(path: Path, wanted: str) -> bool:
    return path.is_file() and pooch.file_hash(str(path)) == wanted


def _download(url: str, path: Path, wanted: str, timeout: float, progress: bool) -> None:
    """Fetch into ``<path>.part`` in as many attempts as it takes, check, move into place."""
    part = path.with_name(path.name + ".part")
    pauses = iter(_PAUSES)
    while True:
        resumed = _size(part) > 0
        try:
            _receive(url, part, timeout, progress)
        except (_ConnectionLostError, _RefusedError) as problem:
            pause = next(pauses, None) if isinstance(problem, _ConnectionLostError) else None
            if pause is None:
                raise DownloadError(_failure(url, path, wanted, str(problem))) from problem
            time.sleep(pause)
            continue
        found = pooch.file_hash(str(part))
        if found == wanted:
            os.replace(part, path)
            return
        part.unlink()
        if not resumed:
            raise ChecksumError(
                f"{url} is another file than wanted: its SHA-256 is {found}, wanted {wanted}. "
                "Either the published file has changed, or something between here and the server changes it."
            )
        # The part that was there may belong to an older version of the file, so all of it is fetched once more.


def _receive(url: str, part: Path, timeout: float, progress: bool) -> None:
    """One attempt to bring `part` to the file's full length."""
    import requests  # which pooch downloads with, imported when it is needed as there

    offset, total = _size(part), None
    headers = {"User-Agent": f"meteors_c/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    with part.open("ab") as file:

        def begin(response: Response, **_: object) -> None:
            """Make the file fit what the server is about to send."""
            nonlocal total
            start = _first_byte(response.headers.get("Content-Range")) if response.status_code == 206 else 0
            if response.ok and start not in (0, offset):
                sent = response.headers.get("Content-Range")
                raise _RefusedError(f"the request is for the bytes from {offset} on, but the server sends {sent}")
            if response.ok and not start:
                file.truncate(0)  # a server without ranges sends everything again
            length = response.headers.get("Content-Length", "")
            total = (start or 0) + int(length) if response.ok and length.isdigit() else None

        bar = _bar(part) if progress else False
        download = pooch.HTTPDownloader(
            progressbar=bar, chunk_size=_BLOCK, timeout=timeout, headers=headers, hooks={"response": begin}
        )
        try:
            download(url, file, None)
        except requests.HTTPError as error:
            answer = error.response
            assert answer is not None  # raise_for_status, which raises this, has one
            if answer.status_code == 416 and offset:  # nothing lies behind the offset: it is whole, or of another file
                return
            kind = _ConnectionLostError if answer.status_code in _RETRIED_STATUS else _RefusedError
            raise kind(f"the server returns {answer.status_code} {answer.reason}") from error
        except requests.RequestException as error:
            had = f"after {file.tell()} of {total} bytes: " if total is not None else ""
            raise _ConnectionLostError(f"the connection ended {had}{error}") from error
        finally:
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(part) < total:
        raise _ConnectionLostError(f"the connection ended after {_size(part)} of {total} bytes")


def _first_byte(content_range: str | None) -> int | None:
    """Return the number of the first byte in a header such as ``bytes 100-199/200``."""
    found = re.match(r"bytes (\d+)-", content_range or "")
    return int(found[1]) if found else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _failure(url: str, path: Path, wanted: str, reason: str) -> str:
    """Return a message that says why a file can't be fetched, and where to put it by hand."""
    damaged = f" The file at {path} has another SHA-256 and is not used." if path.exists() else ""
    return (
        f"could not fetch {url}: {reason}.{damaged} Get the file in another way, put it at {path} "
        f"(its SHA-256 must be {wanted}), or try again later."
    )


def _bar(part: Path) -> tqdm[Any]:
    """Return a progress bar in bytes, which pooch gives its total and moves on."""
    from tqdm.auto import tqdm

    # pooch asks whether the bar is true, which one without a total can't say.
    return tqdm(desc=part.name.removesuffix(".part"), total=1, unit="B", unit_scale=True)
