"""An asv plugin (see asv.conf.json), not a suite: it stores asv's default description of a machine that asv does not know.

Without it, asv would ask questions on a new machine, for example in CI. `asv machine` still edits the description.
"""


def setup():
    """asv calls this when it loads the plugin."""
    try:
        from asv.machine import Machine, MachineCollection
        from asv.util import UserError
    except ImportError:  # asv's discovery imports this file in environments that only have asv_runner
        return
    name = Machine.get_unique_machine_name()
    try:
        MachineCollection.load(name)
    except UserError:
        MachineCollection.save(name, Machine.get_defaults())
