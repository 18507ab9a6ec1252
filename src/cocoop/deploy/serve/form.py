"""Forms with image files, read no further than is allowed; and how refusals are answered."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

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
