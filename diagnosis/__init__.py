"""Pure analysis: objects and bytes in, findings out. No client, no framework, no clock."""
