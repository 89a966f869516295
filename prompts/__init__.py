"""A Markdown template per agent."""
