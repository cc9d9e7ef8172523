"""Protocol errors, split by whose fault they are."""


class ProtocolError(Exception):
    """Base of both; never raised itself."""


class LocalProtocolError(ProtocolError):
    """We tried to say something that the protocol forbids: a defect of ours."""


class RemoteProtocolError(ProtocolError):
    """The other side said something that the protocol forbids: an event to count and to survive."""
