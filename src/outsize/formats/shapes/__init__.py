"""The shapes of the supported decoders, worked out from a config without any library.

`parts` names the tensors of blocks, `families` is the table of architectures, `entries` reads a
config's numbers with care, `attention` says which blocks see a window, `decoder` puts a model's
sizes together. Read them in this order; `formats/model_spec.py` makes a `ModelSpec` of the result.
"""
