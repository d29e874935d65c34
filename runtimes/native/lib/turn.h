// The one host loop: photo and words in, answer out. As in the Python runtime; and sampling, and a way to stop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image.h"
#include "sampler.h"
#include "session.h"

namespace vlmp {

// Milliseconds since it was made, or since the last lap.
class Stopwatch {
 public:
  Stopwatch();
  double lap_ms();

 private:
  std::int64_t last_ns_;
};

// Where the time of one turn went, in milliseconds. Phases that did not happen are 0.
struct Timings {
  double preprocess_ms = 0, vision_ms = 0, prefill_ms = 0, decode_ms = 0;
  int decoded_tokens = 0;

  double first_token_ms() const { return preprocess_ms + vision_ms + prefill_ms; }
};

struct Phase {
  const char* name;
  double ms;
  int tokens = 0;  // decoded
};

// How a turn is to be answered, and who is told what while it goes on. `stop` is asked before each step: when it says
// so, the turn is over.
struct Turn {
  std::optional<int> max_new_tokens;  // the bundle's when there is none
  bool ignore_end = false;
  bool control_tokens = false;  // those in the prompt are what they are to the model, not text
  std::function<void(const Phase&)> on_phase = [](const Phase&) {};  // when it is over
  std::function<void(std::string_view)> on_text = [](std::string_view) {};
  std::function<void(const std::vector<float>&)> on_logits = [](const std::vector<float>&) {};
  std::function<bool()> stop = [] { return false; };
};

// `stopped`: before it had ended. Without tokens it was stopped before the first one: a first turn then leaves no
// picture, a later one the conversation as it was.
struct Answer {
  std::vector<std::int32_t> tokens, kept, order;
  std::vector<std::vector<std::int32_t>> earlier;  // kept by each stage before the last
  Place photo;                                     // where it lies in the picture that the model has seen
  bool stopped = false;
  Timings timings;
};

// Vision, prefill, decode. picture: called once, when the prompt has been found to fit. Throws Error when that does, or
// the prompt does not fit.
Answer first_turn(Session& session, const std::function<Picture()>& picture, const std::string& prompt,
                  Sampler& sampler, const Turn& turn);

// Extend, decode. The last answer's final token is not in the caches yet and goes first. Throws Error when there was no
// first turn, or the prompt does not fit; the conversation is then as it was.
Answer next_turn(Session& session, const std::string& prompt, Sampler& sampler, const Turn& turn);

// Ids of a turn, leaving `reserved` places of the bucket free. typed_control: as `Turn::control_tokens`. Throws Error
// when the prompt is empty or too long, and as `encode_turn`.
std::vector<std::int32_t> prompt_ids(const Session& session, const std::string& form, const std::string& prompt,
                                     bool typed_control, int reserved = 0);

}  // namespace vlmp
