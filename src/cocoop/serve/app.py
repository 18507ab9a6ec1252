"""The page and the API as one application."""

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cocoop.serve.answers import SideBySide
from cocoop.serve.api import add_api
from cocoop.serve.guard import Guard
from cocoop.serve.page import add_page


def make_app(models: SideBySide, local: bool) -> FastAPI:
    """Return the application.

    Args:
        models: what answers.
        local: whether it is for this machine alone: a site that a browser here visits is then turned away
            where its name leads to this machine.
    """
    # the stock pages of documentation load scripts from elsewhere; ours does not
    app = FastAPI(title="cocoop", docs_url=None, redoc_url=None)
    add_api(app, models)
    add_page(app, models)
    app.add_middleware(Guard, limit=models.limits.request_bytes)
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    return app
