"""The search as a web service, of the extra `serve`.

A request passes `access_log`, `auth`, `limits`, then a route (`routes`, with `requests` and `responses`) that asks the
engine in use (`live`). `app` puts them together, `run` is a process.
"""

try:
    import fastapi as fastapi
    import prometheus_client as prometheus_client
    import uvicorn as uvicorn
except ImportError as error:
    raise ImportError("the service needs the extra `serve`: pip install 'shopwindow[serve]'") from error
