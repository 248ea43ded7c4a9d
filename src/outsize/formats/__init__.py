"""Model files read and written by ranges in little memory: safetensors, GGUF and the Hub."""
