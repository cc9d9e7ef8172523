"""MagVenture MagPro R30 and X100 (docs/magpro.md)."""
