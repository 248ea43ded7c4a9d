"""Planning: pure functions from a model, a workload and a budget to a verified list of actions.

No torch, no clock, no I/O in here. Reading order: `actions`, `layout`, `schedule`, `residency`,
`prefetch`, `memory`, `step_plan`, `build`, `verify`, `simulate`, `search`.
"""
