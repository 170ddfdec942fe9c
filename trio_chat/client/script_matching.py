"""What can stand in a scenario's frames, and how it is compared with what was received: pure.

An expected table matches an object that has all its keys, whatever else it has; an expected list matches one of the same
length; anything else must be equal and of the same type. In strings `$name` (also `$person.id`, `${name}`) stands for a
variable, with its type where it is the whole string; `$unique` is different in each run; `$$` is a dollar sign. Besides:

    "$any"  "$int"  "$string"      any value, any integer, any string
    "$absent"                      this key must not be there
    { "$json" = X }                a string that is JSON, and as such matches X; sent: X as such a string
    { "$exact" = { ... } }         an object with these keys and no others
    { "$contains" = [ ... ] }      a list that has, among others, an element for each of these
    { "$unordered" = [ ... ] }     a list of these, in any order
    { "$matches" = "REGEX" }       a string in which the regular expression finds something
    { "$repeat" = ["x", 600] }     the text 600 times
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

__all__ = ["UnknownVariable", "differences", "find", "resolve"]

_VARIABLE = re.compile(r"\$(?:\$|\{([\w.]+)\}|(\w+(?:\.\w+)*))")
_WILDCARDS = frozenset({"$any", "$int", "$string", "$absent"})
_FORMS = frozenset({"$json", "$exact", "$contains", "$unordered", "$matches", "$repeat"})
_MISSING = object()

Variables = Mapping[str, Any]


class UnknownVariable(LookupError):
    """A `$name` that no step has saved."""


def resolve(value: Any, variables: Variables) -> Any:
    """The value with its variables put in, as it is sent. Raises `UnknownVariable`."""
    if isinstance(value, str):
        return _resolve_text(value, variables)
    if _is_list(value):
        return [resolve(item, variables) for item in value]
    if not _is_object(value):
        return value
    match _form(value):
        case "$json", inner:
            return json.dumps(resolve(inner, variables))
        case "$repeat", [str(text), int(times)]:
            return str(_resolve_text(text, variables)) * times
        case _:
            return {key: resolve(item, variables) for key, item in value.items()}


def differences(expected: Any, received: Any, variables: Variables, path: str = "") -> Iterator[str]:
    """What distinguishes the two, one line each; nothing where `received` matches. Raises `UnknownVariable`."""
    where = path or "the frame"
    if expected == "$any":
        return
    if expected in ("$int", "$string"):
        if type(received) is not (int if expected == "$int" else str):
            yield f"{where}: expected {expected}, received {_show(received)}"
    elif _is_object(expected):
        if _form(expected)[0]:
            yield from _differences_of_form(expected, received, variables, where)
        else:
            yield from _differences_of_objects(expected, received, variables, path)
    elif _is_list(expected):
        if not _is_list(received) or len(expected) != len(received):
            yield f"{where}: expected {len(expected)} elements, received {_show(received)}"
        else:
            for number, (one, other) in enumerate(zip(expected, received, strict=True)):
                yield from differences(one, other, variables, f"{path}.{number}".lstrip("."))
    else:
        wanted = resolve(expected, variables)
        if type(wanted) is not type(received) or wanted != received:
            yield f"{where}: expected {_show(wanted)}, received {_show(received)}"


def find(value: Any, path: str) -> Any:
    """The value at a path such as `friends.0.id`; strings on the way are read as JSON.

    Raises `LookupError`, `TypeError` or `ValueError` where there is none.
    """
    for part in path.split("."):
        if isinstance(value, str):
            value = json.loads(value)
        value = value[int(part)] if _is_list(value) else value[part]
    return value


def _differences_of_objects(expected: dict[str, Any], received: Any, variables: Variables, path: str) -> Iterator[str]:
    if not _is_object(received):
        yield f"{path or 'the frame'}: expected an object, received {_show(received)}"
        return
    for key, wanted in expected.items():
        inner = f"{path}.{key}".lstrip(".")
        found = received.get(key, _MISSING)
        if wanted == "$absent":
            if found is not _MISSING:
                yield f"{inner}: expected nothing, received {_show(found)}"
        elif found is _MISSING:
            yield f"{inner}: is missing"
        else:
            yield from differences(wanted, found, variables, inner)


def _differences_of_form(expected: dict[str, Any], received: Any, variables: Variables, where: str) -> Iterator[str]:
    form, inner = _form(expected)
    match form:
        case "$json":
            value = _from_json(received)
            if value is _MISSING:
                yield f"{where}: expected a string of JSON, received {_show(received)}"
            else:
                yield from differences(inner, value, variables, where)
        case "$exact":
            yield from differences(inner, received, variables, where)
            extra = sorted(set(received) - set(inner)) if _is_object(received) and _is_object(inner) else []
            if extra:
                yield f"{where}: did not expect {', '.join(extra)}"
        case "$contains" | "$unordered":
            if not _is_list(received):
                yield f"{where}: expected a list, received {_show(received)}"
                return
            if form == "$unordered" and len(inner) != len(received):
                yield f"{where}: expected {len(inner)} elements, received {_show(received)}"
            for missing in _unmatched(inner, received, variables):
                yield f"{where}: expected an element {_show(missing)} in {_show(received)}"
        case "$matches":
            pattern = str(_resolve_text(inner, variables))
            if not isinstance(received, str) or not re.search(pattern, received):
                yield f"{where}: expected something like {pattern}, received {_show(received)}"
        case _:
            yield from differences(resolve(expected, variables), received, variables, where)


def _unmatched(expected: Sequence[Any], received: Sequence[Any], variables: Variables) -> Iterator[Any]:
    """The expected elements that no received one is left for; each received one serves one expected one."""
    left = list(received)
    for wanted in expected:
        for candidate in left:
            if not any(differences(wanted, candidate, variables)):
                left.remove(candidate)
                break
        else:
            yield wanted


def _resolve_text(text: str, variables: Variables) -> Any:
    if text in _WILDCARDS:
        return text
    whole = _VARIABLE.fullmatch(text)
    if whole and text != "$$":
        return _look_up(whole, variables)
    return _VARIABLE.sub(lambda match: str(_look_up(match, variables)), text)


def _look_up(match: re.Match[str], variables: Variables) -> Any:
    name = match[1] or match[2]
    if name is None:
        return "$"
    if name not in variables:
        raise UnknownVariable(f"no step before has saved ${name}")
    return variables[name]


def _form(value: dict[str, Any]) -> tuple[str, Any]:
    """The form's name and what stands in it, or two empty values where the object is an ordinary one."""
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key in _FORMS:
            return key, inner
    return "", None


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _from_json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else _MISSING
    except ValueError:
        return _MISSING


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:200]} … ({len(text)} characters)"
