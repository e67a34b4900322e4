"""Spread a study's work over processes of this machine, or over a Dask cluster.

    results.run(units, measure, spread=processes(4))

Workers only measure. What they find comes back to the process that called `run`, in the
order in which it is finished, and only that process writes to the store.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from xai_book.studies.results import Measured, Spread, Unit
from xai_lib.core.arguments import check_count
from xai_lib.core.extras import extra

with extra("book"):
    from joblib import Parallel, cpu_count, delayed

if TYPE_CHECKING:
    from distributed import Client

_Function = Callable[[list[Unit]], Measured]


def processes(jobs: int, threads: int | None = None) -> Spread:
    """Worker processes on this machine, for `spread` of `Results.run`.

    Args:
        jobs: how many; 1 measures in this process.
        threads: of each worker; None shares the processors out, and for one job leaves
            torch's setting as it is.
    """
    check_count("jobs", jobs)
    if threads is not None:
        check_count("threads", threads)
    elif jobs > 1:
        threads = max(1, cpu_count() // jobs)
    if jobs == 1:
        return lambda function, groups: map(
            partial(_limited, function, threads), groups
        )
    return partial(_in_processes, jobs, threads)


def cluster(address: str, threads: int = 1) -> Spread:
    """The workers of a Dask cluster, for `spread` of `Results.run`.

    What a worker was measuring when it died is measured by another one. Workers may
    come and go; without any, `Results.run` waits for one.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.5:8786".
        threads: of each worker's torch.

    Raises:
        ModuleNotFoundError: no extra `cluster`, or a worker without the book.
        OSError: nobody answers at this address.
        RuntimeError: the cluster has no worker, or workers that would measure several
            units at once: they would count each other's queries.
    """
    check_count("threads", threads)
    with extra("cluster"):
        from distributed import Client
    with Client(address, set_as_default=False) as client:
        client.run(import_module, __name__)  # or a first task ends it, and all wait
        at_once = client.nthreads()
    several = [name for name, n in at_once.items() if n != 1]
    if not at_once or several:
        fault = f"worker {several[0]} runs several tasks" if several else "no worker"
        raise RuntimeError(
            f"{address}: {fault}; start each with `dask worker {address} --nthreads 1`"
        )
    return partial(_on_cluster, Client(address, set_as_default=False), threads)


# Both give back first what is finished first: a row is stored as soon as it is there.


def _in_processes(
    jobs: int, threads: int | None, function: _Function, groups: list[list[Unit]]
) -> Iterable[Measured]:
    run = Parallel(jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    work = delayed(_orphan_ends)
    return run(work(os.getpid(), function, threads, group) for group in groups)


def _on_cluster(
    client: Client, threads: int, function: _Function, groups: list[list[Unit]]
) -> Iterator[Measured]:
    # Not joblib's backend for Dask: a task lost with its workers never calls back.
    from distributed import KilledWorker, as_completed

    tasks = [
        client.submit(_limited, function, threads, group, pure=False)
        for group in groups
    ]
    try:
        for task in as_completed(tasks, loop=client.loop):
            yield task.result()
            task.release()
    except KilledWorker as error:
        raise BrokenProcessPool(str(error)) from error
    finally:
        client.cancel(tasks)


def _orphan_ends(
    parent: int, function: _Function, threads: int | None, group: list[Unit]
) -> Measured:
    """In a worker process: measure, and end with the process that asked.

    Where that one is killed nobody would store what is measured.
    """
    _watch(parent)
    return _limited(function, threads, group)


@cache
def _watch(parent: int) -> None:
    def watch() -> None:
        # Windows keeps the number of a parent that is gone; there nothing ends.
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limited(function: _Function, threads: int | None, group: list[Unit]) -> Measured:
    """In a worker: no more threads than its share."""
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return function(group)
