"""gdb through its machine interface, in a sandbox."""
