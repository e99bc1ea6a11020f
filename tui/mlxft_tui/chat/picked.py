"""The answer that a key acts on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlxft.chat.answerers import ADAPTER, Answerer
from mlxft.chat.dialogue import Dialogue, End, Turn, earlier, messages
from mlxft.chat.thinking import split_thinking
from mlxft.conversation.messages import Message
from mlxft_tui.chat.conversation_view import ConversationView


@dataclass(frozen=True)
class PickedAnswer:
    """An answer and the conversation before it."""

    before: tuple[Message, ...]
    text: str
    """Without thinking."""
    is_test_prompt: bool
    """Whether evaluations use its prompt."""
    end: End
    earlier: tuple[End, ...] = ()
    """How the answers before it in the conversation ended."""
    follows_test_prompt: bool = False
    """Whether an earlier prompt of the conversation is one that evaluations use."""
    name: str = ""
    """Identifies it among the project's answers."""

    @property
    def alone(self) -> tuple[Message, ...]:
        """Its prompt without what was said before, but with the system prompt."""
        system = [each for each in self.before[:1] if each.role == "system"]
        return (*system, self.before[-1])


def picked_answer(
    view: ConversationView, dialogue: Dialogue, system: str, followed: str
) -> PickedAnswer | None:
    """The picked answer, else one of the current turn; None without any.

    `followed` is the name of the followed run.
    """
    current = view.current
    answers = current.turn.texts if current else {}
    answerer = view.picked.answerer if view.picked is not None else _preferred(answers)
    if current is None or answerer is None or answerer not in answers:
        return None
    turn = current.turn
    before = earlier(dialogue.up_to(turn), answerer)
    return PickedAnswer(
        before=messages(dialogue.up_to(turn), answerer, system),
        text=split_thinking(answers[answerer]).text,
        is_test_prompt=turn.example is not None,
        end=turn.ends.get(answerer, "stop"),
        earlier=tuple(each.ends.get(answerer, "stop") for each in before),
        follows_test_prompt=any(each.example is not None for each in before),
        name=f"{dialogue.name}/{turn.number}/{answerer.named(followed)}",
    )


def picked_branch(
    view: ConversationView, dialogue: Dialogue
) -> tuple[Sequence[Turn], Answerer | None]:
    """The turns up to the current one, and the answerer whose answers are meant."""
    current = view.current
    turns = dialogue.up_to(current.turn) if current else dialogue.turns
    answers = next((turn.texts for turn in reversed(turns) if turn.texts), {})
    return turns, view.picked.answerer if view.picked is not None else _preferred(answers)


def _preferred(answers: Collection[Answerer]) -> Answerer | None:
    """The adapter if it answered, else the first one."""
    return ADAPTER if ADAPTER in answers else next(iter(answers), None)
