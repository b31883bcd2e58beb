"""What a supervisor or a load balancer asks."""

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database can be reached and every migration is applied; 503 and the reason otherwise."""
    problem = ""
    try:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            problem = "migrations are not applied"
    except DatabaseError:
        problem = "the database cannot be reached"
    return HttpResponse(f"{problem or 'ok'}\n", content_type="text/plain", status=503 if problem else 200)
