"""Who gets what: the rules of the file that NOTIFICATION_ROUTES names."""

from approval_mail.routing.file import RoutesFile
from approval_mail.routing.routes import BY_THE_EVENT, DEFAULT_ROUTE, Choice, Routes, Routing

__all__ = ["BY_THE_EVENT", "DEFAULT_ROUTE", "Choice", "Routes", "RoutesFile", "Routing"]
