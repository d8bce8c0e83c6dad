"""Logs that memory does not hold: preparing them, the prepared form, sharded training."""
