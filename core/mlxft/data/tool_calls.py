"""Tool descriptions and tool calls, in the form that chat templates expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

CALL_ARGUMENTS: Final = ("arguments", "parameters", "input", "args")
"""Keys of a call's arguments in various formats."""

_NULLABLE: Final = ("default", "const", "example")
"""Keys of a JSON schema whose value may be null."""


def tools_of(value: Any) -> Any:
    """A list of tools as ``{"type": "function", "function": {…}}``; None for none.

    Accepts JSON text, bare functions, and the forms of Anthropic, Gemini and Bedrock. A broken
    value is returned unchanged, for the checks to report.
    """
    tools = json_value(value)
    if tools is None or tools == "":
        return None
    tools = [tools] if isinstance(tools, Mapping) else tools
    if not isinstance(tools, list):
        return value
    tools = [json_value(tool) for tool in tools]
    if not all(isinstance(tool, Mapping) for tool in tools):
        return value
    found = [made for tool in tools for made in _described(tool)]
    return value if found == value else found


def _described(tool: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("functionDeclarations", "function_declarations"):
        if isinstance(tool.get(key), list):
            for each in tool[key]:
                yield from _described(each)
            return
    function = next((tool[key] for key in ("function", "toolSpec") if key in tool), None)
    if isinstance(function, Mapping):
        rest = {key: value for key, value in tool.items() if key not in ("function", "toolSpec")}
        yield {"type": "function", **rest, "function": _function(function)}
    elif isinstance(tool.get("name"), str):
        yield {"type": "function", "function": _function(tool)}
    else:
        yield dict(tool)


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _without_nulls(function)
    if found.get("type") == "function":
        found.pop("type")
    for key in ("input_schema", "inputSchema"):
        if key in found:
            found["parameters"] = found.pop(key)
    if "parameters" in found:
        parameters = json_value(found["parameters"])
        if isinstance(parameters, Mapping) and parameters.keys() == {"json"}:
            parameters = json_value(parameters["json"])
        found["parameters"] = parameters
    return found


def _without_nulls(value: Any) -> Any:
    """A schema without the nulls that tables add for missing keys."""
    if isinstance(value, Mapping):
        return {
            key: _without_nulls(each)
            for key, each in value.items()
            if each is not None or key in _NULLABLE
        }
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def calls_of(value: Any) -> Any:
    """A list of calls as ``{"type": "function", "function": {"name": …, "arguments": {…}}}``.

    Accepts JSON text and bare calls. A broken value is returned unchanged.
    """
    calls = json_value(value)
    calls = [calls] if isinstance(calls, Mapping) else calls
    if not isinstance(calls, list):
        return value
    found = [_call(json_value(call)) for call in calls]
    return value if found == value else found


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    function = json_value(call.get("function", call))
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return call
    rest = (
        {key: each for key, each in call.items() if each is not None} if "function" in call else {}
    )
    key = next((each for each in CALL_ARGUMENTS if each in function), "arguments")
    made = {"name": function["name"], "arguments": arguments_of(function.get(key))}
    if isinstance(call.get("id"), str):
        rest["id"] = call["id"]
    return {**rest, "type": "function", "function": made}


def arguments_of(value: Any) -> Any:
    """A call's arguments as an object, also from JSON text; anything else is unchanged."""
    if value is None or value == "":
        return {}
    found = json_value(value)
    return found if isinstance(found, Mapping) else value


def json_value(value: Any) -> Any:
    """What JSON text of a list or an object holds; anything else is unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return "" if isinstance(value, str) and value.isspace() else value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value
