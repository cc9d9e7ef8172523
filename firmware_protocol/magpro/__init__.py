"""MagVenture MagPro (R30, X100 and their Options): the serial protocol of COM2."""
