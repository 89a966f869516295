"""How bad a crash is, by CASR's classes."""
