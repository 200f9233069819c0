"""Registers nbloss with threadpoolctl, so that ``threadpoolctl.threadpool_limits(n)`` limits it.

threadpoolctl finds libraries among the files that a process has loaded, by their names. nbloss loads none of its own before its first call,
so its controller names a library that every user of nbloss has loaded: NumPy's.

nbloss does not import it. `import nbloss` registers the controller if threadpoolctl is loaded already. Otherwise the import system
does it, right after it has loaded threadpoolctl. Later would be too late: a program may set its limit before its first call.
"""

import sys

NAME = "threadpoolctl"


def _register(threadpoolctl):
    """Register nbloss. Versions before 3.2 have no `register`: they do not limit nbloss."""
    if not hasattr(threadpoolctl, "register"):
        return

    class NblossController(threadpoolctl.LibController):
        """Limits the threads of nbloss."""

        user_api = internal_api = "nbloss"
        filename_prefixes = ("_multiarray_umath",)

        def get_num_threads(self):
            from nbloss import _thread_count

            return _thread_count.limited()

        def set_num_threads(self, num_threads):
            from nbloss import _thread_count

            _thread_count.set_limit(num_threads)

        def get_version(self):
            return sys.modules["nbloss"].__version__

    threadpoolctl.register(NblossController)


class _Loader:
    """Loads threadpoolctl with its own loader, and then registers nbloss."""

    def __init__(self, loader, finder):
        self._loader, self._finder = loader, finder

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
            _register(module)


class _Finder:
    """Finds threadpoolctl as the other finders do, and gives it a `_Loader`. It leaves ``sys.meta_path`` once threadpoolctl is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self or not hasattr(finder, "find_spec") else finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None


def watch():
    """Register nbloss with threadpoolctl: now if it is loaded, or else when it is."""
    if NAME in sys.modules:
        _register(sys.modules[NAME])
    else:
        sys.meta_path.insert(0, _Finder())


watch()
