"""The node agent and the admission webhook."""
