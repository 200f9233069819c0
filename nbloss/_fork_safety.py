"""Makes os.fork() safe: what it waits for, and what a child may do. Also keeps Ctrl-C out of compilations.

`import nbloss` imports this, because a fork before the first call matters too; it imports only light modules. The dangers are:

- A child has one thread. A lock that another thread held at the fork is never released in the child.
- OpenMP ends or hangs a child if the parent has used it.
- TBB waits at a fork for its workers, which a running kernel does not release.
- Numba ends TBB's workers at a fork, but only if the thread that forks has started them and no other living thread has used them.
  Otherwise a worker may hold a lock of TBB at that moment. Such a child runs its kernels in one thread.
"""

import os
import sys
import threading


class _Compiling:
    """The lock that is held during a compilation."""

    def __init__(self):
        lock = threading.RLock()
        self.acquire, self.release = lock.acquire, lock.release
        self._watched = False

    def __enter__(self):
        if not self._watched:
            self._watched = True
            _watch_first()
        self.acquire()

    def __exit__(self, *error):
        self.release()


compiling = _Compiling()

forked = False
alone = False  # this is a child, and TBB's workers of its parent did not end at the fork
_joined = True  # TBB's workers end at the current fork
_used: set[int | None] = set()  # the threads that have run a parallel kernel
_starter: int | None = None  # the thread that started Numba's threads
_lock = threading.RLock()  # held while a thread enters or leaves a parallel kernel
_condition = threading.Condition(_lock)  # to wait with the same lock; acquiring it through the condition takes as long as a small kernel
_inside: list[int] = []  # the threads that run a parallel kernel now
_forking = 0  # how many threads wait to fork; no thread enters a parallel kernel meanwhile
_held: list = []  # the locks that are held during the fork
_forker: int | None = None  # the thread that forks, once it holds all locks


def enter(may):
    """Enter a parallel kernel if ``may(whether other threads are in one)`` says so; returns whether this thread has entered."""
    with _lock:
        while _forking:
            _condition.wait()
        entered = may(bool(_inside))
        if entered:
            _inside.append(threading.get_ident())
            _used.add(threading.get_ident())
        return entered


def start(launch):
    """Call ``launch()``, which starts the threads, and note that this thread did it. Ctrl-C is delayed until it is done."""
    import signal  # takes longer to import than all of nbloss

    global _starter
    interrupted = []
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    try:
        with compiling:  # a fork waits for this lock: in the middle of ``launch``, others could be held
            launch()
            _starter = threading.get_ident()
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
    if interrupted:
        signal.raise_signal(signal.SIGINT)


def leave():
    """Leave the parallel kernel."""
    with _lock:
        _inside.remove(threading.get_ident())
        if _forking:
            _condition.notify_all()


def _before():
    """Wait until no kernel and no compilation runs, and let no other begin."""
    global _forking, _joined, _forker
    if _forker == threading.get_ident():
        return  # this function is registered twice, and has run
    numba_lock = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    me = threading.get_ident()  # a signal handler may fork while its own thread is in a kernel; waiting for that one would never end
    _condition.acquire()
    try:
        _forking += 1
        while any(thread != me for thread in _inside):
            _condition.wait()
    finally:
        _held.append(_condition)  # not earlier: during the wait, another thread that forks may hold it
    _used.intersection_update(sys._current_frames())
    _joined = (me == _starter and _used <= {me}) or (_starter is None and not _used)
    for lock in (compiling, numba_lock):  # after the wait: a thread in a kernel may still have to compile
        if lock is not None:
            lock.acquire()
            _held.append(lock)
    _forker = me


def _after():
    global _forking, _forker
    if _forker is None:
        return
    _forker = None
    _forking = max(0, _forking - 1)
    _condition.notify_all()
    while _held:
        _held.pop().release()


def _after_in_child():
    global forked, alone, _forking
    if _forker is None:
        return
    forked, alone, _forking = True, alone or not _joined, 1  # of the threads that waited to fork, only this one exists here
    _after()


def _register():
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)


def _watch_first():
    """Register again, after logging, so that `_before` runs before logging's function: the last one registered runs first.

    Otherwise a fork could deadlock. It would hold logging's lock and wait for a compilation, which imports modules that get loggers.
    """
    import logging  # noqa: F401  its import registers its function

    _register()


_register()


def shielded(function, *arguments):
    """Run ``function(*arguments)`` so that Ctrl-C does not interrupt it. Ctrl-C interrupts the caller at once, and the function continues.

    Python raises KeyboardInterrupt in the main thread, at any instruction. In the middle of Numba's import or of a compilation it leaves
    Numba's registries incomplete, and later calls fail or crash. So another thread does the work, and the main thread waits for it.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    from concurrent.futures import Future  # takes longer to import than all of nbloss

    result: Future = Future()

    def work():
        try:
            result.set_result(function(*arguments))
        except BaseException as error:
            result.set_exception(error)

    try:
        threading.Thread(target=work, name="nbloss").start()
    except RuntimeError:  # no thread can be started while the interpreter shuts down
        work()
    return result.result()
