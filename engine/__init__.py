"""Text comes out of here: vLLM's process, its client, its adapters."""
