"""The gate: typed actions, their plans, approval, execution, verification and undo."""
