"""tmslink: the open protocol for firmware that wants a safe host. See docs/tmslink.md."""
