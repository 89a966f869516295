"""Strict stand-ins for the servers that Paramedic talks to: they reject what the real ones reject."""
