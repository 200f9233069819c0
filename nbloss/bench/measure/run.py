"""Running the races of a command, so that Ctrl-C does not lose the finished ones."""

from nbloss.progress import Progress

from ..races import title
from . import files, machine


def measured(jobs, show, options):
    """(records, facts, exit status) of jobs, or of earlier files if the options name some.

    A job takes a function that reports its progress, and returns a record. `show(record)` is the text to print after it.
    """
    status = 0
    if options.earlier:
        records, facts = files.read(options.earlier)
        print(*map(show, records), sep="\n", flush=True)
        if options.json:
            files.write(options.json, records, facts)
    else:
        meter = machine.BusyMeter()

        def write(records, facts):
            if options.json:
                files.write(options.json, records, facts)

        records, facts, status = each(jobs, show, meter, write)
    bad = any({"wrong", "failed"} & set(c) for record in records for c in record["contenders"].values())
    return records, facts, status or int(bad)


def each(jobs, show, meter, write):
    """(records, facts, exit status: 130 after Ctrl-C) of jobs."""
    records, facts = [], {}
    with Progress(len(jobs), "race") as progress:
        try:
            for job in jobs:
                record = job(progress.note)
                records.append(record)
                facts = machine.facts() | {"others_cpus": meter.others()}
                write(records, facts)  # after every race, so that no later failure loses the results
                progress.say(show(record))
                progress.step(title(record, " "))
        except KeyboardInterrupt:
            return records, facts, 130
    return records, facts, 0
