"""A Django application, in one file, whose tools wait for a person's permission.

    pip install . django
    python examples/django_app.py runserver

Settings: the environment or .env, see .env.example. The mails are sent by `celery -A approval_mail worker`.
Callers name themselves in X-User here: take that from your login.
"""

import sys
from uuid import UUID, uuid4

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

from approval_mail import hooks

database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "permissions.sqlite3", "ATOMIC_REQUESTS": True}
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"], DATABASES={"default": database})
application = get_wsgi_application()
ANSWERS = {"approve": hooks.approval_approved, "reject": hooks.approval_rejected}


class Permission(models.Model):
    request_id = models.UUIDField(primary_key=True)
    user_id, tool_name = models.TextField(), models.TextField()
    answer = models.TextField(default="")

    class Meta:
        app_label = "permissions"


def ask(request: HttpRequest) -> JsonResponse:
    told = {"request_id": uuid4(), "user_id": request.headers["X-User"], "tool_name": request.POST["tool"]}
    Permission.objects.create(**told)
    # On commit, for there must be no mail about what is rolled back.
    transaction.on_commit(lambda: hooks.approval_requested(**told, arguments={"command": request.POST.get("command")}))
    return JsonResponse(told, status=202)


def decide(request: HttpRequest, request_id: UUID, answer: str) -> JsonResponse:
    row, why = Permission.objects.filter(request_id=request_id), request.POST["reason"]
    if answer not in ANSWERS or not row.filter(answer="").update(answer=answer):
        return JsonResponse({"error": "unknown or decided"}, status=409)
    told = {**row.values("request_id", "user_id", "tool_name").get(), "responder_id": request.headers["X-User"]}
    transaction.on_commit(lambda: ANSWERS[answer](**told, reason=why))
    return JsonResponse({"answer": answer})


urlpatterns = [path("requests", ask), path("requests/<uuid:request_id>/<answer>", decide)]
if not connection.introspection.table_names():  # Migrations, in yours.
    with connection.schema_editor() as editor:
        editor.create_model(Permission)
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
