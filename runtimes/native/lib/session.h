// A bundle in memory: the four methods, the KV caches, and the bookkeeping between them. As runtimes/session.py.
//
// The graphs are pure functions: a step reads the caches and returns the new rows, which are stored here.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "manifest.h"
#include "program.h"
#include "tokenizer.h"

namespace vlmp {

// What vision tells of a picture: visual tokens [N, D]; where a stage is in the vision tower, which ones went through all
// of it, and what the language model is told that each counts for.
struct Seen {
  std::vector<float> visual;
  std::vector<std::int32_t> places;
  std::vector<float> bias;
};

// What prefill tells beside filling the caches: kept visual tokens ascending, and in the order of selection; and what
// each stage before the last has kept.
struct Prefilled {
  std::vector<float> logits;
  std::vector<std::int32_t> kept, order;
  std::vector<std::vector<std::int32_t>> earlier;
};

// What layers without keys have made of a conversation so far, [rows, width] of each.
using States = std::vector<std::vector<float>>;

// How far a conversation is: text tokens behind the image that the caches hold (rows after them are never read), the
// token of the last answer that they do not hold yet, and the states, which no call changes in place.
struct Progress {
  int past = 0;
  std::optional<std::int32_t> unfed;
  std::shared_ptr<const States> states;
};

// Runs one call at a time, a whole turn; other threads wait. All calls throw Error from within a callback that `tell`
// makes, before they wait.
class Session {
 public:
  // Has the session to itself as long as it lives.
  class Hold {
   public:
    explicit Hold(Session& session);

   private:
    std::unique_lock<std::recursive_mutex> lock_;
  };

  // manifest: what read_manifest has checked. Throws Error when the program or the tokenizer cannot be loaded.
  Session(const std::filesystem::path& bundle, const Manifest& manifest, std::optional<int> threads, bool traced);

  Session(const Session&) = delete;  // the program refers to the manifest
  Session& operator=(const Session&) = delete;

  // pixels [1, 3, height, width] -> what prefill takes of the picture.
  Seen vision(const std::vector<float>& pixels);

  // Fills the caches with prefix, image and the first text. Throws Error when `ids` exceed the bucket.
  Prefilled prefill(const std::vector<std::int32_t>& ids, const Seen& seen);

  // Appends one token; logits [V] of the next. Throws Error when the caches are full.
  std::vector<float> decode(std::int32_t token);

  // Appends up to T tokens at once, for the next turn. Throws Error when they do not fit.
  std::vector<float> extend(const std::vector<std::int32_t>& ids);

  // Makes a callback, which may not call the session: half of the turn is not done yet.
  void tell(const std::function<void()>& callback);

  // Throws Error when this thread is in such a callback.
  void check_caller() const;

  // Forgets the conversation. Old rows stay in the caches, masked until they are overwritten.
  void reset();

  // Throws Error unless so many text tokens can be appended.
  void check_room(std::size_t tokens) const;
  int room() const { return manifest_.prompt.text_len + manifest_.prompt.max_new_tokens - progress.past; }

  const Manifest& manifest() const { return manifest_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  Program& program() { return program_; }

  Progress progress;

 private:
  struct Cache {
    std::string input, output;  // names in decode and extend
    std::size_t layer;
    std::vector<float> rows;  // [heads, slots, head_dim]
  };

  struct State {
    std::string input, output;
    std::size_t elements;
  };

  struct Bias {  // of a stage that weighs what it has kept: replaced by each prefill
    std::string input, output;
    std::vector<float> values;  // [num_kept]
    bool in_tower;  // vision returns it, and prefill takes it as the others do
  };

  std::vector<std::int32_t> bucket(const std::vector<std::int32_t>& ids) const;
  std::vector<float> step(MethodName method, Inputs inputs, int tokens);
  void store(const MethodSpec& method, const Outputs& outputs, Cache& cache, int slot, int rows);
  std::shared_ptr<const States> states_of(const Outputs& outputs) const;
  std::vector<float> logits_of(const Outputs& outputs) const;

  const Manifest manifest_;
  Tokenizer tokenizer_;
  Program program_;
  std::vector<Cache> caches_;
  std::vector<State> states_;
  std::vector<Bias> biases_;
  std::recursive_mutex mutex_;
  std::atomic<std::thread::id> telling_{};  // the thread that makes a callback
};

}  // namespace vlmp
