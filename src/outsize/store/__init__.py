"""Bytes on tiers: arenas, the disk store, commit records. No torch."""
