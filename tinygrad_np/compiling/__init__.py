"""`compile`: a step that was run once, as straight-line NumPy on buffers that are used again.

A step is run as it is, and a log kept of it (log.py). The operations and VJP formulas in the log
are then called on stand-ins for arrays (traced.py, lowering.py), which writes down NumPy calls; some
operations are written in another way that is faster on such memory (rewrites.py, convolution.py). Each
result is given its place in memory (buffers.py), and the calls are printed as the source of a
function and run (source.py). step.py decides when that function may run in place of the step.
"""
