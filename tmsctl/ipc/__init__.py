"""The versioned messages that cross between guard and service."""
