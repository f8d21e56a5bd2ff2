"""Safety: notice a crisis, answer it with people who can help, and check every generated reply."""

from mh_support.safety.classifier import Suspects
from mh_support.safety.crisis import Assessment, Span, asked_about, assess
from mh_support.safety.replies import NOTICE, SAFE_REPLY, check_in, crisis_reply, safe_reply
from mh_support.safety.reply_check import ReplyCheck, check_reply
from mh_support.safety.resources import Resources, Service, resources_for

__all__ = [
    "NOTICE",
    "SAFE_REPLY",
    "Assessment",
    "ReplyCheck",
    "Resources",
    "Service",
    "Span",
    "Suspects",
    "asked_about",
    "assess",
    "check_in",
    "check_reply",
    "crisis_reply",
    "resources_for",
    "safe_reply",
]
