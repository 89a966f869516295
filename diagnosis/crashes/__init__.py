"""What a core dump says."""
