"""What a fork must wait for, how a child knows that it is one, and what Ctrl-C may not interrupt.

`import nbloss` loads this (it imports nothing of weight): a fork before the first call matters too. A child has one thread. Whatever
lock another thread held at the fork stays closed in it for ever, OpenMP ends or hangs a child of a process that it worked in, and TBB
waits at a fork for workers that a running kernel keeps. Numba ends TBB's workers at a fork by the thread that started them, unless
another living thread has used them: where they go on, one may hold a lock of TBB's at that moment, and the child works alone.
"""

import os
import sys
import threading


class _Compiling:
    """The lock of whoever compiles a kernel."""

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
alone = False  # a child whose parent's TBB workers did not end at the fork
_joined = True  # whether they do at the fork under way
_used: set[int | None] = set()  # the threads that have been in a parallel kernel
_starter: int | None = None  # the thread that started Numba's threads
_lock = threading.RLock()  # held while a thread enters or leaves a parallel kernel
_gate = threading.Condition(_lock)  # the same, for who has to wait: taking it through this costs as much as a small kernel
_inside: list[int] = []  # the threads that are in one
_forking = 0  # how many threads wait to fork: nobody enters meanwhile
_held: list = []
_forker: int | None = None  # the thread that forks, once all this is held for it


def enter(may):
    """Whether this thread is now in a parallel kernel: ``may`` says so, given whether others are."""
    with _lock:
        while _forking:
            _gate.wait()
        entered = may(bool(_inside))
        if entered:
            _inside.append(threading.get_ident())
            _used.add(threading.get_ident())
        return entered


def start(launch):
    """``launch()`` by this thread, which is known from then on as the one whose forks end the threads; Ctrl-C waits for its end."""
    import signal  # costs more than all of `import nbloss`

    global _starter
    interrupted = []
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    try:
        with compiling:  # a fork in the middle would leave the child with a lock that nobody opens
            launch()
            _starter = threading.get_ident()
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
    if interrupted:
        signal.raise_signal(signal.SIGINT)


def leave():
    with _lock:
        _inside.remove(threading.get_ident())
        if _forking:
            _gate.notify_all()


def _before():
    """Let kernels and compilations come to their end, and no other begin."""
    global _forking, _joined, _forker
    if _forker == threading.get_ident():
        return  # the other registration was first
    numba_lock = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    me = threading.get_ident()  # a signal handler may fork while its own thread is inside: that one is not waited for
    _gate.acquire()
    try:
        _forking += 1
        while any(thread != me for thread in _inside):
            _gate.wait()
    finally:
        _held.append(_gate)  # not before: another thread that forks may have the gate meanwhile
    _used.intersection_update(sys._current_frames())
    _joined = (me == _starter and _used <= {me}) or (_starter is None and not _used)
    for lock in (compiling, numba_lock):  # after the gate: who is inside may still have to compile
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
    _gate.notify_all()
    while _held:
        _held.pop().release()


def _after_in_child():
    global forked, alone, _forking
    if _forker is None:
        return
    forked, alone, _forking = True, alone or not _joined, 1  # the other threads that waited to fork are not here
    _after()


def _register():
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)


def _watch_first():
    """Register once more, after logging: whoever registered last is asked first, and a fork that has closed logging's lock before it waits
    for a compilation would wait for ever, as compilations import modules that ask for their loggers."""
    import logging  # noqa: F401  registers itself

    _register()


_register()


def shielded(function, *arguments):
    """``function(*arguments)`` where no Ctrl-C arrives; the caller is interrupted at once, the function comes to its end.

    Python gives KeyboardInterrupt to the main thread, wherever it is. In the middle of Numba's import or of a compilation it leaves
    half-filled registries behind: later calls failed, or ended the process. So this work is another thread's, for which the main one waits.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    from concurrent.futures import Future  # costs more than all of `import nbloss`

    result: Future = Future()

    def work():
        try:
            result.set_result(function(*arguments))
        except BaseException as error:
            result.set_exception(error)

    try:
        threading.Thread(target=work, name="nbloss").start()
    except RuntimeError:  # none can be started when the interpreter ends
        work()
    return result.result()
