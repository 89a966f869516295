"""What a language's runtime says about the end of its program."""
