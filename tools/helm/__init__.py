"""The helm command line."""
