"""How a PyTorch module becomes a list of layers that are run one at a time."""
