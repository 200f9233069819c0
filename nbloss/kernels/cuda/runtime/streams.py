"""The order of work on several streams, and objects that must live until the work on their memory is done. The host waits for nothing."""

from collections import deque

from nbloss.kernels.cuda.runtime.driver import checked, driver, handle


def order(before, after):
    """Let a stream (a handle) wait for the work that has been queued on another. The host does not wait."""
    if before == after:
        return
    event = new_event(before)
    checked(driver().cuStreamWaitEvent(after, event, 0))
    checked(driver().cuEventDestroy(event))  # the driver keeps it until the work is done


def new_event(stream):
    """An event behind the work that has been queued on a stream (a handle)."""
    event = checked(driver().cuEventCreate(driver().CUevent_flags.CU_EVENT_DISABLE_TIMING))
    checked(driver().cuEventRecord(event, stream))
    return event


_kept: deque = deque()  # (event, objects whose memory the work before the event uses)


def keep_until_done(objects, stream):
    """Keep objects alive until the work that has been queued on a stream is done. Polls; the host does not wait."""
    _kept.append((new_event(handle(stream)), objects))
    release_done()


def release_done():
    """Release what `keep_until_done` keeps, as far as its work is done."""
    while _kept:
        try:
            event, objects = _kept.popleft()
        except IndexError:  # another thread took it
            return
        if int(driver().cuEventQuery(event)[0]) == int(driver().CUresult.CUDA_ERROR_NOT_READY):
            _kept.appendleft((event, objects))
            return
        checked(driver().cuEventDestroy(event))
