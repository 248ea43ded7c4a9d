"""Generation: a model answers a prompt, layer by layer, inside a budget."""
