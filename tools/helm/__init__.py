"""The helm command line, typed."""
