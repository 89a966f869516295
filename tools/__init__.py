"""Adapters to the world, one folder per system."""
