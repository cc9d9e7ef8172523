"""The daemon: safety, guard, sessions, records, service, command line."""
