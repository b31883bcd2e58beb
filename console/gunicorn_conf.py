"""gunicorn for the console's pages: a few slow requests in threads (a password takes a third of a second)."""

import os

workers = int(os.environ.get("CONSOLE_WORKERS", 2))
worker_class = "gthread"
threads = 8
timeout = 60
graceful_timeout = 20
keepalive = 75  # longer than the proxy's in front, which otherwise meets closed connections
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
loglevel = "warning"
