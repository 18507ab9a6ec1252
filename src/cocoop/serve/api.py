"""The HTTP API: POST /api/predict and GET /api/models; refusals are 4xx with {"error": ...}."""

from typing import Annotated, Any

from fastapi import FastAPI, UploadFile
from fastapi import Form as Form_
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from cocoop.serve.answers import Answer, Refused, SideBySide, Upload, split_names

TOP_K = 5


class Question(BaseModel):
    """The form that is sent."""

    images: list[UploadFile] = Field(description="Image files.")
    classes: str = Field("", description="Names, by commas or lines; the model's own where empty.")
    top_k: int = Field(TOP_K, ge=1, description="Names an image.")


Form = Annotated[Question, Form_(media_type="multipart/form-data")]


def add_api(app: FastAPI, models: SideBySide) -> None:
    """Put the API over some models into an application."""

    @app.post("/api/predict")
    def predict(question: Form) -> dict[str, Any]:
        """Name images with every model."""
        return {"images": [_described(answer) for answer in ask(models, question)]}

    @app.get("/api/models")
    def describe() -> dict[str, Any]:
        """Say which models there are, and what they know."""
        described = {
            label: {"method": model.method, "backbone": model.load_backbone().name}
            for label, model in models.models.items()
        }
        return {"models": described, "classes": models.classes}

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> JSONResponse:
        return _error(error.status, error.message)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _error(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def failed(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))


def ask(models: SideBySide, question: Question) -> list[Answer]:
    """Answer a form. Raises Refused."""
    uploads = [Upload(each.filename or "an image", each.file.read()) for each in question.images]
    return models.answer(uploads, split_names(question.classes), question.top_k)


def _described(answer: Answer) -> dict[str, Any]:
    answers = {
        label: [{"name": name, "probability": chance} for name, chance in top]
        for label, top in answer.tops.items()
    }
    return {"file": answer.file, "answers": answers}


def _error(status: int, message: str) -> JSONResponse:
    headers = {"Retry-After": "5"} if status == 429 else None
    return JSONResponse({"error": message}, status, headers)
