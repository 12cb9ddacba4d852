"""Fetching weights: against a small server on the loopback that can cut, refuse and send the wrong thing."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from meteors_c import hub
from meteors_c.exceptions import ValidationError

CONTENT = np.random.RandomState(0).bytes(3 << 20)  # many blocks of reading
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at /weights.npz and writes down what was asked: (path, Range header)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: list[int] = []  # bytes to send, then hang up; one entry per request
        self.ranges = True
        self.status: list[int] = []  # answers to give instead of a file, one per request
        self.pause = 0.0  # seconds of silence in the middle
        self.url = f"http://127.0.0.1:{self.server_port}/models/weights.npz?download=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.requests.append((self.path, wanted))
        if server.status:
            return self.send_error(server.status.pop(0))
        content = server.content
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + server.cut_after.pop(0) if server.cut_after else len(content)
        middle = (start + end) // 2
        try:
            self.wfile.write(content[start:middle])
            time.sleep(server.pause)
            self.wfile.write(content[middle:end])
        except OSError:
            pass  # the client went away

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METEORS_C_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def part_of(url: str) -> Path:
    path = hub.cached_path(url, SHA256)
    return path.with_name(path.name + ".part")


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_fresh_then_from_the_cache(server: Server, cache: Path) -> None:
    path = hub.fetch(server.url, SHA256)
    assert path == hub.cached_path(server.url, SHA256.upper())
    assert path.name == "weights.npz"
    assert cache in path.parents
    assert path.read_bytes() == CONTENT
    assert not part_of(server.url).exists()
    assert server.requests == [("/models/weights.npz?download=1", None)]
    assert hub.fetch(server.url, SHA256) == path
    assert len(server.requests) == 1, "what is in the cache is not asked for again"


def test_a_cut_connection_is_resumed_within_the_call(server: Server) -> None:
    server.cut_after = [1_000_000, 500_000]
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT
    first, *starts = [wanted for _, wanted in server.requests]
    assert first is None
    offsets = [int(re.fullmatch(r"bytes=(\d+)-", start)[1]) for start in starts]
    block = hub._BLOCK
    assert len(offsets) == 2
    assert 1_000_000 - block < offsets[0] <= 1_000_000, "what came is kept, but for less than a block"
    assert 500_000 - block < offsets[1] - offsets[0] <= 500_000


def test_a_later_call_resumes(server: Server) -> None:
    server.cut_after = [1_000_000, 100, 10]
    with pytest.raises(hub.DownloadError) as caught:
        hub.fetch(server.url, SHA256)
    kept = part_of(server.url).read_bytes()
    assert f"{len(kept)} of {len(CONTENT)} bytes" in str(caught.value)
    assert CONTENT.startswith(kept)
    assert 1_000_000 - hub._BLOCK < len(kept) <= 1_000_110
    assert not hub.cached_path(server.url, SHA256).exists()
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={len(kept)}-"


def test_a_server_without_ranges_starts_again(server: Server) -> None:
    server.ranges, server.cut_after = False, [1_000_000]
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("length", [1000, len(CONTENT), len(CONTENT) + 5], ids=["shorter", "as long", "longer"])
def test_a_partial_file_of_something_else_is_given_up(server: Server, length: int) -> None:
    part_of(server.url).parent.mkdir(parents=True)
    part_of(server.url).write_bytes(bytes(length))
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [f"bytes={length}-", None]


def test_a_partial_file_that_is_whole_is_taken(server: Server) -> None:
    part_of(server.url).parent.mkdir(parents=True)
    part_of(server.url).write_bytes(CONTENT)
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT


def test_wrong_hash(server: Server, cache: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(hub.ChecksumError) as caught:
        hub.fetch(server.url, SHA256)
    assert hashlib.sha256(server.content).hexdigest() in str(caught.value)
    assert SHA256 in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.requests) == 1
    assert [file for file in cache.rglob("*") if file.is_file() and file.stat().st_size] == []


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server) -> None:
    path = hub.fetch(server.url, SHA256)
    path.write_bytes(CONTENT[:-1])
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:-1])
    server.status = [404]
    with pytest.raises(hub.DownloadError, match="404"):
        hub.fetch(server.url, SHA256)


def test_not_found_is_said_at_once(server: Server) -> None:
    server.status = [404]
    with pytest.raises(hub.DownloadError, match="404"):
        hub.fetch(server.url, SHA256)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.status = [503, 429]
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT
    server.status = [503] * 3
    with pytest.raises(hub.DownloadError, match="503"):
        hub.fetch(server.url.replace("weights", "others"), SHA256)


def test_offline_says_what_to_do() -> None:
    url = f"http://127.0.0.1:{closed_port()}/weights.npz"
    path = hub.cached_path(url, SHA256)
    with pytest.raises(hub.DownloadError) as caught:
        hub.fetch(url, SHA256)
    for words in (url, str(path), SHA256):
        assert words in str(caught.value)
    # And that works: the file put there by hand is taken, without a server.
    path.write_bytes(CONTENT)
    assert hub.fetch(url, SHA256) == path


def test_silence_ends_with_the_timeout(server: Server) -> None:
    server.pause = 1.0
    with pytest.raises(hub.DownloadError, match=server.url.split("?")[0]):
        hub.fetch(server.url, SHA256, timeout=0.1)


INTERRUPTED = """
import sys
from meteors_c import hub
print("ready", flush=True)
try:
    hub.fetch(sys.argv[1], sys.argv[2])
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_interrupted_keeps_what_came_and_frees_the_lock(server: Server) -> None:
    server.pause = 20.0
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, server.url, SHA256], stdout=subprocess.PIPE, env=os.environ.copy()
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        until = time.monotonic() + 20.0
        while not (part_of(server.url).exists() and part_of(server.url).stat().st_size) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20.0) == 7
    finally:
        process.kill()
        process.wait()
    kept = part_of(server.url).read_bytes()
    assert kept
    assert CONTENT.startswith(kept)
    assert not hub.cached_path(server.url, SHA256).exists()
    server.pause = 0.0
    assert hub.fetch(server.url, SHA256).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={len(kept)}-"


