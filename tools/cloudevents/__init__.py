"""CloudEvents 1.0: what tells other systems of a core, and how they tell us."""
