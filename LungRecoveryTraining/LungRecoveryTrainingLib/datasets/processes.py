"""Work spread over processes, a bounded distance ahead of what is taken."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from LungRecoveryLib.system import use_threads

AHEAD = 3


def in_processes(function: Callable[[Any], Any], arguments: Iterable, workers: int) -> Iterator:
    """function(argument) for each argument, in order; at most AHEAD for each of `workers` new processes lie ready.

    With 0 workers all is done here. Processes are spawned, as the parent may hold a CUDA context or threads: the
    function must be found by name in a module, and the program's entry be guarded by `__name__ == "__main__"`. Each
    uses one thread.
    """
    if workers <= 0:
        yield from map(function, arguments)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=use_threads, initargs=(1,)) as pool:
        waiting: deque = deque()
        try:
            for argument in arguments:
                waiting.append(pool.submit(function, argument))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
