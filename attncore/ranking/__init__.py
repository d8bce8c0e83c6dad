"""Candidates shown at one moment, some of them clicked: slates, and what ranks them."""
