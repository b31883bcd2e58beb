"""What a supervisor or a load balancer asks."""

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console import storage


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


def migrations_missing() -> str:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return "migrations are not applied" if missing else ""


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database can be reached and written and every migration is applied; 503 and the reason otherwise."""
    try:
        problem = storage.file_problem() or migrations_missing() or storage.write_problem()
    except Error:
        problem = "the database cannot be reached"
    return HttpResponse(f"{problem or 'ok'}\n", content_type="text/plain", status=503 if problem else 200)
