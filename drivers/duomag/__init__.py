"""Deymed DuoMAG (docs/duomag.md)."""
