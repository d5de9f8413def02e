"""The methods of clients, made of the functions of `calls.py`, which say what each takes and gives."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from google.protobuf.message import Message

from steersman_client import calls
from steersman_client.calls import Call, Pages

A = TypeVar("A")
P = ParamSpec("P")
Method = TypeVar("Method", bound=Callable[..., Any])


def _described(method: Method, build: Callable[..., Any]) -> Method:
    """With the name, the text and the arguments of `build`, for help() and editors."""
    signature = inspect.signature(build)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    described: Any = method
    described.__name__, described.__doc__ = build.__name__, build.__doc__
    described.__signature__ = signature.replace(
        parameters=[own, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    return method


def _waits(build: Callable[P, Call[A]]) -> "Callable[Concatenate[Methods, P], A]":
    def method(client: "Methods", /, *arguments: P.args, **named: P.kwargs) -> A:
        call = build(*arguments, **named)
        return call.read(client._send(call.method, call.request, call.answer))

    return _described(method, build)


def _iterates(build: Callable[P, Pages[A]]) -> "Callable[Concatenate[Methods, P], Iterator[A]]":
    def method(client: "Methods", /, *arguments: P.args, **named: P.kwargs) -> Iterator[A]:
        method, request, answer, read = build(*arguments, **named)
        more = True
        while more:
            page: Any = client._send(method, request, answer)
            yield from read(page)
            request.page_token = page.next_page_token
            more = bool(request.page_token)

    return _described(method, build)


def _awaits(build: Callable[P, Call[A]]) -> "Callable[Concatenate[AsyncMethods, P], Coroutine[Any, Any, A]]":
    async def method(client: "AsyncMethods", /, *arguments: P.args, **named: P.kwargs) -> A:
        call = build(*arguments, **named)
        return call.read(await client._send(call.method, call.request, call.answer))

    return _described(method, build)


def _async_iterates(build: Callable[P, Pages[A]]) -> "Callable[Concatenate[AsyncMethods, P], AsyncIterator[A]]":
    async def method(client: "AsyncMethods", /, *arguments: P.args, **named: P.kwargs) -> AsyncIterator[A]:
        method, request, answer, read = build(*arguments, **named)
        more = True
        while more:
            page: Any = await client._send(method, request, answer)
            for each in read(page):
                yield each
            request.page_token = page.next_page_token
            more = bool(request.page_token)

    return _described(method, build)


class Methods(ABC):
    """Calls that wait for their answer. All raise CallError; TypeError or ValueError for what cannot be sent."""

    recommend = _waits(calls.recommend)
    batch_recommend = _waits(calls.batch_recommend)
    compare = _waits(calls.compare)
    sweep = _waits(calls.sweep)
    explain = _waits(calls.explain)
    features = _iterates(calls.features)
    feature = _waits(calls.feature)
    set_label = _waits(calls.set_label)
    concepts = _iterates(calls.concepts)
    neighbours = _waits(calls.neighbours)
    items = _iterates(calls.items)
    attributes = _waits(calls.attributes)
    append_events = _waits(calls.append_events)
    session = _waits(calls.session)
    set_controls = _waits(calls.set_controls)
    delete_session = _waits(calls.delete_session)
    scenarios = _iterates(calls.scenarios)
    scenario = _waits(calls.scenario)
    put_scenario = _waits(calls.put_scenario)
    delete_scenario = _waits(calls.delete_scenario)
    scenario_changes = _iterates(calls.scenario_changes)
    replay_scenarios = _iterates(calls.replay_scenarios)
    model_info = _waits(calls.model_info)
    histories = _iterates(calls.histories)
    bundles = _waits(calls.bundles)
    releases = _waits(calls.releases)
    load_release = _waits(calls.load_release)
    set_canary_share = _waits(calls.set_canary_share)
    promote_canary = _waits(calls.promote_canary)
    roll_back = _waits(calls.roll_back)

    @abstractmethod
    def _send(self, method: str, request: Message, answer: type[Message]) -> Any:
        """The answer, an `answer`. Raises CallError."""


class AsyncMethods(ABC):
    """The same for asyncio."""

    recommend = _awaits(calls.recommend)
    batch_recommend = _awaits(calls.batch_recommend)
    compare = _awaits(calls.compare)
    sweep = _awaits(calls.sweep)
    explain = _awaits(calls.explain)
    features = _async_iterates(calls.features)
    feature = _awaits(calls.feature)
    set_label = _awaits(calls.set_label)
    concepts = _async_iterates(calls.concepts)
    neighbours = _awaits(calls.neighbours)
    items = _async_iterates(calls.items)
    attributes = _awaits(calls.attributes)
    append_events = _awaits(calls.append_events)
    session = _awaits(calls.session)
    set_controls = _awaits(calls.set_controls)
    delete_session = _awaits(calls.delete_session)
    scenarios = _async_iterates(calls.scenarios)
    scenario = _awaits(calls.scenario)
    put_scenario = _awaits(calls.put_scenario)
    delete_scenario = _awaits(calls.delete_scenario)
    scenario_changes = _async_iterates(calls.scenario_changes)
    replay_scenarios = _async_iterates(calls.replay_scenarios)
    model_info = _awaits(calls.model_info)
    histories = _async_iterates(calls.histories)
    bundles = _awaits(calls.bundles)
    releases = _awaits(calls.releases)
    load_release = _awaits(calls.load_release)
    set_canary_share = _awaits(calls.set_canary_share)
    promote_canary = _awaits(calls.promote_canary)
    roll_back = _awaits(calls.roll_back)

    @abstractmethod
    async def _send(self, method: str, request: Message, answer: type[Message]) -> Any:
        """The answer, an `answer`. Raises CallError."""
