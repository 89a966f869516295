"""The typed actions: one file a family. Each derives the exact writes from the live object, nothing else does."""
