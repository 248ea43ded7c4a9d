"""Bytes on tiers: arenas and the ledger, the disk store, commit records. No torch."""
