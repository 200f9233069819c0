"""The benchmark `python -m nbloss bench --variants`: how far calls of every kind are from the plain call of the same shape.

A variant is one kind of call: another dtype, option, layout or range of values. Each is timed in turns with the plain call of its operation
(float32, C order, int64 targets) on the same shape, and with torch doing the same. The modules:

    wanted   the variants, the shapes, and the limits that are wanted: the only place of these numbers
    inputs   the arrays and options of each variant
    calls    the calls of nbloss and of torch
    race     the timing of one variant on one shape
"""
