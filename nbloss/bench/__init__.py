"""The benchmark `python -m nbloss bench`: nbloss and its peers on this machine.

A race is one operation on one problem, timed for every peer. The modules form layers. From the lowest to the highest:

    problem   the input arrays and the expected results
    session   the options that the commands share, and the processors to use
    races     which races run
    peers     one module per peer, and the table of them
    options   the same for the options of the losses, and for the losses beside cross entropy
    interop   the same for nbloss inside other libraries
    linear    the same for the loss of a last layer
    evaluate  the same for the evaluation of logits
    measure   the timing, the memory baselines, the machine, the result files
    variants  the benchmark of kinds of calls: other dtypes, options, layouts and ranges of values
    report    the results as text, tables and pictures
    gpu       the benchmark on an NVIDIA GPU
    cli       the command line

A module imports only from its own layer and from lower layers. Importing this package imports no peer: a peer is imported
when a race sets it up, and skipped where it is not installed.
"""


def main(argv=None):
    """Run the command. Returns the exit status: see `nbloss.bench.cli.main`."""
    # Inside the function, because `nbloss.bench.measure.machine` is also used without the command.
    from .cli import main as run

    return run(argv)
