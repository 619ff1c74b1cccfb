"""Values that mean nothing here: clients send them with every request, and nothing would change without.

In: the fields of a request that its address does not know. Out: those among them that ask for something.
Most are the defaults of other servers (vLLM, SGLang, llama.cpp, TGI) and of clients that write every
setting out; the rest are labels and hints that only a hosted service has a use for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Neutral:
    """The values of a field that mean nothing: as a test, and as a client is told."""

    told: str
    holds: Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(*wanted: float) -> Neutral:
    told = " or ".join(map(str, wanted))
    return Neutral(told, lambda value: _is_number(value) and value in wanted)


def _only(*wanted: Any) -> Neutral:
    """These values themselves: JSON's true is no 1."""
    told = " or ".join(
        {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value) for value in wanted
    )
    return Neutral(told, lambda value: any(type(value) is type(one) and value == one for one in wanted))


EMPTY = Neutral("an empty one", lambda value: isinstance(value, list | dict | str) and not value)
"""An empty list, object or text."""
_TEXT = Neutral("a text", lambda value: isinstance(value, str))
_FLAG = Neutral("true or false", lambda value: isinstance(value, bool))
_OBJECT = Neutral("an object", lambda value: isinstance(value, dict))
_COUNT = Neutral("a number", _is_number)
_LABEL = Neutral("a text or a number", lambda value: isinstance(value, str) or _is_number(value))
_ON, _OFF = _only(True), _only(False)
CACHE_CONTROL = Neutral("an object", lambda value: isinstance(value, dict | str))

_BIAS = Neutral(
    "an object of zeros",
    lambda value: isinstance(value, dict) and all(_is_number(bias) and bias == 0 for bias in value.values()),
)
_PREDICTION = Neutral(
    "one without content", lambda value: isinstance(value, dict) and value.get("content") in ("", [])
)
_TEXT_FORMAT = {"type": "text"}
_TEXT_OPTIONS = Neutral(
    "{'format': {'type': 'text'}}",
    lambda value: (
        isinstance(value, dict)
        and not set(value) - {"format", "verbosity"}
        and value.get("format", _TEXT_FORMAT) == _TEXT_FORMAT
    ),
)


def _named(names: str, neutral: Neutral) -> dict[str, Neutral]:
    return dict.fromkeys(names.split(), neutral)


NEUTRAL: Mapping[str, Neutral] = {
    # Tools, where there are none.
    **_named("tools functions tool_ids plugins mcp_servers", EMPTY),
    **_named("tool_choice function_call", _only("none", "auto")),
    "parallel_tool_calls": _FLAG,
    "max_tool_calls": _COUNT,
    # Labels and hints of hosted services, and what a client notes for itself.
    **_named("metadata prompt_cache_options", _OBJECT),
    **_named("service_tier prompt_cache_key prompt_cache_retention safety_identifier", _TEXT),
    **_named("request_id rid chat_id session_id", _TEXT),
    **_named("store cache_prompt", _FLAG),
    "cache_control": CACHE_CONTROL,
    "keep_alive": _LABEL,
    "verbosity": _only("low", "medium", "high"),
    "prediction": _PREDICTION,
    # Shapes of the output: this server writes text.
    "modalities": _only(["text"]),
    "response_format": _only(_TEXT_FORMAT),
    "text": _TEXT_OPTIONS,
    "truncation": _only("disabled"),
    "include": EMPTY,
    "context_management": EMPTY,
    # Ways of drawing, turned off.
    "logit_bias": _BIAS,
    **_named("min_p top_a epsilon_cutoff eta_cutoff smoothing_factor skew dynatemp_range", _number(0)),
    **_named("xtc_probability dry_multiplier mirostat mirostat_mode no_repeat_ngram_size", _number(0)),
    **_named("presence_penalty frequency_penalty penalty_alpha min_tokens min_length min_keep", _number(0)),
    **_named("repetition_penalty repeat_penalty encoder_repetition_penalty length_penalty", _number(1)),
    **_named("typical_p typical tfs tfs_z", _number(1)),
    **_named("num_beams best_of", _number(1)),
    **_named("top_n_sigma", _number(-1, 0)),
    **_named("id_slot", _number(-1)),
    **_named("top_logprobs n_probs top_n_tokens n_keep priority", _number(0)),
    "logprobs": _OFF,
    "do_sample": _ON,
    "background": _OFF,
    **_named("use_beam_search early_stopping ignore_eos ban_eos_token penalize_nl safe_prompt", _OFF),
    **_named("stop_token_ids bad_words logits_processors samplers", EMPTY),
    # What is returned beside the text.
    **_named("echo include_stop_str_in_output no_stop_trim return_full_text watermark details", _OFF),
    **_named("return_tokens_as_token_ids return_token_ids return_tokens decoder_input_details", _OFF),
    **_named("return_hidden_states return_progress timings_per_token post_sampling_probs", _OFF),
    **_named("separate_reasoning stream_reasoning include_reasoning detokenize", _ON),
    # Tokens of the template are text here, and tokenizers put no space between them.
    **_named("skip_special_tokens spaces_between_special_tokens", _FLAG),
    **_named("suffix prefix grammar regex ebnf json_schema structured_outputs", EMPTY),
    **_named("guided_json guided_regex guided_choice guided_grammar guided_decoding_backend", EMPTY),
    # Templates and thinking, as they are anyway.
    **_named("chat_template_kwargs documents", EMPTY),
    "enable_thinking": _ON,
    "thinking": _only({"type": "enabled"}),
    "reasoning": _only({}, {"enabled": True}, {"exclude": False}, {"enabled": True, "exclude": False}),
    "add_generation_prompt": _ON,
    "continue_final_message": _OFF,
    "usage": _only({}, {"include": False}),
    # Holders of further settings, with none in them.
    **_named("extra_body extra_headers extra_query options params custom_params vllm_xargs", EMPTY),
    **_named("mm_processor_kwargs kv_transfer_params provider transforms models features files", EMPTY),
    **_named("variables background_tasks tags", EMPTY),
}
"""Name of a field -> its values that mean nothing at an address that does not know the field."""

IN_STREAM_OPTIONS: Mapping[str, Neutral] = _named("continuous_usage_stats include_obfuscation", _OFF)
IN_PARTS: Mapping[str, Neutral] = {"cache_control": CACHE_CONTROL, "annotations": EMPTY}


def asks_for_something(name: str, value: Any, neutral: Mapping[str, Neutral]) -> bool:
    """Return whether a field that is not known means anything; `null` is a field that is absent."""
    if value is None:
        return False
    return name not in neutral or not neutral[name].holds(value)
