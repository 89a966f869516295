"""Stores of objects: S3-compatible ones and folders, behind one class."""
