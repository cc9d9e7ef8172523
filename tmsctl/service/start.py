"""Reads the configuration, takes the locks, sets up the log, and runs tmsd."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import structlog

from tmsctl.records.journal import JournalError
from tmsctl.service.config import ConfigError, load_config
from tmsctl.service.daemon import Daemon
from tmsctl.service.locks import LockedError, hold
from tmsctl.service.rpc import listen
from tmsctl.stimulation.protocol import ProtocolFileError


def start(config_path: Path) -> list[str]:
    """Run until told to end. What kept it from starting, one sentence each; empty when nothing."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        config = load_config(config_path)
        for folder in {config.runtime, config.state}:
            hold(folder)  # until this process ends
        daemon = Daemon(config_path, config)
        listener = listen(config.runtime / "tmsd.sock")
    except ConfigError as error:
        return error.sentences
    except (LockedError, JournalError, ProtocolFileError) as error:
        return [str(error)]
    except OSError as error:
        return [f"The API's socket cannot be made in {config.runtime}: {error.strerror}."]
    with listener:
        asyncio.run(daemon.run(listener))
    (config.runtime / "tmsd.sock").unlink(missing_ok=True)
    return []
