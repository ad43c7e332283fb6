"""How a turn that went wrong is told, and its cause logged.

An error that a person can act on is told in its own words. Of any other they are told the number under which it stands
in the log.
"""

from __future__ import annotations

import logging
import secrets

from bot.errors import kind_of
from bot.events import Failed
from engine.errors import EngineFailed

log = logging.getLogger("familiar")


def failed(error: Exception) -> Failed:
    """There is no reply, or only the begin of one."""
    kind = kind_of(error)
    if kind is None:
        return Failed("unexpected", "", incident(error))
    if isinstance(error, EngineFailed) and error.log_tail:
        return Failed(kind, str(error), incident(error, error.log_tail))
    log.warning("%s: %s", kind, error)
    return Failed(kind, str(error), "")


def not_saved(error: Exception) -> Failed:
    """There is a reply, which could not be logged."""
    if kind_of(error) is None:
        return Failed("reply_not_saved", "", incident(error))
    log.warning("reply_not_saved: %s", error)
    return Failed("reply_not_saved", str(error), "")


def incident(error: Exception, more: str = "") -> str:
    """Log the cause; the number under which it stands there."""
    number = secrets.token_hex(4)
    log.error("incident %s: %s%s", number, error, f"\n{more}" if more else "", exc_info=error)
    return number
