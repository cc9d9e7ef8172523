"""tmslink: the open protocol for firmware that wants a safe host. Specification: docs/tmslink.md."""
