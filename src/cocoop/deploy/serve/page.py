"""The page at /: images and names in, answers beside each other out. What is said is `SideBySide`'s.

Everything is in this package: no font, script or style comes from elsewhere, and none would be let in. The
server escapes what it shows; the script only sends the form and puts the answer in its place.
"""

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader

from cocoop.deploy.serve.answers import Answer, SideBySide
from cocoop.deploy.serve.api import ask
from cocoop.deploy.serve.form import TOP_K, Form

WEB = Path(__file__).parent / "web"
UNSURE = 8  # images in the gallery of the least certain
SHOWN = ["GET", "HEAD"]


def add_page(app: FastAPI, models: SideBySide) -> None:
    """Put the page, what it asks for and the documentation of the API into an application."""
    shown = {"limits": models.limits, "models": list(models.models), "names": models.classes, "top_k": TOP_K}

    @app.api_route("/", methods=SHOWN, response_class=HTMLResponse, include_in_schema=False)
    def index() -> str:
        return _templates().get_template("index.html").render(shown)

    @app.api_route("/docs", methods=SHOWN, response_class=HTMLResponse, include_in_schema=False)
    def documentation() -> str:
        return _templates().get_template("docs.html").render(shown)

    @app.post("/results", response_class=HTMLResponse, include_in_schema=False)
    def results(request: Request, question: Form) -> str:
        return render(ask(models, question, request))

    app.mount("/static", StaticFiles(directory=WEB / "static"))


def render(answers: Sequence[Answer]) -> str:
    """Return answers as HTML, the least certain ones by the last model first, where there are several."""
    read = [answer for answer in answers if not answer.problem]
    judge = list(read[0].tops)[-1]
    unsure = sorted(read, key=lambda answer: answer.confidence(judge))[:UNSURE] if len(read) > 1 else []
    return _templates().get_template("results.html").render(answers=answers, unsure=unsure, judge=judge)


def data_uri(thumbnail: bytes) -> str:
    """Return a JPEG as the address of an image."""
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail).decode()}"


@cache
def _templates() -> Environment:
    environment = Environment(loader=FileSystemLoader(WEB), autoescape=True, trim_blocks=True)
    environment.filters["data_uri"] = data_uri
    return environment
