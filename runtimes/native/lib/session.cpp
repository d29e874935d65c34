#include "session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "error.h"
#include "files.h"

namespace vlmp {
namespace {

constexpr std::uintmax_t kMostTokenizerBytes = 1 << 28;

Tokenizer load_tokenizer(const std::filesystem::path& bundle, const Manifest& manifest) {
  const std::filesystem::path path = inside(bundle, manifest.prompt.tokenizer_file);
  return Tokenizer::parse(read_file(path, kMostTokenizerBytes), path.string());
}

}  // namespace

Session::Session(const std::filesystem::path& bundle, const Manifest& manifest, std::optional<int> threads, bool traced)
    : manifest_(manifest),
      tokenizer_(load_tokenizer(bundle, manifest_)),
      program_(bundle, manifest_, threads, traced) {
  for (std::size_t layer = 0; layer < manifest_.kv.size(); ++layer) {
    const KvLayerSpec& kv = manifest_.kv[layer];
    if (!kv.has_keys()) {
      const std::size_t elements = std::size_t(kv.state_rows) * std::size_t(kv.state_width);
      states_.push_back({state_cache_of(layer), state_of(layer), elements});
      continue;
    }
    const std::size_t elements = std::size_t(kv.heads) * std::size_t(kv.slots) * std::size_t(kv.head_dim);
    for (const char* kind : {"key", "value"}) {
      const std::string number = std::to_string(layer);
      caches_.push_back({kind + ("_cache_" + number), kind + ("_" + number), layer, std::vector<float>(elements)});
    }
  }
  for (std::size_t stage = 0; stage < manifest_.stages.size(); ++stage) {
    const StageSpec& spec = manifest_.stages[stage];
    if (!spec.told()) continue;
    std::vector<float> values(static_cast<std::size_t>(spec.num_kept));
    biases_.push_back({bias_cache_of(stage), bias_of(stage), std::move(values), spec.in_tower});
  }
}

Session::Hold::Hold(Session& session) {
  session.check_caller();
  lock_ = std::unique_lock(session.mutex_);
}

void Session::check_caller() const {
  if (telling_ == std::this_thread::get_id()) {
    refuse(Fault::busy, "a callback called the session that is answering: call it when the answer is there");
  }
}

void Session::reset() {
  const Hold hold(*this);
  progress = {};
}

void Session::tell(const std::function<void()>& callback) {
  struct Telling {  // over, whatever the callback throws
    std::atomic<std::thread::id>& by;
    explicit Telling(std::atomic<std::thread::id>& telling) : by(telling) { by = std::this_thread::get_id(); }
    ~Telling() { by = std::thread::id(); }
  } telling(telling_);
  callback();
}

Seen Session::vision(const std::vector<float>& pixels) {
  const Hold hold(*this);
  const TensorSpec& visual = manifest_.method(MethodName::vision).output("visual");
  const Outputs outputs = program_.run(MethodName::vision, {{"image", pixels.data()}});
  const float* values = outputs.floats("visual");
  Seen seen{{values, values + visual.elements()}, {}, {}};
  if (!manifest_.has_tower()) return seen;
  const StageSpec& tower = manifest_.stages.front();
  const std::int32_t* places = outputs.integers("places");
  seen.places.assign(places, places + tower.num_kept);
  if (tower.told()) {
    const float* bias = outputs.floats(bias_of(0));
    seen.bias.assign(bias, bias + tower.num_kept);
  }
  return seen;
}

Prefilled Session::prefill(const std::vector<std::int32_t>& ids, const Seen& seen) {
  const Hold hold(*this);
  const std::vector<std::int32_t> padded = bucket(ids);
  progress = {};
  const auto length = static_cast<std::int32_t>(ids.size());
  Inputs inputs = {{"ids", padded.data()}, {"text_len", &length}, {"visual", seen.visual.data()}};
  if (manifest_.drops()) inputs["places"] = seen.places.data();
  if (!seen.bias.empty()) inputs[bias_cache_of(0)] = seen.bias.data();
  const Outputs outputs = program_.run(MethodName::prefill, inputs);
  std::vector<float> logits = logits_of(outputs);  // before anything is kept: if it throws, the call has failed
  for (Cache& cache : caches_) {
    store(manifest_.method(MethodName::prefill), outputs, cache, 0, manifest_.kv[cache.layer].base + length);
  }
  for (Bias& bias : biases_) {
    const float* values = bias.in_tower ? seen.bias.data() : outputs.floats(bias.output);
    std::copy_n(values, bias.values.size(), bias.values.data());
  }
  progress = {length, {}, states_of(outputs)};
  const auto picked = [&](const std::string& name, int count) {
    const std::int32_t* values = outputs.integers(name);
    return std::vector<std::int32_t>(values, values + count);
  };
  const int last = manifest_.num_kept();
  Prefilled filled{std::move(logits), picked("kept", last), picked("order", last), {}};
  if (manifest_.has_tower()) filled.earlier.push_back(seen.places);
  for (std::size_t stage = manifest_.has_tower(); stage + 1 < manifest_.stages.size(); ++stage) {
    filled.earlier.push_back(picked(kept_of(stage), manifest_.stages[stage].num_kept));
  }
  return filled;
}

std::vector<float> Session::decode(std::int32_t token) {
  const Hold hold(*this);
  check_room(1);
  return step(MethodName::decode, {{"ids", &token}}, 1);
}

std::vector<float> Session::extend(const std::vector<std::int32_t>& ids) {
  const Hold hold(*this);
  const std::vector<std::int32_t> padded = bucket(ids);
  const auto length = static_cast<std::int32_t>(ids.size());
  check_room(ids.size());
  return step(MethodName::extend, {{"ids", padded.data()}, {"text_len", &length}}, length);
}

void Session::check_room(std::size_t tokens) const {
  if (progress.past == 0) refuse(Fault::conversation, "no image yet: prefill comes before decode and extend");
  if (tokens > static_cast<std::size_t>(room())) {
    refuse(Fault::conversation, "the conversation is full: ", tokens, " more tokens, room for ", room(),
           "; start a new one");
  }
}

std::vector<std::int32_t> Session::bucket(const std::vector<std::int32_t>& ids) const {
  const auto size = static_cast<std::size_t>(manifest_.prompt.text_len);
  if (ids.empty() || ids.size() > size) {
    refuse(Fault::prompt, ids.size(), " text tokens: this bundle takes 1 to ", size, " at once");
  }
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= manifest_.vocab_size) refuse(Fault::prompt, "token ", id, " is not in the model's vocabulary");
  }
  std::vector<std::int32_t> padded = ids;
  padded.resize(size, manifest_.prompt.pad_id);
  return padded;
}

