"""From files of text or conversations to rows of tokens on disk that a train step reads by number.

`prepare` tokenises once, in a process of its own, and writes memory-mappable arrays; `rows` reads
them and `sampler` says which rows belong to which step. Those two import neither torch nor a
tokenizer. Read in this order: `source`, `readers`, `shapes`, `chat`, `encode`, `pack`, `write`,
`prepare`, `rows`, `sampler`.
"""
