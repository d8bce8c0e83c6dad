"""Candidates shown at one moment, some of them taken: slates, and what ranks them."""
