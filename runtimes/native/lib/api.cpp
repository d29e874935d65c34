// The C API, vlmp.h: what is open, who waits for whom, and how errors become numbers. Turns are made in turn.cpp.
#include "vlmp.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "error.h"
#include "turn.h"
#include "unicode.h"

namespace vlmp {
namespace {

// --- Errors ----------------------------------------------------------------------------------------------------------

thread_local std::string last_message;
thread_local const char* last_line = "";

// Memory may be short, too.
void keep_message(const char* text) noexcept {
  try {
    last_message = to_valid_utf8(one_line(text));
    last_line = last_message.c_str();
  } catch (...) {
    last_line = "memory ran out";
  }
}

vlmp_status status_of(Fault fault) {
  switch (fault) {
    case Fault::bundle: return VLMP_ERROR_BUNDLE;
    case Fault::image: return VLMP_ERROR_IMAGE;
    case Fault::prompt: return VLMP_ERROR_PROMPT;
    case Fault::conversation: return VLMP_ERROR_CONVERSATION;
    case Fault::runtime: return VLMP_ERROR_RUNTIME;
    case Fault::memory: return VLMP_ERROR_MEMORY;
    case Fault::argument: return VLMP_ERROR_ARGUMENT;
    case Fault::handle: return VLMP_ERROR_HANDLE;
    case Fault::busy: return VLMP_ERROR_BUSY;
  }
  return VLMP_ERROR_INTERNAL;
}

// No exception gets past here.
template <typename Work>
vlmp_status guard(const Work& work) noexcept {
  try {
    work();
    return VLMP_OK;
  } catch (const Error& error) {
    keep_message(error.what());
    return status_of(error.fault);
  } catch (const std::bad_alloc&) {
    last_line = "memory ran out";
    return VLMP_ERROR_MEMORY;
  } catch (const std::exception& error) {
    keep_message(error.what());
  } catch (...) {
    last_line = "a callback threw what is no std::exception";
  }
  return VLMP_ERROR_INTERNAL;
}

// --- Arguments -------------------------------------------------------------------------------------------------------

template <typename Value>
Value& given(Value* pointer, const char* name) {
  if (pointer == nullptr) refuse(Fault::argument, name, " is NULL");
  return *pointer;
}

// A pointer for a result, which is empty until there is one.
template <typename Value>
void clear(Value* result) {
  if (result != nullptr) *result = {};
}

std::string path_of(const char* path, const char* name) {
  if (given(path, name) == '\0') refuse(Fault::argument, name, " is empty: name one");
  return path;
}

std::string text_of(const char* text, const char* name) {
  given(text, name);
  if (!is_utf8(text)) refuse(Fault::argument, name, " is not valid UTF-8");
  return text;
}

// Structs grow at their end: another size is of another version, or nobody has filled the struct.
template <typename Struct>
Struct checked(const Struct* options, const Struct& defaults, const char* name, const char* maker) {
  if (options == nullptr) return defaults;
  if (options->size != sizeof(Struct)) {
    refuse(Fault::argument, name, ".size is ", options->size, ", this libvlmp knows ", sizeof(Struct), ": begin with ",
           maker, "(), and compile with the vlmp.h of this library");
  }
  return *options;
}

void check_range(double value, double most, const char* name) {
  if (!(value >= 0 && value <= most)) refuse(Fault::argument, name, " ", value, ": must be from 0 to ", most);
}

vlmp_options options_of(const vlmp_options* given_options) {
  const vlmp_options options = checked(given_options, vlmp_default_options(), "options", "vlmp_default_options");
  if (options.threads < 0 || options.threads > kMostThreads) {
    refuse(Fault::argument, "threads ", options.threads, ": must be from 0 to ", kMostThreads);
  }
  check_range(options.temperature, 100, "temperature");
  check_range(options.top_p, 1, "top_p");
  return options;
}

Picture picture_of(const std::uint8_t* rgb, std::int32_t width, std::int32_t height, std::size_t stride) {
  given(rgb, "rgb");
  if (width < 1 || height < 1) {
    refuse(Fault::argument, "pixels: ", width, " x ", height, ": width and height must be from 1");
  }
  const auto row_bytes = std::size_t(width) * 3;
  if (stride == 0) stride = row_bytes;
  if (stride < row_bytes) {
    refuse(Fault::argument, "pixels: a stride of ", stride, " bytes: a row of ", width, " pixels has ", row_bytes);
  }
  check_size(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height), "of pixels");
  Picture picture = Picture::blank(width, height);
  for (int y = 0; y < height; ++y) std::copy_n(rgb + std::size_t(y) * stride, row_bytes, picture.row(y));
  return picture;
}

// --- What is open ----------------------------------------------------------------------------------------------------

// A handle's own. Whoever uses one keeps it alive; the session's lock lets one call at a time in.
struct Opened {
  Opened(const std::string& bundle, const Manifest& manifest, const vlmp_options& of)
      : options(of), session(bundle, manifest, threads_of(of), false), sampler(make_sampler(of)) {}

