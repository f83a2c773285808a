"""`kitaru show` of a model call: its transcript."""

from __future__ import annotations

import kitaru as library
from kitaru import checkpoint, flow, log

QUESTION = [{"role": "user", "content": "Which licence?\x1b[2J"}]
ANSWER = {
    "choices": [{"message": {"role": "assistant", "content": "BSD"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}


@checkpoint(type="llm_call")
def model(messages):
    log(cost=0.002)
    return ANSWER


@flow
def audit():
    return model(QUESTION)


def test_a_model_call_is_shown_as_a_transcript(kitaru, here):
    library.connect(None)
    audit.options(exec_id="t-1").run()
    out = kitaru("show", "t-1:model").out
    assert (
        "\ntranscript\n[user]\nWhich licence?\\x1b[2J\n\n[assistant]\nBSD\n\n9 tokens in, 1 out, $0.002\n\nlogged\n"
        in out
    )
    assert "\ntranscript\n" not in kitaru("show", "t-1").out