def test_two_at_once_fetch_once(server: Server) -> None:
    server.pause = 0.2
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(hub.fetch(server.url, SHA256))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20.0)
    assert len(set(found)) == 1
    assert len(found) == 3
    assert found[0].read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_progress_counts_bytes(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    hub.fetch(server.url, SHA256, progress=True)
    shown = capsys.readouterr().err
    assert "weights.npz" in shown
    assert "3.15M/3.15M" in shown


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("METEORS_C_CACHE", "~/mine")
    assert hub.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("METEORS_C_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    of_platform = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert hub.cache_dir() == tmp_path / of_platform / "meteors_c"


@pytest.mark.parametrize(
    "url", ["file:///etc/hosts", "weights.npz", "http://host/", "http:///weights.npz", "http://h/.."]
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        hub.fetch(url, SHA256)


def test_bad_arguments() -> None:
    for sha256 in ("", SHA256[:-1], "g" * 64, None):
        with pytest.raises(ValidationError, match="sha256"):
            hub.fetch("http://host/file", sha256)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="timeout.*0"):
        hub.fetch("http://host/file", SHA256, timeout=0)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


def serve(server: Server, file: Path) -> str:
    server.content = file.read_bytes()
    return hashlib.sha256(server.content).hexdigest()


def save(path: Path, weights: dict[str, torch.Tensor], under: str | None = None) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in weights.items()})
    else:
        torch.save({under: weights, "epoch": 3} if under else weights, path)
    return path


@pytest.mark.parametrize(("name", "under"), [("w.npz", None), ("w.pt", None), ("w.pth", "state_dict")])
def test_load_weights(tmp_path: Path, weights: dict, name: str, under: str | None) -> None:
    found = hub.load_weights(str(save(tmp_path / name, weights, under)))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], weights[key]) for key in weights)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    torch.save({"weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    np.savez(tmp_path / "trap.npz", weight=np.array([Trap(tmp_path / "sprung")]))
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name in ("trap.pt", "trap.npz", "text.pt"):
        with pytest.raises(ValidationError, match=name):
            hub.load_weights(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    for name in ("list.pt", "numbers.pt"):
        with pytest.raises(ValidationError, match=f"{name}.*dict"):
            hub.load_weights(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        hub.load_weights(tmp_path / "none.pt")


def test_load_model(server: Server, tmp_path: Path, weights: dict) -> None:
    sha256 = serve(server, save(tmp_path / "w.npz", weights))
    network = torch.nn.Linear(2, 1).train()
    assert hub.load_model(network, server.url, sha256) is network
    assert not network.training
    assert network(torch.tensor([10.0, 100.0])).item() == 213.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bias": None}, "bias"),
        ({"scale": torch.ones(1)}, "scale"),
        ({"weight": torch.ones(1, 3)}, r"weight.*\(1, 2\).*\(1, 3\)"),
    ],
)
def test_load_model_of_another_shape(server: Server, tmp_path: Path, weights: dict, change: dict, words: str) -> None:
    weights = {name: value for name, value in (weights | change).items() if value is not None}
    sha256 = serve(server, save(tmp_path / "w.npz", weights))
    network = torch.nn.Linear(2, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValidationError, match=words):
        hub.load_model(network, server.url, sha256, fallback=True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_load_model_falls_back_only_when_asked(server: Server) -> None:
    network = torch.nn.Linear(2, 1)
    before = network.weight.clone()
    url = f"http://127.0.0.1:{closed_port()}/weights.npz"
    with pytest.raises(hub.DownloadError):
        hub.load_model(network, url, SHA256)
    with pytest.warns(UserWarning, match=url):
        assert hub.load_model(network, url, SHA256, fallback=True) is network
    assert torch.equal(network.weight, before)
    # A file that is there but wrong is no reason to go on without it.
    server.content = b"something else"
    with pytest.raises(hub.ChecksumError):
        hub.load_model(network, server.url, SHA256, fallback=True)