std::vector<float> Session::step(MethodName method, Inputs inputs, int tokens) {
  const auto past = static_cast<std::int32_t>(progress.past);
  inputs["past"] = &past;
  for (const Cache& cache : caches_) inputs[cache.input] = cache.rows.data();
  for (const Bias& bias : biases_) inputs[bias.input] = bias.values.data();
  const std::shared_ptr<const States> states = progress.states;
  for (std::size_t i = 0; i < states_.size(); ++i) inputs[states_[i].input] = states->at(i).data();
  const Outputs outputs = program_.run(method, inputs);
  std::vector<float> logits = logits_of(outputs);
  for (Cache& cache : caches_) {
    store(manifest_.method(method), outputs, cache, manifest_.kv[cache.layer].base + past, tokens);
  }
  progress = {past + tokens, {}, states_of(outputs)};
  return logits;
}

void Session::store(const MethodSpec& method, const Outputs& outputs, Cache& cache, int slot, int rows) {
  const KvLayerSpec& kv = manifest_.kv[cache.layer];
  const auto width = static_cast<std::size_t>(kv.head_dim), slots = static_cast<std::size_t>(kv.slots);
  const auto returned = static_cast<std::size_t>(method.output(cache.output).shape[1]);
  const float* from = outputs.floats(cache.output);
  for (std::size_t head = 0; head < static_cast<std::size_t>(kv.heads); ++head) {
    std::copy_n(from + head * returned * width, static_cast<std::size_t>(rows) * width,
                cache.rows.data() + (head * slots + static_cast<std::size_t>(slot)) * width);
  }
}

std::shared_ptr<const States> Session::states_of(const Outputs& outputs) const {
  States states;
  for (const State& state : states_) {
    const float* values = outputs.floats(state.output);
    states.emplace_back(values, values + state.elements);
  }
  return std::make_shared<const States>(std::move(states));
}

std::vector<float> Session::logits_of(const Outputs& outputs) const {
  const float* values = outputs.floats("logits");
  const float* end = values + manifest_.vocab_size;
  if (!std::all_of(values, end, [](float value) { return std::isfinite(value); })) {
    refuse(Fault::runtime, "the model returned logits that are not finite: its weights or its graph are broken");
  }
  return {values, end};
}

}  // namespace vlmp
