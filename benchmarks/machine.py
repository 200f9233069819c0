"""An asv plugin (see asv.conf.json), not a suite: it names the machine for its processor, and describes it when asv does not know it.

asv would take the host name, which no committed result may hold, and would ask questions on a new machine, for example in CI.
`asv machine` still edits the description.
"""

import platform
import re


def generic_name(cpu, count):
    """`amd-epyc-2`: the processor's name without marks, and how many of them."""
    words = re.sub(r"\((?:R|TM|C)\)|\bCPU\b|\bProcessor\b|@.*", " ", cpu, flags=re.IGNORECASE)
    return "-".join([*re.findall(r"[a-z0-9.]+", words.lower()), str(count)])


def setup():
    """asv calls this when it loads the plugin."""
    try:
        from asv.machine import Machine, MachineCollection
        from asv.util import UserError
    except ImportError:  # asv's discovery imports this file in environments that only have asv_runner
        return
    found = Machine.get_defaults()
    name = generic_name(found["cpu"] or found["arch"], found["num_cpu"])
    Machine.hardcoded_machine_name = name
    try:
        MachineCollection.load(name)
    except UserError:
        # "os" without its release, which may name a host
        MachineCollection.save(name, found | {"machine": name, "os": platform.system()})
