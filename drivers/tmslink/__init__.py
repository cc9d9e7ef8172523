"""Stimulators that speak tmslink (docs/tmslink.md)."""
