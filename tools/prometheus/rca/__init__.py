"""What root-cause analysis asks a Prometheus: which metrics there are, how many series, and then those that fit."""
