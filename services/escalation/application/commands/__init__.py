"""The commands: what people do about an incident. One file a command.

A command is one transaction. It is refused with a reason, or recorded as a finding with its event. Where it changes
what a decision depends on, the rule is evaluated again. A command that is given twice is recorded once. Each raises
Problem 403, 404 or 409, and a correction 422.
"""

from services.escalation.application.commands.close import close
from services.escalation.application.commands.correct import correct
from services.escalation.application.commands.designate import designate
from services.escalation.application.commands.dismiss import dismiss
from services.escalation.application.commands.escalate import escalate
from services.escalation.application.commands.hand_off import hand_off
from services.escalation.application.commands.merge import merge
from services.escalation.application.commands.propose_closure import propose_closure
from services.escalation.application.commands.reassign import reassign
from services.escalation.application.commands.reopen import reopen
from services.escalation.application.commands.respond import respond
from services.escalation.application.commands.revise_severity import revise
from services.escalation.application.commands.split import split
from services.escalation.application.commands.verify import verify

__all__ = [
    "close",
    "correct",
    "designate",
    "dismiss",
    "escalate",
    "hand_off",
    "merge",
    "propose_closure",
    "reassign",
    "reopen",
    "respond",
    "revise",
    "split",
    "verify",
]
