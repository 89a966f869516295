"""Which crashes are the same: normalised stacks, their hashes and similarity, and groups that grow as crashes come."""
