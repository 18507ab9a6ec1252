"""The HTTP API: POST /api/predict and GET /api/models; refusals are 4xx or 5xx with {"error": ...}."""

from typing import Any

from anyio import from_thread
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from cocoop.deploy.serve.answers import Answer, SideBySide, Upload, split_names
from cocoop.deploy.serve.form import BODY, Form, Question, add_refusals


class Named(BaseModel):
    """A name, with its probability; of one name alone with its similarity, the cosine of image and text.

    Where an image may have several classes, with its score, which is independent of the others'.
    """

    name: str
    probability: float | None = None
    similarity: float | None = None
    score: float | None = None


class ImageAnswer(BaseModel):
    """What is said about one image: every model either answers or is among those that refused."""

    file: str = Field(description="The name that was sent with it.")
    answers: dict[str, list[Named]] = Field(description="By model, the likeliest names.")
    sure: dict[str, bool | None] = Field(
        description="By model, whether the image reaches its threshold; null without one for these names."
    )
    labels: dict[str, list[str]] | None = Field(
        None,
        description="By model of several classes an image, those that it has; absent where there is none.",
    )
    refused: dict[str, str] | None = Field(
        None, description="By model that cannot take these names, why; absent where there is none."
    )
    error: str | None = Field(
        None, description="Why there is no answer: no image, or too large; absent where there is one."
    )


class ImageAnswers(BaseModel):
    """An answer for every image, in the order in which they were sent."""

    images: list[ImageAnswer]


class Problem(BaseModel):
    """Why a request is refused."""

    error: str = Field(description="What is wrong, and what would be right.")


# of requests that are refused, also where FastAPI would say something else of 422
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 403, 408, 413, 415, 422, 429, 500, 503)
}


def add_api(app: FastAPI, models: SideBySide) -> None:
    """Put the API over some models into an application."""
    add_refusals(app)

    @app.post("/api/predict", openapi_extra=BODY, responses=REFUSALS, response_model_exclude_unset=True)
    def predict(request: Request, question: Form) -> ImageAnswers:
        """Name images with every model; one that cannot be read has an error, where others can."""
        return ImageAnswers(images=[_described(answer) for answer in ask(models, question, request)])

    @app.get("/api/models")
    def describe() -> dict[str, Any]:
        """Say which models there are, and what they know."""
        described = {
            label: {"method": model.method, "backbone": model.load_backbone().name}
            for label, model in models.models.items()
        }
        return {"models": described, "classes": models.classes}


def ask(models: SideBySide, question: Question, request: Request) -> list[Answer]:
    """Answer a form, in a thread of its own, while its sender waits. Raises Refused."""
    uploads = [Upload((file.filename or "an image")[:200], file.file.read) for file in question.images]

    def wanted() -> bool:
        return not from_thread.run(request.is_disconnected)

    return models.answer(uploads, split_names(question.classes), question.top_k, wanted)


def _described(answer: Answer) -> ImageAnswer:
    """Return an answer for programs, of which what is not there is not set."""
    one = "probability" if answer.candidates > 1 else "similarity"
    by = {label: "score" if label in answer.labels else one for label in answer.tops}
    answers = {
        label: [Named.model_validate({"name": name, by[label]: chance}) for name, chance in top]
        for label, top in answer.tops.items()
    }
    more: dict[str, Any] = {"refused": dict(answer.refused)} if answer.refused else {}
    more |= {"labels": {label: list(each) for label, each in answer.labels.items()}} if answer.labels else {}
    more |= {"error": answer.problem} if answer.problem else {}
    return ImageAnswer(file=answer.file, answers=answers, sure=dict(answer.sure), **more)
