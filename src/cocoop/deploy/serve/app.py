"""The page and the API as one application."""

from collections.abc import Collection

from fastapi import FastAPI

from cocoop.deploy.serve.answers import SideBySide
from cocoop.deploy.serve.api import add_api
from cocoop.deploy.serve.guard import Guard
from cocoop.deploy.serve.page import add_page


def make_app(models: SideBySide, hosts: Collection[str] | None, senders: Collection[str] = ()) -> FastAPI:
    """Return the application.

    Args:
        models: what answers.
        hosts: names it answers to, None for any; see `Guard`.
        senders: names under which a proxy shows it.
    """
    # the stock pages of documentation load scripts from elsewhere; ours does not
    app = FastAPI(title="cocoop", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.limits = models.limits
    add_api(app, models)
    add_page(app, models)
    app.add_middleware(Guard, limits=models.limits, hosts=hosts, senders=senders)
    return app
