"""Where trials run: in this process, in worker processes, or on a Ray cluster. All give the same rows, to the bit.

An executor takes task descriptions (plain JSON) and yields `(index, outcome)` as they finish, where an outcome is
`{"result": ...}` or `{"error": traceback}`. Only the caller writes to the ledger. Every trial runs on one thread.
"""

import logging
import multiprocessing
import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from paperworks.errors import MissingExtraError, PaperworksError

Task = Mapping[str, Any]
Work = Callable[..., dict[str, Any]]
Progress = Callable[[int, int, int | None, dict[str, Any]], None]
ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _guarded(work: Work, task: Task, progress: Any = None) -> dict[str, Any]:
    """Run one task; what it raises becomes an outcome, except what the user can mend or has asked for."""
    try:
        return {"result": work(task, progress)}
    except PaperworksError as error:
        return {"mend": str(error)}
    except Exception:
        return {"error": traceback.format_exc()}


def in_process(tasks: Sequence[Task], work: Work, progress: Progress | None = None) -> Iterator[tuple[int, dict]]:
    """One after the other, here."""
    for index, task in enumerate(tasks):
        report = progress and (lambda step, total, metrics, index=index: progress(index, step, total, metrics))
        yield index, _guarded(work, task, report)


_queue: Any = None  # in a worker: where progress goes


def _begin_worker(queue: Any) -> None:
    global _queue
    _queue = queue
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker whose parent was killed must not live on

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _work_in_worker(work: Work, index: int, task: Task) -> dict[str, Any]:
    def report(step: int, total: int | None, metrics: dict[str, Any]) -> None:
        _queue.put((index, step, total, metrics))

    return _guarded(work, task, report)


def processes(
    tasks: Sequence[Task], work: Work, progress: Progress | None = None, *, jobs: int
) -> Iterator[tuple[int, dict]]:
    """`jobs` at a time, each in a fresh process.

    Raises:
        PaperworksError: a worker process died (killed, or out of memory).
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(queue, progress), daemon=True)
    listener.start()
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)  # inherited by the workers, before they import torch
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_begin_worker, initargs=(queue,))
    try:
        futures = {pool.submit(_work_in_worker, work, index, task): index for index, task in enumerate(tasks)}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool as error:
                raise PaperworksError(
                    "a worker process died (killed, or out of memory). Finished trials are kept: run the same command "
                    "again, with fewer --jobs if memory ran out"
                ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        queue.put(None)
        listener.join()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _listen(queue: Any, progress: Progress | None) -> None:
    while (message := queue.get()) is not None:
        if progress:
            progress(*message)


def ray_cluster(
    tasks: Sequence[Task], work: Work, progress: Progress | None = None, *, address: str | None = None
) -> Iterator[tuple[int, dict]]:
    """One core a trial on a Ray cluster; a trial whose node dies is run again elsewhere.

    The cluster is `address`, or RAY_ADDRESS, or a running one on this machine, or a new local one. Its nodes need
    paperworks installed, and the data folder under the same path.

    Raises:
        MissingExtraError: ray is not installed.
        PaperworksError: nothing answers at the address.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # type: ignore[import-not-found]
        from ray.exceptions import RayError  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtraError("ray", "cluster", "--on ray") from error
    started_here = not ray.is_initialized()
    if started_here:
        where = address or os.environ.get("RAY_ADDRESS")
        try:
            _knock(where)
            ray.init(
                address=where,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": dict(ONE_THREAD)},
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise PaperworksError(f"no Ray cluster at {where or 'this machine'}: {error}") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=10, retry_exceptions=False)(_guarded)
        waiting = {remote.remote(work, task): index for index, task in enumerate(tasks)}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            for reference in done:
                index = waiting.pop(reference)
                try:
                    yield index, ray.get(reference)
                except RayError as error:
                    raise PaperworksError(
                        f"the cluster lost a trial ({error}). Finished trials are kept: run the same command again"
                    ) from error
    finally:
        if started_here:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Fail at once where nothing answers at `host:port`: Ray itself would wait for minutes."""
    host, sign, port = (address or "").removeprefix("ray://").rpartition(":")
    if sign:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass
