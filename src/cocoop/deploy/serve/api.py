"""The HTTP API: POST /api/predict and GET /api/models; refusals are 4xx or 5xx with {"error": ...}."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import from_thread
from fastapi import Depends, FastAPI, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from cocoop.deploy.serve.answers import Answer, SideBySide, Upload, split_names
from cocoop.deploy.serve.guard import problem
from cocoop.deploy.serve.limits import Refused

TOP_K = 5
FIELDS = 16  # of a form beside its files; two are used
TAIL = 1024  # bytes at the end of a form, among which its last boundary is


class Question(BaseModel):
    """The form that is sent."""

    images: list[UploadFile] = Field(description="Image files.")
    classes: str = Field("", description="Names, by commas or lines; the model's own where empty.")
    top_k: int = Field(TOP_K, ge=1, description="Names an image.")


class Named(BaseModel):
    """A name, with its probability; of one name alone with its similarity, the cosine of image and text."""

    name: str
    probability: float | None = None
    similarity: float | None = None


class ImageAnswer(BaseModel):
    """What is said about one image: every model either answers or is among those that refused."""

    file: str = Field(description="The name that was sent with it.")
    answers: dict[str, list[Named]] = Field(description="By model, the likeliest names.")
    sure: dict[str, bool | None] = Field(
        description="By model, whether the image reaches its threshold; null without one for these names."
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


async def read_form(request: Request) -> AsyncIterator[Question]:
    """Read a form no further than is allowed; its files are gone when it has been answered."""
    content, options = parse_options_header(request.headers.get("content-type"))
    if content != b"multipart/form-data":
        raise Refused(415, "send a form: multipart/form-data with a file in the field images")
    # else the sender would name the decoder, among them slow ones
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"us-ascii"):
        raise Refused(415, "send the form in UTF-8")
    limit = request.app.state.limits.images
    complete = Request(request.scope, _uncut(request.receive, options.get(b"boundary", b"")))
    try:
        async with complete.form(max_files=limit, max_fields=FIELDS) as form:
            yield _checked(form)
    except FormParserError:
        raise Refused(400, "the form cannot be read") from None


Form = Annotated[Question, Depends(read_form)]
# what FastAPI would say of the form if it read it itself
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": Question.model_json_schema()}},
    }
}


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


def add_refusals(app: FastAPI) -> None:
    """Let an application answer what it refuses with {"error": ...}."""

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.message)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return problem(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def failed(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer


def ask(models: SideBySide, question: Question, request: Request) -> list[Answer]:
    """Answer a form, in a thread of its own, while its sender waits. Raises Refused."""
    uploads = [Upload((file.filename or "an image")[:200], file.file.read) for file in question.images]

    def wanted() -> bool:
        return not from_thread.run(request.is_disconnected)

    return models.answer(uploads, split_names(question.classes), question.top_k, wanted)


def _uncut(receive: Receive, boundary: bytes) -> Receive:
    """Refuse a form that ends before its end: a file that it has the beginning of would stay open."""
    tail = b""

    async def checked() -> Message:
        nonlocal tail
        message = await receive()
        tail = (tail + message.get("body", b""))[-TAIL:]
        over = message["type"] == "http.request" and not message.get("more_body", False)
        if over and b"--%s--" % boundary not in tail:
            raise Refused(400, "the form is cut off")
        return message

    return checked


def _checked(form: FormData) -> Question:
    fields = {name: form[name] for name in ("classes", "top_k") if name in form}
    try:
        return Question.model_validate({"images": form.getlist("images")} | fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def _described(answer: Answer) -> ImageAnswer:
    """Return an answer for programs, of which what is not there is not set."""
    by = "probability" if answer.candidates > 1 else "similarity"
    answers = {
        label: [Named.model_validate({"name": name, by: chance}) for name, chance in top]
        for label, top in answer.tops.items()
    }
    more: dict[str, Any] = {"refused": dict(answer.refused)} if answer.refused else {}
    more |= {"error": answer.problem} if answer.problem else {}
    return ImageAnswer(file=answer.file, answers=answers, sure=dict(answer.sure), **more)
