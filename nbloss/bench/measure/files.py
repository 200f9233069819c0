"""Result files: the races and the machine as JSON. They can be shown, drawn and compared later."""

import json


def write(path, records, facts):
    """Write the races and the machine."""
    dump(path, {"machine": facts, "races": records})


def dump(path, content):
    """Write a JSON file."""
    with open(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def read(paths):
    """(records, facts) of files from `write`. Of several files: the first one's machine, with the largest load of all."""
    records, machines = {}, []
    for path in paths:
        try:
            with open(path) as file:
                content = json.load(file)
            machines.append(content["machine"])
            records |= {key(record): record for record in content["races"]}
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a file of races from --json: {type(error).__name__}: {error}") from None
    if len({(m["processor"], m["cpus"]) for m in machines}) > 1:
        raise ValueError("the files come from different machines, so their times cannot be combined")
    busy = [m["others_cpus"] for m in machines if m["others_cpus"] is not None]
    return list(records.values()), machines[0] | {"others_cpus": max(busy, default=None)}


def key(record):
    """What identifies a race in a file."""
    return record["operation"], record["shape"], record["dtype"], record["threads"], record.get("variant")
