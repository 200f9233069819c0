"""An asv plugin (see asv.conf.json), not a suite: takes asv's own answers about this machine where it has none.

A fresh checkout on a fresh machine, CI above all, would otherwise stop at a question. `asv machine` still edits them.
"""


def setup():
    """Called by asv when it loads the plugin."""
    try:
        from asv.machine import Machine, MachineCollection
        from asv.util import UserError
    except ImportError:  # imported by asv's discovery in an environment that only has asv_runner
        return
    name = Machine.get_unique_machine_name()
    try:
        MachineCollection.load(name)
    except UserError:
        MachineCollection.save(name, Machine.get_defaults())
