"""Magstim 200², BiStim² and Rapid² (docs/magstim.md)."""
