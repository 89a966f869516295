"""What happened when to the workloads of a scope and to what they lean on, and with what the trouble began.

One source a file; `build.timeline` joins, folds, orders and bounds them.
"""
