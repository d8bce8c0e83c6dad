"""Logs that memory does not hold.

Preparing them, the prepared form, sharded training.
"""
