"""The HTTP API of the studio: JSON under /api; refusals are 4xx with {"error": ...}."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cocoop.deploy.serve.form import Form
from cocoop.deploy.serve.guard import problem
from cocoop.deploy.serve.limits import Refused
from cocoop.deploy.studio import asked, shown
from cocoop.deploy.studio.folder import Folder
from cocoop.deploy.studio.listing import View, Wanted, listed
from cocoop.deploy.studio.names import Name, named
from cocoop.deploy.studio.save import What
from cocoop.deploy.studio.studio import Studio
from cocoop.deploy.studio.trying import By, try_names
from cocoop.deploy.studio.upload import take_in
from cocoop.errors import CocoopError, UsageError

PAGE, ALL = 500, 20_000  # images of one answer, and ids
FOR_EVER = "private, max-age=31536000, immutable"  # an id is of one state of a file


class Body(BaseModel):
    """What is sent: nothing else is."""

    model_config = ConfigDict(extra="forbid")


class NameBody(Body):
    """One name of the list."""

    name: str
    phrases: list[str] = Field([], max_length=100)
    was: str | None = None


class NamesBody(Body):
    """The whole list, and the names that its sender had seen."""

    names: list[NameBody]
    known: list[str] | None = None


class LabelOf(Body):
    """A label for one image."""

    id: str
    name: str | None


class LabelBody(Body):
    """One label for some images, or a label for each."""

    ids: list[str] = Field([], max_length=ALL)
    name: str | None = None
    labels: list[LabelOf] = Field([], max_length=ALL)


class TrainBody(Body):
    """What to train; see `default_method`."""

    method: str | None = None
    preset: str | None = None
    epochs: int | None = Field(None, ge=0, le=100_000)
    settings: dict[str, Any] = {}


class TryBody(Body):
    """Names to try."""

    names: list[str]
    ids: list[str] | None = Field(None, max_length=100)
    by: By | None = None


class SaveBody(Body):
    """What to save."""

    what: What
    overwrite: bool = False


def read_wanted(
    view: View = "all",
    label: str | None = None,
    group: int | None = None,
    true: str | None = None,
    predicted: str | None = None,
) -> Wanted:
    """Read off a query which images are wanted. Raises Refused for half a cell of the confusion."""
    if (true is None) != (predicted is None):
        raise Refused(422, "give true and predicted, or none of them")
    cell = None if true is None or predicted is None else (true, predicted)
    return Wanted(view, label, group, cell)


Offset = Annotated[int, Query(ge=0)]
Count = Annotated[int, Query(ge=0, le=PAGE)]
Images = Annotated[Wanted, Depends(read_wanted)]


def add_api(app: FastAPI, studio: Studio) -> None:
    """Put the API of a studio into an application."""
    _add_lists(app, studio)
    _add_changes(app, studio)
    _add_learning(app, studio)


def _add_lists(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/state")
    def state() -> dict[str, Any]:
        return shown.state(studio)

    @app.get("/api/images")
    def images(
        wanted: Images, ids: str | None = None, offset: Offset = 0, count: Count = 100
    ) -> dict[str, Any]:
        if ids is not None:
            places = [_place(studio, identity) for identity in ids.split(",")[:PAGE] if identity]
            return shown.some(studio, places)
        return shown.images(studio, wanted, offset, count)

    @app.get("/api/ids")
    def ids(wanted: Images) -> dict[str, Any]:
        with studio.lock:
            places = listed(wanted, studio.images())
            some = [studio.folder.ids[place] for place in places[:ALL].tolist()]
            return {"version": studio.version, "total": len(places), "ids": some}

    @app.get("/api/groups")
    def groups() -> dict[str, Any]:
        return shown.groups(studio)

    @app.get("/api/thumb/{identity}")
    def thumb(identity: str) -> Response:
        picture = studio.pictures.small(identity, _path(studio, identity))
        return Response(picture, media_type="image/jpeg", headers={"cache-control": FOR_EVER})

    @app.get("/api/image/{identity}")
    def image(identity: str) -> Response:
        picture = studio.pictures.large(_path(studio, identity))
        return Response(picture, media_type="image/jpeg", headers={"cache-control": FOR_EVER})


def _add_changes(app: FastAPI, studio: Studio) -> None:
    @app.put("/api/names")
    def names(body: NamesBody) -> dict[str, Any]:
        limit = studio.options.limits.classes
        if len(body.names) > limit:
            raise Refused(422, f"{len(body.names)} names are too many; give at most {limit}")
        return _changed(studio, lambda folder: folder.rename(_renamed(folder, body)))

    @app.post("/api/label")
    def label(body: LabelBody) -> dict[str, Any]:
        if not (body.ids or body.labels) or (body.ids and "name" not in body.model_fields_set):
            raise Refused(422, "give ids and a name, or labels; a name of null takes labels away")
        marks = {_place(studio, identity): body.name for identity in body.ids}
        marks |= {_place(studio, each.id): each.name for each in body.labels}
        words = studio.folder.words() + [each for each in marks.values() if each is not None]
        if len(set(words)) > (limit := studio.options.limits.classes):
            raise Refused(422, f"there would be more than {limit} names; remove one first")
        return _changed(studio, lambda folder: folder.label(marks))

    @app.post("/api/undo")
    def undo() -> dict[str, Any]:
        return _changed(studio, Folder.undo)

    @app.post("/api/redo")
    def redo() -> dict[str, Any]:
        return _changed(studio, Folder.redo)

    @app.post("/api/upload")
    def upload(question: Form) -> dict[str, Any]:
        return take_in(studio, [(each.filename or "", each.file.read()) for each in question.images])


def _add_learning(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/methods")
    def methods() -> dict[str, Any]:
        return {"default": asked.default_method(), "methods": asked.methods()}

    @app.post("/api/train")
    def train(body: TrainBody | None = None) -> dict[str, Any]:
        what = body or TrainBody(epochs=None)
        studio.train(
            asked.Asked(what.method or asked.default_method(), what.preset, what.epochs, what.settings)
        )
        return shown.state(studio)

    @app.delete("/api/train")
    def cancel() -> dict[str, Any]:
        studio.cancel()
        return shown.state(studio)

    @app.get("/api/evaluation")
    def evaluation() -> dict[str, Any]:
        if studio.learned is None:
            raise Refused(404, "there is no model yet; train one first")
        return shown.evaluation(studio)

    @app.post("/api/try")
    def try_(body: TryBody) -> dict[str, Any]:
        places = None if body.ids is None else [_place(studio, identity) for identity in body.ids]
        return try_names(studio, body.names, places, body.by)

    @app.post("/api/save")
    def save(body: SaveBody) -> dict[str, Any]:
        return vars(studio.save(body.what, body.overwrite))

    @app.exception_handler(CocoopError)
    def failed(request: Request, error: CocoopError) -> Response:
        return problem(422 if isinstance(error, UsageError) else 409, str(error))


def _changed(studio: Studio, change: Callable[[Folder], None]) -> dict[str, Any]:
    with studio.lock:
        changed, folder = studio.change(change), studio.folder
        words = [*folder.words(), None]
        pairs = [{"id": folder.ids[place], "label": words[folder.labels[place]]} for place in changed]
        return {**shown.state(studio), "changed": pairs}


def _renamed(folder: Folder, body: NamesBody) -> list[tuple[Name, str | None]]:
    """Return the names of a list, behind them those that its sender had not seen."""
    listed: list[tuple[Name, str | None]] = [
        (named(each.name, each.phrases), each.was) for each in body.names
    ]
    there = {name.name for name, _ in listed} | {was for _, was in listed if was}
    known = set(folder.words() if body.known is None else body.known)
    return listed + [(each, None) for each in folder.names if each.name not in known | there]


def _place(studio: Studio, identity: str) -> int:
    place = studio.folder.place.get(identity)
    if place is None:
        raise Refused(404, "there is no such image; load the page again")
    return place


def _path(studio: Studio, identity: str) -> str:
    return studio.folder.paths[_place(studio, identity)]
