#include "turn.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "error.h"
#include "prompt.h"
#include "text_stream.h"
#include "unicode.h"

namespace vlmp {
namespace {

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
  const int most = session.manifest().prompt.max_new_tokens, wanted = turn.max_new_tokens.value_or(most);
  if (wanted < 1 || wanted > most) {
    refuse(Fault::prompt, "max_new_tokens ", wanted, ": this bundle allows 1 to ", most);
  }
  return wanted;
}

// Adds tokens up to an end token, which is included, the limit, or a stop, which drops what a call then returns. Text
// is handed out as it comes, but no character of which bytes are still to come, unless the answer is over.
void decode_turn(Session& session, std::vector<float> logits, Sampler& sampler, const Turn& turn, Answer& answer) {
  const std::vector<std::int32_t>& ends = session.manifest().prompt.end_ids;
  const auto limit = static_cast<std::size_t>(limit_of(session, turn));
  TextStream text(session.tokenizer());
  while (true) {
    session.tell([&] { turn.on_logits(logits); });
    const std::int32_t token = sampler.sample(logits);
    const bool is_end = std::find(ends.begin(), ends.end(), token) != ends.end();
    answer.tokens.push_back(token);
    session.progress.unfed = is_end ? std::nullopt : std::optional(token);
    const bool ended = (is_end && !turn.ignore_end) || answer.tokens.size() == limit || session.room() == 0;
    const auto show = [&](bool is_all) {
      const std::string more = text.next(answer.tokens, is_all);
      if (!more.empty()) session.tell([&] { turn.on_text(more); });
    };
    show(ended);
    if (ended) return;
    const Progress before = session.progress;
    answer.stopped = turn.stop();  // who was just told may have had enough
    if (!answer.stopped) {
      logits = session.decode(token);
      answer.stopped = turn.stop();
    }
    if (answer.stopped) {
      session.progress = before;
      show(true);
      return;
    }
  }
}

// The rest of a turn when its prompt has been fed.
void finish(Session& session, std::vector<float> logits, Sampler& sampler, const Turn& turn, Stopwatch& watch,
            Answer& answer) {
  Timings& timings = answer.timings;
  timings.prefill_ms = watch.lap_ms();
  session.tell([&] { turn.on_phase({"prefill", timings.prefill_ms}); });
  decode_turn(session, std::move(logits), sampler, turn, answer);
  timings.decode_ms = watch.lap_ms();
  timings.decoded_tokens = static_cast<int>(answer.tokens.size()) - 1;
  session.tell([&] { turn.on_phase({"decode", timings.decode_ms, timings.decoded_tokens}); });
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
    refuse(Fault::prompt, "the prompt has ", own, " tokens, the bundle takes up to ", room,
           ": export with a larger --text-len");
  }
  if (is_blank(prompt)) refuse(Fault::prompt, "the prompt is empty: ask something about the image");
  return ids;
}

Answer first_turn(Session& session, const std::function<Picture()>& picture, const std::string& prompt,
                  Sampler& sampler, const Turn& turn) {
  const Session::Hold hold(session);
  const ImageSpec& spec = session.manifest().image;
  const std::vector<std::int32_t> ids =
      prompt_ids(session, session.manifest().prompt.first, prompt, turn.control_tokens);
  limit_of(session, turn);  // before anything is run
  Answer answer;
  Timings& timings = answer.timings;
  Stopwatch watch;
  const Picture photo = blame(Fault::image, picture);
  answer.photo = placement(photo, spec);
  const std::vector<float> pixels = to_pixels(photo, spec);
  timings.preprocess_ms = watch.lap_ms();
  session.tell([&] { turn.on_phase({"preprocess", timings.preprocess_ms}); });
  // As it cannot always be kept, the conversation before is not kept by any stop.
  const auto is_stopped = [&] {
    answer.stopped = turn.stop();
    if (answer.stopped) session.progress = {};
    return answer.stopped;
  };
  if (is_stopped()) return answer;
  const Seen seen = session.vision(pixels);
  timings.vision_ms = watch.lap_ms();
  session.tell([&] { turn.on_phase({"vision", timings.vision_ms}); });
  if (is_stopped()) return answer;
  Prefilled first = session.prefill(ids, seen);
  if (is_stopped()) return answer;
  answer.kept = std::move(first.kept);
  answer.order = std::move(first.order);
  answer.earlier = std::move(first.earlier);
  finish(session, std::move(first.logits), sampler, turn, watch, answer);
  return answer;
}

Answer next_turn(Session& session, const std::string& prompt, Sampler& sampler, const Turn& turn) {
  const Session::Hold hold(session);
  if (session.progress.past == 0) refuse(Fault::conversation, "no image yet: ask about one first");
  const PromptSpec& spec = session.manifest().prompt;
  std::vector<std::int32_t> ids = prompt_ids(session, spec.following, prompt, turn.control_tokens, 1);
  ids.insert(ids.begin(), spec.end_text_id);
  limit_of(session, turn);
  // Before anything is fed: a refused turn leaves the conversation as it was, and so does one that fails or is stopped
  // below.
  const Progress before = session.progress;
  session.check_room((before.unfed ? 1 : 0) + ids.size());
  Answer answer;
  Stopwatch watch;
  if ((answer.stopped = turn.stop())) return answer;
  std::vector<float> logits;
  try {
    if (before.unfed) session.decode(*before.unfed);
    answer.stopped = turn.stop();
    if (!answer.stopped) {
      logits = session.extend(ids);
      answer.stopped = turn.stop();
    }
  } catch (...) {
    session.progress = before;
    throw;
  }
  if (answer.stopped) {
    session.progress = before;
    return answer;
  }
  finish(session, std::move(logits), sampler, turn, watch, answer);
  return answer;
}

}  // namespace vlmp
