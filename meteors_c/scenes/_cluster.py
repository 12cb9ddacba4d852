"""Blocks as tasks of a dask cluster: the job goes to each worker once, blocks go to whoever is free."""

from __future__ import annotations

import io
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from meteors_c._memory import available_memory
from meteors_c._optional import import_optional
from meteors_c.scenes._grid import Block
from meteors_c.scenes._job import Job, Outcome, Read
from meteors_c.scenes._store import write

__all__ = ["run_on"]

cloudpickle: Any = import_optional("cloudpickle", "cloudpickle", "dask", "clusters")
distributed: Any = import_optional("distributed", "distributed", "dask", "clusters")

TASKS_A_THREAD = 3  # that wait at the scheduler: enough that nobody is idle, few enough that none waits with its pixels

_sent: dict[str, bytes] = {}
_jobs: dict[str, Job] = {}
_lock = threading.Lock()


class _Pickler(cloudpickle.Pickler):
    """Pickles TorchScript modules too, as the archives that torch makes of them."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.jit.ScriptModule):
            archive = io.BytesIO()
            torch.jit.save(obj, archive)
            return _script, (archive.getvalue(),)
        return super().reducer_override(obj)


def _script(archive: bytes) -> Any:
    return torch.jit.load(io.BytesIO(archive))  # type: ignore[no-untyped-call]


def packed(job: Job) -> bytes:
    """Return a job as bytes.

    Raises
    ------
    TypeError
        Something in it can't be sent to other processes.
    """
    target = io.BytesIO()
    try:
        _Pickler(target).dump(job)
    except Exception as error:
        raise TypeError(f"explainer, with its model and arguments, can't be sent to workers: {error}") from error
    return target.getvalue()


class _JobPlugin(distributed.WorkerPlugin):
    """Leaves the job with each worker, those that join or come back later too."""

    def __init__(self, name: str, job: bytes) -> None:
        self.name, self.job = name, job

    def setup(self, worker: Any) -> None:
        _sent[self.name] = self.job

    def teardown(self, worker: Any) -> None:
        _sent.pop(self.name, None)
        _jobs.pop(self.name, None)


def _run_block(name: str, block: Block, read: Read | None, location: str | None) -> Outcome:
    """Compute a block on a worker, and write it where there is a folder."""
    with _lock:  # one at a time: a worker is a process, whose threads are the model's
        if name not in _jobs:
            _jobs[name] = _within_memory(cloudpickle.loads(_sent[name]))
        job = _jobs[name]
        outcome = job.compute(block, job.read(block) if read is None else read)
    if location is None:
        return outcome
    write(location, block, outcome)
    return outcome.without_maps()


def _within_memory(job: Job) -> Job:
    """Return a job that takes half of the memory that a worker has, which may be a part of the machine's."""
    limit = getattr(getattr(distributed.get_worker(), "memory_manager", None), "memory_limit", None)
    if limit and job.settings.memory_limit is None:
        job.settings = replace(job.settings, memory_limit=min(int(limit) // 2, available_memory() // 2))
    return job


def run_on(
    client: Any, job: Job, blocks: Iterator[Block], location: str | None, finished: Callable[[Block, Outcome], None]
) -> None:
    """Have a cluster compute blocks.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    job : Job
        What is computed.
    blocks : iterator of Block
        Of what.
    location : str or None
        Where workers write the maps; None: they come back.
    finished : callable
        Called with each block and its outcome, in any order.
    """
    if not isinstance(client, distributed.Client) or client.asynchronous:
        raise TypeError(f"client must be a distributed.Client that is not asynchronous, not {client!r}")
    name = f"meteors_c-{uuid.uuid4().hex}"
    sends_values = job.scene.in_memory
    sent = Job(**{**vars(job), "scene": job.scene.without_values()}) if sends_values else job
    client.register_plugin(_JobPlugin(name, packed(sent)), name=name)
    waiting: dict[Any, Block] = {}
    tasks = distributed.as_completed()

    def submit() -> bool:
        block = next(blocks, None)
        if block is None:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # dask warns of tasks that bring their pixels along
            future = client.submit(
                _run_block, name, block, job.read(block) if sends_values else None, location, pure=False,
                key=f"{name}-block-{block.number}",
            )  # fmt: skip
        waiting[future] = block
        tasks.add(future)
        return True

    try:
        while len(waiting) < _wanted(client) and submit():
            pass
        for future in tasks:
            outcome = future.result()
            block = waiting.pop(future)
            finished(block, outcome)
            future.release()
            while len(waiting) < _wanted(client) and submit():
                pass
    finally:
        if waiting:
            client.cancel(list(waiting))
        client.unregister_worker_plugin(name)


def _wanted(client: Any) -> int:
    """Return how many tasks the cluster should have."""
    return TASKS_A_THREAD * max(1, sum(client.nthreads().values()))
