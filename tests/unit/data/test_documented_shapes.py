"""The shapes that other tools document open without configuration, or are refused with the reason.

The table in docs/data.md has a row for each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from mlxft.data.validation import read_line

PAGE: Final = Path(__file__).parents[3] / "docs" / "data.md"

A, B, C, S = "Which key?", "The red one.", "No key.", "Be brief."
USER, ANSWER = {"role": "user", "content": A}, {"role": "assistant", "content": B}
SYSTEM, BAD = {"role": "system", "content": S}, {"role": "assistant", "content": C}
HUMAN, GPT = {"from": "human", "value": A}, {"from": "gpt", "value": B}
CALL = {"name": "open", "arguments": {"key": 1}}
CALL_TEXT = {"name": "open", "arguments": json.dumps({"key": 1})}
TOOL = {"name": "open", "description": "Opens a door.", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": TOOL}]
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": CALL_TEXT}],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "open"}
PREFERRED, LIKED = "preference, chosen side", "preference, liked answers"
REFUSED = "refused: "

SHAPES: Final[tuple[tuple[str, str, dict[str, Any], str], ...]] = (
    ("OpenAI", "chat", {"messages": [SYSTEM, USER, ANSWER]}, "messages"),
    (
        "OpenAI",
        "chat with weights",
        {"messages": [USER, {**BAD, "weight": 0}, USER, ANSWER]},
        "messages",
    ),
    ("OpenAI", "tools", {"messages": [USER, CALLING, RESULT, ANSWER], "tools": TOOLS}, "messages"),
    (
        "OpenAI",
        "functions",
        {
            "messages": [USER, {"role": "assistant", "function_call": CALL_TEXT}],
            "functions": [TOOL],
        },
        "messages",
    ),
    (
        "OpenAI",
        "preference",
        {
            "input": {"messages": [USER]},
            "preferred_output": [ANSWER],
            "non_preferred_output": [BAD],
        },
        PREFERRED,
    ),
    (
        "OpenAI",
        "images",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
        REFUSED + "only text can be trained",
    ),
    (
        "OpenAI",
        "reinforcement fine-tuning",
        {"messages": [USER], "reference_answer": B},
        REFUSED + "there is no answer to train",
    ),
    (
        "Anthropic",
        "thinking, tool use and result",
        {
            "system": S,
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Try it."},
                        {"type": "tool_use", "id": "t1", "name": "open", "input": {"key": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "open"}],
                },
                ANSWER,
            ],
            "tools": [{"name": "open", "input_schema": {"type": "object"}}],
        },
        "messages",
    ),
    (
        "Gemini",
        "contents",
        {
            "systemInstruction": {"parts": [{"text": S}]},
            "contents": [
                {"role": "user", "parts": [{"text": A}]},
                {"role": "model", "parts": [{"text": B}]},
            ],
        },
        "Gemini",
    ),
    (
        "Gemini",
        "function call",
        {
            "contents": [
                {"role": "user", "parts": [{"text": A}]},
                {
                    "role": "model",
                    "parts": [{"functionCall": {"name": "open", "args": {"key": 1}}}],
                },
                {
                    "role": "function",
                    "parts": [{"functionResponse": {"name": "open", "response": {"door": "open"}}}],
                },
                {"role": "model", "parts": [{"text": B}]},
            ]
        },
        "Gemini",
    ),
    ("Gemini", "text_input and output", {"text_input": A, "output": B}, "text_input/output"),
    (
        "Gemini",
        "preference",
        {
            "contents": [{"role": "user", "parts": [{"text": A}]}],
            "completions": [
                {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
                for score, text in ((0.0, C), (1.0, B))
            ],
        },
        PREFERRED,
    ),
    (
        "Gemini",
        "images",
        {
            "contents": [
                {"role": "user", "parts": [{"fileData": {"fileUri": "gs://keys/a.png"}}]},
                {"role": "model", "parts": [{"text": B}]},
            ]
        },
        REFUSED + "only text can be trained",
    ),
    (
        "Cohere",
        "chat",
        {
            "messages": [
                {"role": "System", "content": S},
                {"role": "User", "content": A},
                {"role": "Chatbot", "content": B},
            ]
        },
        "messages",
    ),
    ("Mistral", "chat with weights", {"messages": [USER, {**ANSWER, "weight": 1}]}, "messages"),
    (
        "Bedrock",
        "converse",
        {
            "schemaVersion": "bedrock-conversation-2024",
            "system": [{"text": S}],
            "messages": [
                {"role": "user", "content": [{"text": A}]},
                {"role": "assistant", "content": [{"text": B}]},
            ],
        },
        "messages",
    ),
    (
        "Bedrock",
        "converse with tools and reasoning",
        {
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "open", "inputSchema": {"json": {}}}}],
            },
            "messages": [
                {"role": "user", "content": [{"text": A}]},
                {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "Try it."}}},
                        {"toolUse": {"toolUseId": "t1", "name": "open", "input": {"key": 1}}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"toolResult": {"toolUseId": "t1", "content": [{"json": {"door": 1}}]}}
                    ],
                },
                {"role": "assistant", "content": [{"text": B}]},
            ],
        },
        "messages",
    ),
    (
        "TRL",
        "stepwise",
        {"prompt": A, "completions": [B], "labels": [True]},
        REFUSED + "the record has no completion",
    ),
    ("TRL", "language modeling", {"text": B}, "text"),
    ("TRL", "prompt and completion", {"prompt": A, "completion": B}, "prompt/completion"),
    (
        "TRL",
        "conversational prompt and completion",
        {"prompt": [USER], "completion": [ANSWER]},
        "prompt/completion",
    ),
    ("TRL", "preference", {"prompt": A, "chosen": B, "rejected": C}, PREFERRED),
    (
        "TRL",
        "conversational preference",
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [BAD]},
        PREFERRED,
    ),
    (
        "TRL",
        "preference without a prompt",
        {"chosen": [USER, ANSWER], "rejected": [USER, BAD]},
        PREFERRED,
    ),
    ("TRL", "unpaired preference", {"prompt": A, "completion": B, "label": True}, LIKED),
    ("TRL", "prompt only", {"prompt": A}, REFUSED + "the record has no completion"),
    (
        "TRL",
        "vision",
        {"images": ["door.png"], "messages": [USER, ANSWER]},
        REFUSED + "only text can be trained",
    ),
    ("axolotl", "alpaca", {"instruction": A, "input": "now", "output": B}, "Alpaca"),
    ("axolotl", "sharegpt", {"conversations": [HUMAN, GPT]}, "ShareGPT"),
    (
        "axolotl",
        "chat_template with train flags",
        {"messages": [{**USER, "train": False}, {**ANSWER, "train": True}]},
        "messages",
    ),
    (
        "axolotl",
        "pygmalion",
        {"conversations": [{"role": "human", "value": A}, {"role": "gpt", "value": B}]},
        "ShareGPT",
    ),
    (
        "axolotl",
        "context_qa",
        {"article": "A door.", "question": A, "answer": B},
        "question/answer",
    ),
    (
        "axolotl",
        "argilla preference",
        {"instruction": A, "chosen_response": B, "rejected_response": C},
        PREFERRED,
    ),
    (
        "axolotl",
        "chat_template preference",
        {"messages": [USER], "chosen": ANSWER, "rejected": BAD},
        PREFERRED,
    ),
    ("axolotl", "icr preference", {"system": S, "input": A, "chosen": B, "rejected": C}, PREFERRED),
    (
        "axolotl",
        "input_output segments",
        {"segments": [{"label": False, "text": A}, {"label": True, "text": B}]},
        REFUSED + "the record has segments",
    ),
    ("axolotl", "argilla KTO", {"instruction": A, "completion": B, "label": True}, LIKED),
    (
        "LLaMA-Factory",
        "alpaca with history",
        {"instruction": A, "input": "", "output": B, "system": S, "history": [[A, B]]},
        "Alpaca",
    ),
    (
        "LLaMA-Factory",
        "sharegpt with tools",
        {
            "conversations": [
                HUMAN,
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "open"},
                GPT,
            ],
            "tools": json.dumps([TOOL]),
        },
        "ShareGPT",
    ),
    (
        "LLaMA-Factory",
        "preference",
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": C}},
        PREFERRED,
    ),
    (
        "LLaMA-Factory",
        "alpaca preference",
        {"instruction": A, "input": "now", "chosen": B, "rejected": C},
        PREFERRED,
    ),
    ("LLaMA-Factory", "KTO", {"instruction": A, "output": B, "kto_tag": True}, LIKED),
    (
        "LLaMA-Factory",
        "parts with values",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": A}], "loss_weight": 0.0},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "Try it."},
                        {"type": "text", "value": B},
                    ],
                    "loss_weight": 1.0,
                },
            ]
        },
        "messages",
    ),
    (
        "LLaMA-Factory",
        "chosen_messages",
        {
            "chosen_messages": [
                {"role": "user", "content": [{"type": "text", "value": A}]},
                {"role": "assistant", "content": [{"type": "text", "value": B}]},
            ],
            "rejected_messages": [USER, BAD],
        },
        PREFERRED,
    ),
    ("ms-swift", "messages with loss", {"messages": [USER, {**ANSWER, "loss": True}]}, "messages"),
    (
        "ms-swift",
        "tool_call and tool_response",
        {
            "tools": json.dumps(TOOLS),
            "messages": [
                USER,
                {"role": "tool_call", "content": json.dumps(CALL)},
                {"role": "tool_response", "content": "open"},
                ANSWER,
            ],
        },
        "messages",
    ),
    (
        "ms-swift",
        "query, response and history",
        {"query": A, "response": B, "history": [[A, B]], "system": S},
        "query/response",
    ),
    ("ms-swift", "KTO", {"messages": [USER, ANSWER], "label": True}, LIKED),
    (
        "ms-swift",
        "preference",
        {"messages": [USER, ANSWER], "rejected_response": C},
        PREFERRED,
    ),
    ("ms-swift", "pretraining", {"response": B}, "text"),
    (
        "ms-swift",
        "GRPO",
        {"messages": [USER], "solution": B},
        REFUSED + "there is no answer to train",
    ),
    ("torchtune", "instruct", {"input": A, "output": B}, "input/output"),
    ("torchtune", "chat", {"messages": [{**USER, "masked": True}, ANSWER]}, "messages"),
    (
        "torchtune",
        "preference",
        {"chosen_conversations": [USER, ANSWER], "rejected_conversations": [USER, BAD]},
        PREFERRED,
    ),
    (
        "unsloth",
        "ChatML text",
        {"text": f"<|im_start|>user\n{A}<|im_end|>\n<|im_start|>assistant\n{B}<|im_end|>\n"},
        "ChatML text",
    ),
    (
        "XTuner",
        "conversation",
        {"conversation": [{"system": S, "input": A, "output": B}]},
        "ShareGPT",
    ),
    (
        "mlx-lm",
        "completions with tools",
        {"prompt": A, "completion": B, "tools": TOOLS},
        "prompt/completion",
    ),
    (
        "mlx-lm-lora",
        "preference of messages",
        {"prompt": A, "chosen": {"messages": [ANSWER]}, "rejected": {"messages": [BAD]}},
        PREFERRED,
    ),
    (
        "Dolly",
        "instruction and context",
        {"instruction": A, "context": "A door.", "response": B, "category": "open_qa"},
        "Alpaca",
    ),
    ("GSM8K", "question and answer", {"question": A, "answer": B}, "question/answer"),
    (
        "OpenOrca",
        "system prompt",
        {"system_prompt": S, "question": A, "response": B},
        "question/response",
    ),
    (
        "MetaMath",
        "query and response",
        {"query": A, "response": B, "type": "math"},
        "query/response",
    ),
    (
        "HH-RLHF",
        "transcripts",
        {
            "chosen": f"\n\nHuman: {A}\n\nAssistant: {B}",
            "rejected": f"\n\nHuman: {A}\n\nAssistant: {C}",
        },
        PREFERRED,
    ),
    (
        "StackExchange",
        "paired answers",
        {"question": A, "response_j": B, "response_k": C},
        PREFERRED,
    ),
    (
        "axolotl",
        "tokenized",
        {"input_ids": [1], "attention_mask": [1], "labels": [1]},
        REFUSED + "the record is tokenized already",
    ),
    (
        "UltraFeedback",
        "binarized",
        {"prompt": A, "chosen": [USER, ANSWER], "rejected": [USER, BAD], "score_chosen": 8.0},
        PREFERRED,
    ),
    (
        "Stanford Alpaca",
        "with its own text",
        {
            "instruction": A,
            "input": "",
            "output": B,
            "text": f"### Instruction:\n{A}\n### Response:\n{B}",
        },
        "Alpaca",
    ),
    (
        "ToolACE",
        "calls as text",
        {
            "system": S,
            "conversations": [
                {"from": "user", "value": A},
                {"from": "assistant", "value": "[open(key=1)]"},
                {"from": "tool", "value": "open"},
                {"from": "assistant", "value": B},
            ],
        },
        "ShareGPT",
    ),
    (
        "SlimOrca",
        "weights",
        {"conversations": [{**HUMAN, "weight": 0}, {**GPT, "weight": 1}]},
        "ShareGPT",
    ),
    (
        "OpenHermes",
        "many empty columns",
        {"conversations": [HUMAN, GPT], "system_prompt": None, "topic": None},
        "ShareGPT",
    ),
    ("UltraChat", "a list of texts", {"id": "1", "data": [A, B]}, "list of texts"),
    (
        "UltraChat 200k",
        "prompt beside messages",
        {"prompt": A, "messages": [USER, ANSWER]},
        "messages",
    ),
    ("LIMA", "conversations of texts", {"conversations": [A, B], "source": "x"}, "ShareGPT"),
    ("Capybara", "input and output", {"conversation": [{"input": A, "output": B}]}, "ShareGPT"),
    (
        "No Robots",
        "messages",
        {"prompt": A, "messages": [USER, ANSWER], "category": "x"},
        "messages",
    ),
    (
        "NuminaMath",
        "problem beside messages",
        {"problem": A, "messages": [USER, ANSWER]},
        "messages",
    ),
    (
        "OpenThoughts",
        "system",
        {"system": S, "conversations": [{"from": "user", "value": A}, GPT]},
        "ShareGPT",
    ),
    (
        "LMSYS",
        "conversation",
        {"conversation": [USER, ANSWER], "model": "m", "turn": 1},
        "ShareGPT",
    ),
    (
        "xLAM",
        "calls as answers",
        {"query": A, "answers": json.dumps([CALL]), "tools": json.dumps([TOOL])},
        "query/answers",
    ),
    (
        "Aya",
        "inputs and targets",
        {"inputs": A, "targets": B, "language": "English"},
        "inputs/targets",
    ),
    (
        "Magicoder",
        "problem and solution",
        {"lang": "c", "problem": A, "solution": B},
        "problem/solution",
    ),
    ("CodeFeedback", "query and answer", {"query": A, "answer": B, "lang": "c"}, "query/answer"),
    ("CNN/DailyMail", "article", {"article": A, "highlights": B, "id": "1"}, "article/highlights"),
    ("SAMSum", "dialogue", {"dialogue": A, "summary": B}, "dialogue/summary"),
    ("the Stack", "content", {"content": B, "lang": "c", "path": "a.c"}, "text"),
    (
        "OpenAssistant",
        "message trees",
        {"message_id": "1", "parent_id": None, "text": A, "role": "prompter"},
        REFUSED + "the record is a single message",
    ),
    (
        "Glaive function calling",
        "chat transcript",
        {"system": S, "chat": f"USER: {A}\nASSISTANT: {B}"},
        REFUSED + "the record has system, chat",
    ),
    (
        "SQuAD",
        "answers in a context",
        {"context": "A door.", "question": A, "answers": {"text": [B], "answer_start": [0]}},
        REFUSED + "the record has context, question, answers",
    ),
)
"""Tool, shape, a record, and the format it is read as, or why it is refused."""


@pytest.mark.parametrize(
    ("record", "outcome"),
    [pytest.param(*shape[2:], id=f"{shape[0]}: {shape[1]}") for shape in SHAPES],
)
def test_a_shape_opens_or_is_refused(record: dict[str, Any], outcome: str) -> None:
    line = read_line(json.dumps(record).encode(), "train.jsonl", 1)
    if outcome.startswith(REFUSED):
        assert outcome.removeprefix(REFUSED) in str(line.faults[0])
        return
    assert (line.faults, line.warnings, line.excluded) == ((), (), None)
    assert line.format == outcome
    shown = json.dumps(line.trained, ensure_ascii=False)
    assert B in shown or "open" in shown
    assert C not in shown or "weight" in shown or "rejected" in shown


def test_the_page_lists_them_all() -> None:
    rows = [f"| {tool} | {shape} | {outcome} |" for tool, shape, _, outcome in SHAPES]
    table = "\n".join(["| tool | shape | read as |", "|---|---|---|", *rows])
    assert table in PAGE.read_text(encoding="utf-8"), f"docs/data.md needs this table:\n{table}"
