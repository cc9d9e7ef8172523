"""The software stimulator: physics, firmware models, faults, and the program tmssim."""
