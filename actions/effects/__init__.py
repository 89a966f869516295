"""How one write is checked, rehearsed, sent, and recognised afterwards."""
