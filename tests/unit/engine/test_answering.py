"""Generated text on its way to the socket."""

from __future__ import annotations

from mlxft.conversation.messages import Question
from mlxft.engine.answering import SEND_SECONDS, TextStream
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import AnyReply, Chat, TextGenerated


class Reader:
    """A caller with a manual clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.replies: list[AnyReply] = []
        call = Call(7, Chat(Question(())), self.replies.append)
        self.stream = TextStream(call, 1, clock=lambda: self.now)

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.replies if isinstance(each, TextGenerated)]


class TestTextStream:
    def test_the_first_token_is_sent_at_once(self) -> None:
        reader = Reader()
        reader.stream.add("Hel")
        assert reader.replies == [TextGenerated(id=7, text="Hel", side=1)]

    def test_text_soon_after_is_collected(self) -> None:
        reader = Reader()
        for text in ("Hel", "lo", ","):
            reader.stream.add(text)
        assert reader.texts == ["Hel"]
        reader.now += SEND_SECONDS
        reader.stream.add(" you")
        assert reader.texts == ["Hel", "lo, you"]

    def test_collected_text_is_sent_at_the_end(self) -> None:
        reader = Reader()
        reader.stream.add("Hel")
        reader.stream.add("lo")
        reader.stream.send()
        reader.stream.send()
        assert reader.texts == ["Hel", "lo"]
