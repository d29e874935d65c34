#include "generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "error.h"
#include "prompt.h"
#include "unicode.h"

namespace vlmp {
namespace {

const std::string kReplacement = "\xEF\xBF\xBD";

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool is_blank(const std::string& text) {
  const std::u32string points = to_points(text);
  return std::all_of(points.begin(), points.end(),
                     [](char32_t point) { return is_space(point) || (point >= 0x1C && point <= 0x1F); });
}

int limit_of(const Session& session, const Turn& turn) {
  const int most = session.manifest().prompt.max_new_tokens;
  if (turn.max_new_tokens && *turn.max_new_tokens > most) {
    fail("--max-new-tokens ", *turn.max_new_tokens, ": this bundle allows 1 to ", most);
  }
  return turn.max_new_tokens.value_or(most);
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Tokens up to an end token, which is included, or the limit. Text is handed out as it comes, but no character of
// which bytes are still to come, unless the answer has ended.
std::vector<std::int32_t> decode_turn(Session& session, std::vector<float> logits, Sampler& sampler, const Turn& turn) {
  const std::vector<std::int32_t>& ends = session.manifest().prompt.end_ids;
  const auto limit = static_cast<std::size_t>(limit_of(session, turn));
  std::vector<std::int32_t> tokens;
  std::size_t shown = 0;
  while (true) {
    session.tell([&] { turn.on_logits(logits); });
    const std::int32_t token = sampler.sample(logits);
    const bool is_end = std::find(ends.begin(), ends.end(), token) != ends.end();
    tokens.push_back(token);
    session.progress.unfed = is_end ? std::nullopt : std::optional(token);
    const bool ended = (is_end && !turn.ignore_end) || tokens.size() == limit || session.room() == 0;
    const std::string text = session.tokenizer().decode(tokens);
    if (text.size() > shown && (ended || !ends_with(text, kReplacement))) {
      session.tell([&] { turn.on_text(std::string_view(text).substr(shown)); });
      shown = text.size();
    }
    if (ended) return tokens;
    logits = session.decode(token);
  }
}

}  // namespace

Stopwatch::Stopwatch() : last_ns_(now_ns()) {}

double Stopwatch::lap_ms() {
  const std::int64_t now = now_ns(), before = std::exchange(last_ns_, now);
  return static_cast<double>(now - before) / 1e6;
}

std::vector<std::int32_t> prompt_ids(const Session& session, const std::string& form, const std::string& prompt,
                                     bool typed_control, int reserved) {
  const PromptSpec& spec = session.manifest().prompt;
  const Tokenizer& tokenizer = session.tokenizer();
  const std::vector<std::string>& control =
      spec.control_tokens.empty() ? tokenizer.special_tokens() : spec.control_tokens;
  const auto around = encode_turn(tokenizer, form, "").size();
  const std::int64_t room = std::int64_t{spec.text_len} - static_cast<std::int64_t>(around) - reserved;
  const std::vector<std::int32_t> ids =
      encode_turn(tokenizer, form, prompt, typed_control ? std::vector<std::string>{} : control);
  const std::int64_t own = static_cast<std::int64_t>(ids.size()) - static_cast<std::int64_t>(around);
  if (own > room) {
    fail("the prompt has ", own, " tokens, the bundle takes up to ", room, ": export with a larger --text-len");
  }
  if (is_blank(prompt)) fail("the prompt is empty: ask something about the image");
  return ids;
}

Answer first_turn(Session& session, const std::filesystem::path& image, const std::string& prompt, Sampler& sampler,
                  const Turn& turn) {
  const Session::Hold hold(session);
  const auto on_phase = [&](const Phase& phase) { session.tell([&] { turn.on_phase(phase); }); };
  const std::vector<std::int32_t> ids = prompt_ids(session, session.manifest().prompt.first, prompt, turn.control_tokens);
  limit_of(session, turn);  // before anything is run
  Answer answer;
  Stopwatch watch;
  const std::vector<float> pixels = to_pixels(open_picture(image), session.manifest().image);
  on_phase({"preprocess", watch.lap_ms()});
  const std::vector<float> visual = session.vision(pixels);
  on_phase({"vision", watch.lap_ms()});
  Prefilled first = session.prefill(ids, visual);
  on_phase({"prefill", watch.lap_ms()});
  answer.tokens = decode_turn(session, std::move(first.logits), sampler, turn);
  on_phase({"decode", watch.lap_ms(), static_cast<int>(answer.tokens.size()) - 1});
  answer.kept = std::move(first.kept);
  answer.order = std::move(first.order);
  answer.earlier = std::move(first.earlier);
  return answer;
}

Answer next_turn(Session& session, const std::string& prompt, Sampler& sampler, const Turn& turn) {
  const Session::Hold hold(session);
  const auto on_phase = [&](const Phase& phase) { session.tell([&] { turn.on_phase(phase); }); };
  const PromptSpec& spec = session.manifest().prompt;
  std::vector<std::int32_t> ids = prompt_ids(session, spec.following, prompt, turn.control_tokens, 1);
  ids.insert(ids.begin(), spec.end_text_id);
  limit_of(session, turn);
  // Before anything is fed: a refused turn leaves the conversation as it was, and so does one that fails below.
  const Progress before = session.progress;
  session.check_room((before.unfed ? 1 : 0) + ids.size());
  Answer answer;
  Stopwatch watch;
  std::vector<float> logits;
  try {
    if (before.unfed) session.decode(*before.unfed);
    logits = session.extend(ids);
  } catch (...) {
    session.progress = before;
    throw;
  }
  on_phase({"prefill", watch.lap_ms()});
  answer.tokens = decode_turn(session, std::move(logits), sampler, turn);
  on_phase({"decode", watch.lap_ms(), static_cast<int>(answer.tokens.size()) - 1});
  return answer;
}

Timings time_turn(Session& session, const std::filesystem::path& image, const std::vector<std::int32_t>& ids,
                  int decode_tokens) {
  const Session::Hold hold(session);
  Timings timings;
  Stopwatch watch;
  const std::vector<float> pixels = to_pixels(open_picture(image), session.manifest().image);
  timings.preprocess_ms = watch.lap_ms();
  const std::vector<float> visual = session.vision(pixels);
  timings.vision_ms = watch.lap_ms();
  std::vector<float> logits = session.prefill(ids, visual).logits;
  timings.prefill_ms = watch.lap_ms();
  for (int token = 0; token < decode_tokens; ++token) logits = session.decode(most_likely(logits));
  timings.decode_ms = watch.lap_ms();
  timings.decoded_tokens = decode_tokens;
  return timings;
}

}  // namespace vlmp
