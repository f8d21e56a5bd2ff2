"""Safety: notice a crisis, answer it with people who can help, and check every generated reply."""

from mh_support.safety.crisis import Assessment, Span, assess

__all__ = ["Assessment", "Span", "assess"]
