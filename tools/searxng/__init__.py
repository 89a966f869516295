"""Web search through a SearxNG server of the team's own. What it finds is outside text."""
