"""The OpenAPI description of the server, made of the tables that check the requests."""

from collections.abc import Mapping
from typing import Any

from demiurgic_jax.sampling.request_fields import CHAT, COMPLETION, DETOKENIZE, INFILL, TOKENIZE, Field

_POSTS = {
    "/v1/completions": ("Continue text, or fill a gap in it.", COMPLETION, ("id", "object", "choices", "usage")),
    "/v1/chat/completions": ("Answer a conversation.", CHAT, ("id", "object", "choices", "usage")),
    "/infill": ("Fill a gap, as llama.cpp's server does.", INFILL, ()),
    "/tokenize": ("Text to token ids.", TOKENIZE, ("tokens",)),
    "/detokenize": ("Token ids to text.", DETOKENIZE, ("content",)),
}
_STREAMED = ("/v1/completions", "/v1/chat/completions", "/infill")
_GETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/": ("The playground.", "text/html", {"type": "string"}),
    "/v1/models": ("The served model.", "application/json", {"type": "object", "required": ["object", "data"]}),
    "/health": ("Whether requests are taken.", "application/json", {"type": "object", "required": ["status"]}),
    "/metrics": ("Figures for Prometheus.", "text/plain", {"type": "string"}),
    "/openapi.json": ("This description.", "application/json", {"type": "object"}),
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
# One event of a stream, as OpenAPI before 3.2 describes it; its data is a part of the answer as JSON, or [DONE].
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
_REFUSALS = {
    "400": "A field is wrong; `param` names it.",
    "401": "The key is missing or unknown.",
    "404": "Another model is served here.",
    "413": "The body is too large.",
    "429": "Too many requests wait; Retry-After says for how long.",
    "500": "The server failed.",
    "503": "The server is about to end.",
}


def description(model_name: str, *, with_key: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for path, (what, media, schema) in _GETS.items():
        answers = {"200": _answer("The answer.", media, schema)} | {
            status: _refusal(status) for status in (("503",) if path == "/health" else ("401", "503"))
        }
        paths[path] = {"get": {"summary": what, "responses": answers}}
    for path, (what, fields, required) in _POSTS.items():
        good = _answer("The answer.", "application/json", {"type": "object", "required": list(required)})
        if path in _STREAMED:
            good["content"]["text/event-stream"] = {"schema": _EVENT}
        paths[path] = {
            "post": {
                "summary": what,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _body(fields, model_name)}},
                },
                "responses": {"200": good} | {status: _refusal(status) for status in _REFUSALS},
            }
        }
    paths["/v1/models/{model}"] = {
        "get": {
            "summary": "A model's card.",
            "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
            "responses": {
                "200": _answer("The card.", "application/json", {"type": "object", "required": ["id"]}),
                **{status: _refusal(status) for status in ("401", "404", "503")},
            },
        }
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"Demiurgic: {model_name}", "version": "1"},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if with_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _body(fields: Mapping[str, Field], model_name: str) -> dict[str, Any]:
    properties = {name: _property(field) for name, field in fields.items()}
    properties["model"] = {"enum": [model_name, "", None], "description": fields["model"].what}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name, field in fields.items() if field.required],
        "additionalProperties": False,
    }


def _property(field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {"description": field.what}
    if field.default is not None:
        described["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    if field.ignored:
        return described
    if field.required:
        return {**field.schema, **described}
    return {"anyOf": [dict(field.schema), {"type": "null"}], **described}


def _answer(what: str, media: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {media: {"schema": dict(schema)}}}


def _refusal(status: str) -> dict[str, Any]:
    return _answer(_REFUSALS[status], "application/json", {"$ref": "#/components/schemas/Error"})
