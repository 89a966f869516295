"""What broke, by what mechanism, and who handed in the bad value: only what the bytes of the core prove."""
