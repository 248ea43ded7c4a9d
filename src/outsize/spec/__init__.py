"""Frozen data that describes a tensor, a model, a workload and a machine. No torch, no I/O."""
