"""A smaller core with the same stacks: what to keep of a core dump, and the file that holds it."""
