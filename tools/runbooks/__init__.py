"""The team's own runbooks: a folder of Markdown files, found by words and quoted with their place."""
