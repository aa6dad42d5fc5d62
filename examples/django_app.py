"""A Django application, in one file, whose tools wait for a person's permission.

    pip install . django
    python examples/django_app.py runserver

Settings: the environment or .env, see .env.example. The mails are sent by `celery -A approval_mail worker`.
Callers name themselves in X-User here: take that from your login, where nobody has two names.
"""

from uuid import UUID, uuid4

from django.conf import settings
from django.core import management, wsgi
from django.db import connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

from approval_mail import hooks

database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "permissions.sqlite3", "ATOMIC_REQUESTS": True}
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"], DATABASES={"default": database})
application = wsgi.get_wsgi_application()
ANSWERS = {"approve": hooks.approval_approved, "reject": hooks.approval_rejected}


class Permission(models.Model):
    request_id = models.UUIDField(primary_key=True)
    user_id, tool_name, answer = models.TextField(), models.TextField(), models.TextField(default="")

    class Meta:
        app_label = "permissions"


def ask(request: HttpRequest) -> JsonResponse:
    user, tool = request.headers.get("X-User", "").strip(), request.POST.get("tool", "").strip()
    if not (user and tool):  # The hook would refuse it as well, but once it is committed.
        return JsonResponse({"error": "X-User and tool are required"}, status=400)
    told = {"request_id": uuid4(), "user_id": user, "tool_name": tool}
    Permission.objects.create(**told)  # The hook on commit, for there must be no mail about what is rolled back.
    transaction.on_commit(lambda: hooks.approval_requested(**told, arguments={"command": request.POST.get("command")}))
    return JsonResponse(told, status=202)


def decide(request: HttpRequest, request_id: UUID, answer: str) -> JsonResponse:
    responder, why = request.headers.get("X-User", "").strip(), request.POST.get("reason", "").strip()
    row = Permission.objects.filter(request_id=request_id).exclude(user_id=responder)  # Nobody permits their own.
    if not (responder and why and answer in ANSWERS and row.filter(answer="").update(answer=answer)):
        return JsonResponse({"error": "X-User, a reason and someone else's open request are required"}, status=409)
    told = row.values("request_id", "user_id", "tool_name").get()
    transaction.on_commit(lambda: ANSWERS[answer](**told, responder_id=responder, reason=why))
    return JsonResponse({"answer": answer})


urlpatterns = [path("requests", ask), path("requests/<uuid:request_id>/<answer>", decide)]
if not connection.introspection.table_names():  # Migrations, in yours.
    with connection.schema_editor() as editor:
        editor.create_model(Permission)
if __name__ == "__main__":
    management.execute_from_command_line()