  static std::optional<int> threads_of(const vlmp_options& options) {
    return options.threads == 0 ? std::nullopt : std::optional<int>(options.threads);
  }
  static Sampler make_sampler(const vlmp_options& options) {
    return {options.temperature, options.top_p, options.seed};
  }

  void stop() {
    State running = State::answering;
    state.compare_exchange_strong(running, State::stopping);
  }
  bool is_over() const { return closed || state == State::stopping; }

  enum class State { idle, answering, stopping };

  const vlmp_options options;
  Session session;
  Sampler sampler;
  double load_ms = 0;
  std::atomic<State> state{State::idle};
  std::atomic<bool> closed{false};
};

// Has a handle to itself as long as it lives. Throws Error when the handle was closed while it waited.
class Use {
 public:
  explicit Use(std::shared_ptr<Opened> opened) : opened_(std::move(opened)), hold_(opened_->session) {
    if (opened_->closed) refuse(Fault::handle, "the handle was closed while this call waited for it");
    opened_->state = Opened::State::answering;
  }
  ~Use() { opened_->state = Opened::State::idle; }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  Opened& opened() const { return *opened_; }

 private:
  std::shared_ptr<Opened> opened_;  // outlives the hold
  Session::Hold hold_;
};

// Locked for a moment, never while anything is computed.
class Table {
 public:
  vlmp_handle add(std::shared_ptr<Opened> opened) {
    const std::lock_guard<std::mutex> lock(mutex_);
    opened_.emplace(++last_, std::move(opened));
    return last_;
  }

  std::shared_ptr<Opened> find(vlmp_handle handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = opened_.find(handle);
    if (found == opened_.end()) {
      refuse(Fault::handle, "handle ", handle, " is not open: closed already, or never given");
    }
    return found->second;
  }

  // Whether it was still there.
  bool remove(vlmp_handle handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return opened_.erase(handle) == 1;
  }

 private:
  std::mutex mutex_;
  vlmp_handle last_ = 0;
  std::unordered_map<vlmp_handle, std::shared_ptr<Opened>> opened_;
};

// Never destroyed: an app may leave handles open, and threads that use them, when it ends.
Table& table() {
  static Table& kept = *new Table;
  return kept;
}

// --- Results ---------------------------------------------------------------------------------------------------------

struct OwnedAnswer : vlmp_answer {
  std::string own_text;
  Answer own;
  std::vector<vlmp_stage> own_stages;
};

vlmp_timings timings_of(const Opened& opened, const Timings& timings) {
  return {opened.load_ms,     timings.preprocess_ms, timings.vision_ms,       timings.prefill_ms,
          timings.decode_ms, timings.first_token_ms(), timings.decoded_tokens};
}

std::unique_ptr<OwnedAnswer> owned(const Opened& opened, Answer&& answer, bool of_picture) {
  auto result = std::make_unique<OwnedAnswer>();
  static_cast<vlmp_answer&>(*result) = {};
  result->own = std::move(answer);
  result->own_text = opened.session.tokenizer().decode(result->own.tokens);
  const Answer& own = result->own;
  result->text = result->own_text.c_str();
  result->text_bytes = result->own_text.size();
  result->tokens = own.tokens.data();
  result->num_tokens = own.tokens.size();
  result->stopped = own.stopped ? 1 : 0;
  result->timings = timings_of(opened, own.timings);
  if (!of_picture) return result;
  if (!own.kept.empty()) {
    for (const std::vector<std::int32_t>& kept : own.earlier) result->own_stages.push_back({kept.data(), kept.size()});
    result->own_stages.push_back({own.kept.data(), own.kept.size()});
    result->kept = own.kept.data();
    result->order = own.order.data();
    result->num_kept = own.kept.size();
    result->stages = result->own_stages.data();
    result->num_stages = result->own_stages.size();
  }
  const ImageSpec& image = opened.session.manifest().image;
  result->visual_tokens = image.visual_tokens;
  result->grid_rows = image.grid_rows;
  result->grid_columns = image.grid_columns;
  result->image_width = image.width;
  result->image_height = image.height;
  result->photo_left = own.photo.left;
  result->photo_top = own.photo.top;
  result->photo_width = own.photo.width;
  result->photo_height = own.photo.height;
  return result;
}

struct OwnedFacts : vlmp_facts {
  Manifest own;
  std::string own_pruner;
};

std::unique_ptr<OwnedFacts> owned(const Manifest& manifest) {
  auto result = std::make_unique<OwnedFacts>();
  result->own = manifest;
  result->own_pruner = manifest.pruners();
  const Manifest& own = result->own;
  static_cast<vlmp_facts&>(*result) = {own.model.c_str(),
                                       own.checkpoint.c_str(),
                                       own.target.c_str(),
                                       own.precision.c_str(),
                                       own.quantization.c_str(),
                                       result->own_pruner.c_str(),
                                       static_cast<std::int32_t>(own.stages.size()),
                                       own.image.visual_tokens,
                                       own.num_kept(),
                                       own.image.width,
                                       own.image.height,
                                       own.image.grid_rows,
                                       own.image.grid_columns,
                                       own.prompt.text_len,
                                       own.prompt.max_new_tokens,
                                       own.size_bytes()};
  return result;
}

// --- Turns -----------------------------------------------------------------------------------------------------------

Turn turn_of(Opened& opened, const vlmp_turn& options) {
  Turn turn;
  if (options.max_new_tokens != 0) turn.max_new_tokens = options.max_new_tokens;
  turn.control_tokens = options.control_tokens != 0;
  turn.stop = [&opened] { return opened.is_over(); };
  if (options.on_text != nullptr) {
    turn.on_text = [&opened, options](std::string_view piece) {
      if (options.on_text(options.user, std::string(piece).c_str(), piece.size()) != 0) opened.stop();
    };
  }
  return turn;
}

vlmp_turn options_of(const vlmp_turn* given_turn) {
  const vlmp_turn turn = checked(given_turn, vlmp_default_turn(), "turn", "vlmp_default_turn");
  if (turn.max_new_tokens < 0) {
    refuse(Fault::argument, "max_new_tokens ", turn.max_new_tokens, ": must be from 1, or 0 for the bundle's");
  }
  return turn;
}

// A turn with a picture, or a reply without one.
vlmp_status answer_turn(vlmp_handle handle, const std::function<Picture()>& picture, const char* prompt,
                        const vlmp_turn* given_turn, vlmp_answer** answer) noexcept {
  clear(answer);
  return guard([&] {
    const vlmp_turn options = options_of(given_turn);
    const std::string words = text_of(prompt, "prompt");
    const Use use(table().find(handle));
    Opened& opened = use.opened();
    const Turn turn = turn_of(opened, options);
    auto result = owned(opened,
                        picture ? first_turn(opened.session, picture, words, opened.sampler, turn)
                                : next_turn(opened.session, words, opened.sampler, turn),
                        static_cast<bool>(picture));
    if (answer != nullptr) *answer = result.release();
  });
}

}  // namespace
}  // namespace vlmp

