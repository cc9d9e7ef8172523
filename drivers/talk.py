"""Conversations with a device, one question at a time.

A conversation is a generator: it yields a question and is sent the answer, or None when none came.
It returns why it failed, CODE: sentence; empty when it did not.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Conversation(Generic[Ask, Answer]):
    """At most one at a time. Whoever owns it sends the questions, when it may."""

    def __init__(self) -> None:
        self.next: Ask | None = None  # to be sent
        self._talk: Generator[Ask, Answer | None, str] | None = None
        self._spoken: Ask | None = None  # sent, and not answered

    @property
    def active(self) -> bool:
        return self._talk is not None

    def begin(self, talk: Generator[Ask, Answer | None, str]) -> str | None:
        """How it ended, if it did without a question; None: it goes on."""
        self._talk = talk
        try:
            self.next = next(talk)
        except StopIteration as ended:
            return self._over(ended)
        return None

    def speak(self) -> Ask:
        """The next question, to be sent now."""
        ask, self.next = self.next, None
        assert ask is not None
        self._spoken = ask
        return ask

    def hear(self, ask: Ask, answer: Answer | None) -> str | None:
        """How it ended, if it did with this answer; None: it goes on, or the question was not its
        own."""
        if self._talk is None or ask is not self._spoken:
            return None
        self._spoken = None
        try:
            self.next = self._talk.send(answer)
        except StopIteration as ended:
            return self._over(ended)
        return None

    def give_up(self) -> None:
        """Nobody waits for its end any more."""
        self._talk = self.next = self._spoken = None

    def _over(self, ended: StopIteration) -> str:
        self.give_up()
        return str(ended.value)
