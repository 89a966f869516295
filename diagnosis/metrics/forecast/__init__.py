"""What the load will be: candidates that are back-tested on the service's own history, and intervals measured there."""
