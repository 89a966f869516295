"""Language models: OpenAI-compatible servers and Ollama."""