using namespace vlmp;

const char* vlmp_version(void) { return VLMP_VERSION; }

const char* vlmp_last_error(void) { return last_line; }

void vlmp_set_log(vlmp_on_log on_log, void* user) {
  guard([&] { set_log(on_log, user); });
}

vlmp_status vlmp_open(const char* bundle, const vlmp_options* options, vlmp_handle* handle) {
  clear(handle);
  return guard([&] {
    given(handle, "handle");
    const vlmp_options checked_options = options_of(options);
    const std::string folder = path_of(bundle, "bundle");
    const Manifest manifest = read_manifest(folder, checked_options.check_hashes != 0);
    Stopwatch watch;
    const auto opened = std::make_shared<Opened>(folder, manifest, checked_options);
    opened->load_ms = watch.lap_ms();
    *handle = table().add(opened);
  });
}

vlmp_status vlmp_close(vlmp_handle handle) {
  return guard([&] {
    const std::shared_ptr<Opened> opened = table().find(handle);
    opened->session.check_caller();
    if (!table().remove(handle)) refuse(Fault::handle, "handle ", handle, " is being closed by another thread");
    opened->closed = true;
    const Session::Hold wait(opened->session);
  });
}

vlmp_status vlmp_reset(vlmp_handle handle) {
  return guard([&] {
    const Use use(table().find(handle));
    use.opened().session.reset();
    use.opened().sampler = Opened::make_sampler(use.opened().options);
  });
}

vlmp_status vlmp_ask(vlmp_handle handle, const char* image, const char* prompt, const vlmp_turn* turn,
                     vlmp_answer** answer) {
  return answer_turn(handle, [&] { return open_picture(path_of(image, "image")); }, prompt, turn, answer);
}

vlmp_status vlmp_ask_pixels(vlmp_handle handle, const std::uint8_t* rgb, std::int32_t width, std::int32_t height,
                            std::size_t stride, const char* prompt, const vlmp_turn* turn, vlmp_answer** answer) {
  return answer_turn(handle, [&] { return picture_of(rgb, width, height, stride); }, prompt, turn, answer);
}

vlmp_status vlmp_reply(vlmp_handle handle, const char* prompt, const vlmp_turn* turn, vlmp_answer** answer) {
  return answer_turn(handle, nullptr, prompt, turn, answer);
}

vlmp_status vlmp_stop(vlmp_handle handle) {
  return guard([&] { table().find(handle)->stop(); });
}

void vlmp_answer_free(vlmp_answer* answer) { delete static_cast<OwnedAnswer*>(answer); }

vlmp_status vlmp_read_facts(const char* bundle, vlmp_facts** facts) {
  clear(facts);
  return guard([&] {
    given(facts, "facts");
    *facts = owned(read_manifest(path_of(bundle, "bundle"), false)).release();
  });
}

vlmp_status vlmp_facts_of(vlmp_handle handle, vlmp_facts** facts) {
  clear(facts);
  return guard([&] {
    given(facts, "facts");
    *facts = owned(table().find(handle)->session.manifest()).release();
  });
}

void vlmp_facts_free(vlmp_facts* facts) { delete static_cast<OwnedFacts*>(facts); }
