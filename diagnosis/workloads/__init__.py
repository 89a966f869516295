"""What Kubernetes objects, events and logs say."""
