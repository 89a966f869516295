"""The record: what came in, what was observed, what was concluded, what was approved and what was done."""
