"""What the command line prints and asks, one file per command group."""
