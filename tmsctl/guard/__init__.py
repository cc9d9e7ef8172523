"""Program 1: the only owner of the stimulator. Single-threaded, hard-timed, trusts nobody."""
