"""What metrics say: which workload's measurements changed first and most, and what the load will be."""
