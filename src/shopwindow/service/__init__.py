"""The search as a web service, of the extra `serve`.

From the inside: `limits`, `keys`, `metrics`, `problems` (values), `live` (the engine in use), `answers`, `photos`,
`routes`, `site` (endpoints), `door` and `journal` (around them), `app` (all together), `run` (a process).
"""

try:
    import fastapi as fastapi
    import uvicorn as uvicorn
except ImportError as error:
    raise ImportError("the service needs the extra `serve`: pip install 'shopwindow[serve]'") from error
