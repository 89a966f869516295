"""What metrics say."""
