# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Other words while the node runs: by parameters, or by `~/set_prompts`, which answers when done.

Why that is a SetParametersAtomically and no service type of our own: it carries lists of text, is
there in every ROS 2, and answers with a reason; a package of interfaces would have to be built
before the node runs with ROS from wheels. Setting the parameters themselves says only that the
words can be used; the service waits until they are in force.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.task import Future

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.attempt import Attempt, attempt
from reldistill_ros.node.engine import Engine
from reldistill_ros.node.latest_worker import LatestWorker
from reldistill_ros.node.model import Dictionary
from reldistill_ros.node.parameters import DYNAMIC, NodeSettings

OF_WORDS = ('prompts', 'prompt_templates', 'unknown_share')


class WordsControl:
    """Encodes what the parameters ask for in a thread of its own; the newest request wins.

    Args:
        node: whose parameters they are.
        dictionary: parses and encodes.
        engine: what uses the words.
        settings: the parameters whose words are in force.
    """

    def __init__(
        self,
        node: Any,
        dictionary: Dictionary,
        engine: Engine,
        settings: NodeSettings,
    ) -> None:
        self._node, self._dictionary, self._engine = node, dictionary, engine
        self._in_force = self._requested = settings
        self._waiting: Future[Attempt[str]] | None = None
        self._encoding: NodeSettings | None = None  # the newest that the thread was given
        self._done: deque[tuple[NodeSettings, Attempt[str]]] = deque()
        self._worker: LatestWorker[NodeSettings] = LatestWorker(self._encode, 'words')
        self._arrived = node.create_guard_condition(self._on_done)

    @property
    def is_pending(self) -> bool:
        """Whether words are on their way."""
        return self._encoding is not None

    def check(self, settings: NodeSettings) -> None:
        """Refuse parameters about words that could not be used.

        Raises:
            InputError: see `Dictionary.vocabulary_of`.
        """
        self._dictionary.vocabulary_of(settings)

    def request(self, settings: NodeSettings) -> None:
        """Executor: the parameters have changed; encode where they ask for other words."""
        before, self._requested = self._requested, settings
        if _words_of(before) != _words_of(settings):
            self._encoding = settings
            self._worker.put(settings)
        elif self._encoding is None:
            self._in_force = settings

    def destroy(self, timeout: float) -> bool:
        """End the thread; returns whether it ended in time."""
        ended = self._worker.stop(timeout)
        self._answer(Attempt(error=InputError('the node was cleaned up')))
        self._node.destroy_guard_condition(self._arrived)
        return ended

    async def change(self, parameters: Sequence[Any]) -> SetParametersResult:
        """Executor: set parameters, and wait without blocking it until their words are in force.

        Args:
            parameters: rcl_interfaces/Parameter, of those in `DYNAMIC`.

        Returns:
            Whether they are in force, with the revision of the words or what was wrong.
        """
        result = self._set(parameters)
        if not result.successful:
            return result
        if not self.is_pending:
            return SetParametersResult(successful=True, reason='these words are in force already')
        self._waiting = Future()
        outcome = await self._waiting
        assert outcome is not None
        reason = outcome.value or str(outcome.error)
        return SetParametersResult(successful=outcome.error is None, reason=reason)

    def _set(self, parameters: Sequence[Any]) -> SetParametersResult:
        others = sorted({parameter.name for parameter in parameters} - DYNAMIC)
        if others or not parameters:
            reason = f'expected some of {", ".join(sorted(DYNAMIC))}, got {", ".join(others)}'
            return SetParametersResult(successful=False, reason=reason)
        changed = [Parameter.from_parameter_msg(parameter) for parameter in parameters]
        return self._node.set_parameters_atomically(changed)

    def _encode(self, settings: NodeSettings) -> None:
        """Thread of the words: encode and put in force."""
        outcome = attempt(lambda: self._use(settings))
        self._done.append((settings, outcome))
        if not self._worker.is_stopped:
            self._arrived.trigger()

    def _use(self, settings: NodeSettings) -> str:
        words = self._dictionary.words_of(settings)
        self._engine.set_words(words)
        return str(words.revision)

    def _on_done(self) -> None:
        """Executor: tell how it went; where it failed, the parameters go back."""
        while self._done:
            settings, outcome = self._done.popleft()
            is_newest = settings is self._encoding
            if outcome.error is None:
                self._in_force = self._requested if is_newest else settings
                self._node.get_logger().info(f'words in force: revision {outcome.value}')
            else:
                self._node.get_logger().error(f'the words cannot be used: {outcome.error}')
            if is_newest:
                self._encoding = None
                if outcome.error is not None:
                    self._go_back()
                self._answer(outcome)

    def _go_back(self) -> None:
        self._requested = self._in_force
        values = self._in_force.model_dump(include=set(DYNAMIC))
        self._node.set_parameters_atomically(
            [_as_parameter(name, value) for name, value in values.items()]
        )

    def _answer(self, outcome: Attempt[str]) -> None:
        if self._waiting is not None:
            self._waiting.set_result(outcome)
        self._waiting = None


def _words_of(settings: NodeSettings) -> tuple[Any, ...]:
    return tuple(getattr(settings, name) for name in OF_WORDS)


def _as_parameter(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return Parameter(name, Parameter.Type.STRING_ARRAY, list(value))
    return Parameter(name, value=value)
