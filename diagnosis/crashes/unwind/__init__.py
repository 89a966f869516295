"""Stacks of every thread by our own hands: call frame information, frame pointers, and at last a search."""
