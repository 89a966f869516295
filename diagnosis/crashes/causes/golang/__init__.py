"""What the core of a Go program says by Go's own tables: they stay in programs that were stripped."""
