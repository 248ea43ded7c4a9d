"""The proof that streamed training equals plain PyTorch, on the user's model and machine.

Reading order: `verify` (the verb), `cases`, `prepare`, `streamed` and `plain_run` (one process
each), `plain` (plain PyTorch), `state` and `compare`.
"""
