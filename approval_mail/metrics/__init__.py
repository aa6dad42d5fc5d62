"""What Prometheus collects: the metrics, how scrapes share a look, and a web server of one page."""

from approval_mail.metrics.families import Seen
from approval_mail.metrics.rows import CONTENT_TYPE, ROWS, exposition, text
from approval_mail.metrics.scrapes import SHARED_FOR, Scrapes

__all__ = ["CONTENT_TYPE", "ROWS", "SHARED_FOR", "Scrapes", "Seen", "exposition", "text"]
