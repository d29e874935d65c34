// libvlmp as an app calls it, through vlmp.h alone, for test_libvlmp.py. Prints `good`, or says what went wrong.
//
//   calls tell BUNDLE IMAGE PROMPT REPLY              stdout: a JSON list of both answers
//   calls pixels BUNDLE RGB WIDTH HEIGHT STRIDE PROMPT   the same of one answer about raw pixels
//   calls facts BUNDLE                                stdout: a JSON list: facts before opening, and after
//   calls CHECK BUNDLE IMAGE [OTHER BUNDLE]           CHECK: a name in `checks` below
#include "vlmp.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <clocale>
#include <csignal>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using Json = nlohmann::json;
using Tokens = std::vector<std::int32_t>;
using Work = std::function<void()>;

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what + " (" + vlmp_last_error() + ")");
}

void expect(vlmp_status found, vlmp_status wanted, const std::string& what) {
  require(found == wanted, what + ": status " + std::to_string(found) + ", not " + std::to_string(wanted));
}

struct Given {
  std::string bundle, image, other;
};

struct Free {
  void operator()(vlmp_answer* answer) const { vlmp_answer_free(answer); }
  void operator()(vlmp_facts* facts) const { vlmp_facts_free(facts); }
};
using Answer = std::unique_ptr<vlmp_answer, Free>;
using Facts = std::unique_ptr<vlmp_facts, Free>;

class Handle {
 public:
  explicit Handle(const std::string& bundle, vlmp_options options = vlmp_default_options()) {
    if (options.threads == 0) options.threads = 1;
    expect(vlmp_open(bundle.c_str(), &options, &number_), VLMP_OK, "open");
  }
  ~Handle() { vlmp_close(number_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator vlmp_handle() const { return number_; }

 private:
  vlmp_handle number_ = 0;
};

// A turn of so many tokens that hands each piece to a function; it says whether to stop.
class Turn {
 public:
  using Listener = std::function<bool(const std::string&)>;
  explicit Turn(int tokens = 0, Listener listener = {}) : turn_(vlmp_default_turn()), listener_(std::move(listener)) {
    turn_.max_new_tokens = tokens;
    turn_.user = this;
    turn_.on_text = [](void* user, const char* piece, std::size_t bytes) {
      auto& self = *static_cast<Turn*>(user);
      require(std::string(piece).size() == bytes, "a piece is longer than it says");
      self.heard += piece;
      return self.listener_ && self.listener_(piece) ? 7 : 0;
    };
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  const vlmp_turn* get() const { return &turn_; }
  vlmp_turn* operator->() { return &turn_; }

  std::string heard;

 private:
  vlmp_turn turn_;
  Listener listener_;
};

Answer checked(vlmp_status status, vlmp_answer* answer, const Turn& turn, const char* what) {
  expect(status, VLMP_OK, what);
  require(answer != nullptr && std::string(answer->text).size() == answer->text_bytes, "no answer");
  require(turn.get()->on_text == nullptr || turn.heard == answer->text, "the pieces are not the answer");
  return Answer(answer);
}

const char* const kPrompt = "What is in this picture?";
const char* const kSecond = "How many are there?";

Answer ask(vlmp_handle handle, const Given& given, const Turn& turn = Turn(), const char* prompt = kPrompt) {
  vlmp_answer* answer = nullptr;
  const vlmp_status status = vlmp_ask(handle, given.image.c_str(), prompt, turn.get(), &answer);
  return checked(status, answer, turn, "ask");
}

Answer reply(vlmp_handle handle, const Turn& turn = Turn(), const char* prompt = kSecond) {
  vlmp_answer* answer = nullptr;
  const vlmp_status status = vlmp_reply(handle, prompt, turn.get(), &answer);
  return checked(status, answer, turn, "reply");
}

Tokens tokens_of(const Answer& answer) { return {answer->tokens, answer->tokens + answer->num_tokens}; }

bool is_start(const Tokens& part, const Tokens& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

// --- What is told ----------------------------------------------------------------------------------------------------

Json list(const std::int32_t* values, std::size_t count) { return Tokens(values, values + count); }

Json told(const vlmp_answer& answer) {
  Json stages = Json::array();
  for (std::size_t stage = 0; stage < answer.num_stages; ++stage) {
    stages.push_back(list(answer.stages[stage].kept, answer.stages[stage].num_kept));
  }
  const vlmp_timings& t = answer.timings;
  return {{"text", answer.text},
          {"tokens", list(answer.tokens, answer.num_tokens)},
          {"stopped", answer.stopped},
          {"kept", list(answer.kept, answer.num_kept)},
          {"order", list(answer.order, answer.num_kept)},
          {"stages", stages},
          {"visual_tokens", answer.visual_tokens},
          {"grid", {answer.grid_rows, answer.grid_columns}},
          {"image", {answer.image_width, answer.image_height}},
          {"photo", {answer.photo_left, answer.photo_top, answer.photo_width, answer.photo_height}},
          {"decoded_tokens", t.decoded_tokens},
          {"ms", {t.load_ms, t.preprocess_ms, t.vision_ms, t.prefill_ms, t.decode_ms, t.first_token_ms}}};
}

void tell(const std::vector<std::string>& given) {
  const Handle handle(given.at(0));
  const Given asked{given.at(0), given.at(1), ""};
  const Turn first, second;
  const Answer answer = ask(handle, asked, first, given.at(2).c_str());
  const Answer next = reply(handle, second, given.at(3).c_str());
  std::cout << Json{told(*answer), told(*next)};
}

void pixels(const std::vector<std::string>& given) {
  std::ifstream file(given.at(1), std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  const std::vector<std::uint8_t> rgb(bytes.begin(), bytes.end());  // of the exact size, for the sanitizers
  const Handle handle(given.at(0));
  vlmp_answer* answer = nullptr;
  expect(vlmp_ask_pixels(handle, rgb.data(), std::stoi(given.at(2)), std::stoi(given.at(3)), std::stoul(given.at(4)),
                         given.at(5).c_str(), nullptr, &answer),
         VLMP_OK, "ask_pixels");
  std::cout << Json{told(*Answer(answer))};
}

Json told(const vlmp_facts& facts) {
  return {{"model", facts.model},
          {"checkpoint", facts.checkpoint},
          {"target", facts.target},
          {"precision", facts.precision},
          {"quantization", facts.quantization},
          {"pruner", facts.pruner},
          {"num_stages", facts.num_stages},
          {"visual_tokens", facts.visual_tokens},
          {"kept_tokens", facts.kept_tokens},
          {"image", {facts.image_width, facts.image_height}},
          {"grid", {facts.grid_rows, facts.grid_columns}},
          {"max_prompt_tokens", facts.max_prompt_tokens},
          {"max_new_tokens", facts.max_new_tokens},
          {"bundle_bytes", facts.bundle_bytes}};
}

void facts(const std::vector<std::string>& given) {
  vlmp_facts *before = nullptr, *after = nullptr;
  expect(vlmp_read_facts(given.at(0).c_str(), &before), VLMP_OK, "read_facts");
  const Facts first(before);
  {
    const Handle handle(given.at(0));
    expect(vlmp_facts_of(handle, &after), VLMP_OK, "facts_of");
  }
  const Facts second(after);  // it outlives the handle
  std::cout << Json{told(*first), told(*second)};
}

// --- Stopping --------------------------------------------------------------------------------------------------------

// Sampled, since vlmp-tiny's own answers have few tokens. The seed is the same, and so are the answers.
vlmp_options talkative() {
  vlmp_options options = vlmp_default_options();
  options.temperature = 20;
  options.seed = 3;
  return options;
}

vlmp_handle fresh(vlmp_handle handle) {
  expect(vlmp_reset(handle), VLMP_OK, "reset");
  return handle;
}

Tokens long_answer(vlmp_handle handle, const Given& given) {
  Tokens whole = tokens_of(ask(fresh(handle), given));
  require(whole.size() > 9, "the answer is too short for this test: take another seed");
  return whole;
}

// A reply to a stopped answer is that to an answer of as many tokens.
void require_goes_on(vlmp_handle stopped, std::size_t tokens, const Given& given) {
  const Tokens found = tokens_of(reply(stopped));
  const Handle other(given.bundle, talkative());
  ask(other, given, Turn(static_cast<int>(tokens)));
  require(found == tokens_of(reply(other)), "a reply to a stopped answer is another");
}

void stop_from_the_callback(const Given& given) {
  const Handle handle(given.bundle, talkative());
  const Tokens whole = long_answer(handle, given), second = tokens_of(reply(handle));
  require(second.size() > 1, "the reply is too short for this test: take another seed");
  for (const bool by_call : {false, true}) {
    for (const int last : {1, 3}) {
      int pieces = 0;
      const Turn turn(0, [&](const std::string&) {
        const bool enough = ++pieces == last;
        if (enough && by_call) expect(vlmp_stop(handle), VLMP_OK, "stop in a callback");
        return enough && !by_call;
      });
      const Answer answer = ask(fresh(handle), given, turn);
      require(answer->stopped == 1 && pieces == last, "it was not stopped");
      require(answer->num_tokens < whole.size() && is_start(tokens_of(answer), whole), "other tokens when stopped");
      require(answer->num_kept > 0, "the kept tokens are not told");
      require_goes_on(handle, answer->num_tokens, given);
    }
  }
  const auto enough = [](const std::string&) { return true; };
  // In the last piece it has ended already.
  const Answer answer = ask(handle, given, Turn(1, enough));
  require(answer->stopped == 0 && answer->num_tokens == 1, "an answer that had ended was stopped");
  ask(fresh(handle), given);
  const Answer cut = reply(handle, Turn(0, enough));
  require(cut->stopped == 1 && cut->num_tokens < second.size(), "a reply was not stopped");
  require(is_start(tokens_of(cut), second), "a stopped reply has other tokens");
}

void stop_from_another_thread(const Given& given) {
  const Handle handle(given.bundle, talkative());
  const Tokens whole = long_answer(handle, given);
  for (int round = 0; round < 5; ++round) {
    std::atomic<bool> begun{false}, stopped{false};
    std::thread other([&] {
      while (!begun) std::this_thread::yield();
      vlmp_stop(handle);
      stopped = true;
    });
    // While this thread is in the callback it holds the handle: a stop that waited for it would never come.
    std::size_t pieces = 0;
    const Turn turn(0, [&](const std::string&) {
      ++pieces;
      begun = true;
      while (!stopped) std::this_thread::yield();
      return false;
    });
    const Answer answer = ask(fresh(handle), given, turn);
    other.join();
    require(answer->stopped == 1 && answer->num_tokens < whole.size(), "it was not stopped");
    require(pieces <= 2, "it went on after the next token");
    require(is_start(tokens_of(answer), whole), "other tokens when stopped");
    require_goes_on(handle, answer->num_tokens, given);
  }
}

// A thread that stops without pause comes before the first token, sooner or later.
void stop_before_the_first_token(const Given& given) {
  const Handle handle(given.bundle, talkative());
  // Cut, so that the reply has to feed a token before its own: there is time for a stop.
  const Tokens first = (ask(fresh(handle), given, Turn(3)), tokens_of(reply(handle)));
  for (const bool of_picture : {true, false}) {
    bool seen = false;
    for (int round = 0; round < 200 && !seen; ++round) {
      ask(fresh(handle), given, Turn(3));
      std::atomic<bool> over{false};
      std::thread other([&] {
        while (!over) vlmp_stop(handle);
      });
      const Turn turn;
      vlmp_answer* stopped = nullptr;
      const vlmp_status status = of_picture ? vlmp_ask(handle, given.image.c_str(), "How?", turn.get(), &stopped)
                                            : vlmp_reply(handle, kSecond, turn.get(), &stopped);
      over = true;
      other.join();
      const Answer answer = checked(status, stopped, turn, "a stopped turn");
      if (answer->num_tokens > 0) continue;
      seen = true;
      require(answer->stopped == 1 && turn.heard.empty() && answer->num_kept == 0, "an empty answer has something");
      if (of_picture) {
        expect(vlmp_reply(handle, kSecond, nullptr, nullptr), VLMP_ERROR_CONVERSATION, "a reply without a picture");
      } else {
        require(tokens_of(reply(handle)) == first, "a turn that did not begin changed the conversation");
      }
    }
    require(seen, "no turn was stopped before its first token");
  }
}

void stop_when_nothing_runs(const Given& given) {
  const Handle handle(given.bundle);
  const Answer whole = ask(handle, given);
  expect(vlmp_stop(handle), VLMP_OK, "stop");
  const Answer again = ask(handle, given);
  require(again->stopped == 0 && tokens_of(again) == tokens_of(whole), "a stop before the question counted");
}

// --- Threads ---------------------------------------------------------------------------------------------------------

// What went wrong in threads, of which no exception may leave.
class Together {
 public:
  void add(Work work) {
    threads_.emplace_back([this, work = std::move(work)] {
      try {
        work();
      } catch (const std::exception& error) {
        const std::lock_guard<std::mutex> lock(mutex_);
        wrong_ = error.what();
      }
    });
  }
  void finish() {
    for (std::thread& thread : threads_) thread.join();
    require(wrong_.empty(), wrong_);
  }

 private:
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::string wrong_;
};

void two_threads_with_one_handle(const Given& given) {
  const Handle handle(given.bundle);
  const char* const prompts[] = {kPrompt, "What colour is the object?"};
  Tokens wanted[2];
  for (int place : {0, 1}) wanted[place] = tokens_of(ask(handle, given, Turn(6), prompts[place]));
  require(wanted[0] != wanted[1], "both questions have one answer");
  Together together;
  for (int place : {0, 1}) {
    together.add([&, place] {
      for (int round = 0; round < 6; ++round) {
        require(tokens_of(ask(handle, given, Turn(6), prompts[place])) == wanted[place], "an answer is another");
      }
    });
  }
  together.finish();
}

void two_handles_in_two_threads(const Given& given) {
  const std::string bundles[] = {given.bundle, given.other};
  Tokens wanted[2][2];
  for (int place : {0, 1}) {
    const Handle handle(bundles[place]);
    wanted[place][0] = tokens_of(ask(handle, given, Turn(6)));
    wanted[place][1] = tokens_of(reply(handle, Turn(6)));
  }
  Together together;
  for (int place : {0, 1}) {
    together.add([&, place] {
      for (int round = 0; round < 3; ++round) {  // opened and closed beside each other, too
        const Handle handle(bundles[place]);
        for (int turn = 0; turn < 2; ++turn) {
          require(tokens_of(ask(handle, given, Turn(6))) == wanted[place][0], "an answer is another");
          require(tokens_of(reply(handle, Turn(6))) == wanted[place][1], "a reply is another");
        }
      }
    });
  }
  together.finish();
}

void numbers_of_threads(const Given& given) {
  vlmp_options two = vlmp_default_options();
  two.threads = 2;
  Tokens wanted;
  {
    const Handle handle(given.bundle);  // of one thread
    wanted = tokens_of(ask(handle, given));
    vlmp_handle other = 5;
    expect(vlmp_open(given.bundle.c_str(), &two, &other), VLMP_ERROR_ARGUMENT, "another number of threads");
    require(other == 0 && std::string(vlmp_last_error()).find("another bundle is open, with 1 threads") !=
                              std::string::npos, "another message");
    vlmp_options as_it_is = vlmp_default_options();
    expect(vlmp_open(given.bundle.c_str(), &as_it_is, &other), VLMP_OK, "threads as they are");
    expect(vlmp_close(other), VLMP_OK, "close");
    require(tokens_of(ask(handle, given)) == wanted, "a refused number changed an answer");
  }
  const Handle handle(given.bundle, two);
  require(tokens_of(ask(handle, given)) == wanted, "two threads have another answer");
}

// --- Callbacks -------------------------------------------------------------------------------------------------------

void callbacks_that_call(const Given& given) {
  const Handle handle(given.bundle, talkative()), other(given.bundle, talkative());
  const Tokens first = long_answer(handle, given), second = tokens_of(reply(handle));
  int refused = 0;
  const auto listen = [&](const std::string&) {
    vlmp_answer* answer = nullptr;
    const vlmp_status found[] = {vlmp_ask(handle, given.image.c_str(), kPrompt, nullptr, &answer),
                                 vlmp_reply(handle, kPrompt, nullptr, &answer), vlmp_reset(handle),
                                 vlmp_close(handle)};
    for (const vlmp_status status : found) expect(status, VLMP_ERROR_BUSY, "a call in a callback");
    vlmp_facts* facts = nullptr;
    expect(vlmp_facts_of(handle, &facts), VLMP_OK, "facts in a callback");
    vlmp_facts_free(facts);
    if (refused++ == 0) require(tokens_of(ask(other, given)) == first, "another handle in a callback");
    return false;
  };
  require(tokens_of(ask(fresh(handle), given, Turn(0, listen))) == first, "refused calls changed the answer");
  require(tokens_of(reply(handle, Turn(0, listen))) == second, "refused calls changed the reply");
  require(refused > 4, "the callback was hardly called");
}

// Of C++. They end at libvlmp.
void callbacks_that_throw(const Given& given) {
  const Handle handle(given.bundle);
  const Tokens first = tokens_of(ask(handle, given));
  for (const bool of_standard : {true, false}) {
    const Turn turn(0, [&](const std::string&) -> bool {
      if (of_standard) throw std::runtime_error("the listener fell\nover");
      throw 5;
    });
    vlmp_answer* answer = nullptr;
    expect(vlmp_ask(handle, given.image.c_str(), kPrompt, turn.get(), &answer), VLMP_ERROR_INTERNAL, "a throw");
    require(answer == nullptr, "an answer after a throw");
    const std::string said = vlmp_last_error();
    require(said == (of_standard ? "the listener fell over" : "a callback threw what is no std::exception"), said);
    require(tokens_of(ask(handle, given)) == first, "a throw left something behind");
  }
}

// --- Closing, and beginning again ------------------------------------------------------------------------------------

void require_closed(vlmp_handle handle, const Given& given) {
  vlmp_answer* answer = nullptr;
  vlmp_facts* facts = nullptr;
  const std::uint8_t pixel[3] = {};
  const vlmp_status found[] = {vlmp_ask(handle, given.image.c_str(), kPrompt, nullptr, &answer),
                               vlmp_ask_pixels(handle, pixel, 1, 1, 0, kPrompt, nullptr, &answer),
                               vlmp_reply(handle, kPrompt, nullptr, &answer),
                               vlmp_stop(handle),
                               vlmp_reset(handle),
                               vlmp_facts_of(handle, &facts),
                               vlmp_close(handle)};
  for (const vlmp_status status : found) expect(status, VLMP_ERROR_HANDLE, "a closed handle");
  require(answer == nullptr && facts == nullptr, "a closed handle gave something");
}

void handles_that_are_closed(const Given& given) {
  vlmp_handle handles[2] = {};
  for (vlmp_handle& handle : handles) {
    expect(vlmp_open(given.bundle.c_str(), nullptr, &handle), VLMP_OK, "open");
    require(handle != 0, "a handle is 0");
  }
  const Answer answer = ask(handles[0], given);
  const Json before = told(*answer);
  expect(vlmp_close(handles[0]), VLMP_OK, "close");
  require(told(*answer) == before, "an answer went with its handle");
  require_closed(handles[0], given);
  require(std::string(vlmp_last_error()).find("is not open: closed already") != std::string::npos, "another message");
  ask(handles[1], given);
  vlmp_handle third = 0;
  expect(vlmp_open(given.bundle.c_str(), nullptr, &third), VLMP_OK, "open");
  require(third != handles[0] && third != handles[1], "a number is given twice");
  require_closed(handles[0], given);
  for (const vlmp_handle handle : {handles[1], third}) expect(vlmp_close(handle), VLMP_OK, "close");
  for (const vlmp_handle handle : {vlmp_handle{0}, vlmp_handle{12345}, ~vlmp_handle{0}}) require_closed(handle, given);
  require_closed(handles[1], given);
}

void close_while_answering(const Given& given) {
  const Tokens whole = long_answer(Handle(given.bundle, talkative()), given);
  for (int round = 0; round < 3; ++round) {
    const vlmp_options options = talkative();
    vlmp_handle handle = 0;
    expect(vlmp_open(given.bundle.c_str(), &options, &handle), VLMP_OK, "open");
    std::atomic<bool> begun{false}, closing{false};
    std::atomic<int> closed{0}, refused{0};
    Together together;
    together.add([&] {
      const Turn turn(0, [&](const std::string&) {
        begun = true;
        while (!closing) std::this_thread::yield();
        vlmp_facts* open = nullptr;
        while (vlmp_facts_of(handle, &open) == VLMP_OK) vlmp_facts_free(open);  // until it is being closed
        require(closed == 0, "a close did not wait for the answer");
        return false;
      });
      const Answer answer = ask(handle, given, turn);
      require(answer->stopped == 1 && answer->num_tokens < whole.size(), "closing did not end the answer");
      require(is_start(tokens_of(answer), whole), "other tokens when closed");
    });
    together.add([&] {  // it waits, and is told
      while (!begun) std::this_thread::yield();
      vlmp_answer* answer = nullptr;
      expect(vlmp_reply(handle, kSecond, nullptr, &answer), VLMP_ERROR_HANDLE, "a call that waited");
    });
    for (int closer = 0; closer < 2; ++closer) {
      together.add([&] {
        while (!begun) std::this_thread::yield();
        closing = true;
        const vlmp_status status = vlmp_close(handle);
        require(status == VLMP_OK || status == VLMP_ERROR_HANDLE, "another status of close");
        ++(status == VLMP_OK ? closed : refused);
      });
    }
    together.finish();
    require(closed == 1 && refused == 1, "closed twice");
    require_closed(handle, given);
  }
}

void handles_that_stay_open(const Given& given) {
  vlmp_handle handle = 0;
  expect(vlmp_open(given.bundle.c_str(), nullptr, &handle), VLMP_OK, "open");
  ask(handle, given);
}

void resetting(const Given& given) {
  vlmp_options warm = talkative();
  const auto talk = [&](vlmp_handle handle) {
    std::vector<Tokens> all = {tokens_of(ask(handle, given)), tokens_of(reply(handle))};
    all.push_back(tokens_of(ask(handle, given)));  // goes on with the same random numbers
    return all;
  };
  const Handle handle(given.bundle, warm);
  const std::vector<Tokens> wanted = talk(handle);
  require(wanted[0] != wanted[2], "sampling has no chance in it");
  expect(vlmp_reset(handle), VLMP_OK, "reset");
  vlmp_answer* answer = nullptr;
  expect(vlmp_reply(handle, kSecond, nullptr, &answer), VLMP_ERROR_CONVERSATION, "a reply after a reset");
  require(talk(handle) == wanted, "a reset handle is not as a fresh one was");
  const Handle fresh(given.bundle, warm);
  require(talk(fresh) == wanted, "a fresh handle with the same seed differs");
  ++warm.seed;
  const Handle other(given.bundle, warm);
  require(talk(other) != wanted, "another seed changes nothing");
}

// --- What is refused -------------------------------------------------------------------------------------------------

void wrong_arguments(const Given& given) {
  vlmp_handle handle = 77;
  const auto opening = [&](const Work& work, vlmp_options& options, const std::string& message) {
    options = vlmp_default_options();
    work();
    handle = 77;
    expect(vlmp_open(given.bundle.c_str(), &options, &handle), VLMP_ERROR_ARGUMENT, message);
    require(handle == 0 && std::string(vlmp_last_error()).find(message) != std::string::npos, message);
  };
  vlmp_options options;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  opening([&] { options.size = 0; }, options, "options.size is 0, this libvlmp knows 40");
  opening([&] { options.size += 8; }, options, "options.size is 48");
  opening([&] { std::fill_n(reinterpret_cast<unsigned char*>(&options), sizeof options, 0xA5); }, options, "size is");
  opening([&] { options.threads = -1; }, options, "threads -1: must be from 0 to 1024");
  opening([&] { options.threads = 1025; }, options, "threads 1025: must be");
  opening([&] { options.temperature = nan; }, options, "temperature nan: must be from 0 to 100");
  opening([&] { options.temperature = -0.1; }, options, "temperature -0.1");
  opening([&] { options.top_p = 1.01; }, options, "top_p 1.01: must be from 0 to 1");
  expect(vlmp_open(nullptr, nullptr, &handle), VLMP_ERROR_ARGUMENT, "bundle is NULL");
  expect(vlmp_open("", nullptr, &handle), VLMP_ERROR_ARGUMENT, "bundle is empty");
  expect(vlmp_open(given.bundle.c_str(), nullptr, nullptr), VLMP_ERROR_ARGUMENT, "handle is NULL");
  expect(vlmp_open(given.image.c_str(), nullptr, &handle), VLMP_ERROR_BUNDLE, "a file");
  expect(vlmp_open("/nowhere\n/bundle", nullptr, &handle), VLMP_ERROR_BUNDLE, "no bundle");
  require(vlmp_last_error() == std::string("/nowhere /bundle is not a bundle: it has no manifest.json"), "its message");
  vlmp_facts* facts = nullptr;
  expect(vlmp_read_facts("/nowhere", &facts), VLMP_ERROR_BUNDLE, "facts of no bundle");
  expect(vlmp_read_facts(nullptr, &facts), VLMP_ERROR_ARGUMENT, "facts of NULL");
  expect(vlmp_read_facts(given.bundle.c_str(), nullptr), VLMP_ERROR_ARGUMENT, "facts to NULL");
  require(facts == nullptr, "facts of no bundle");
  vlmp_answer_free(nullptr);
  vlmp_facts_free(nullptr);

  const Handle open(given.bundle);
  vlmp_answer* answer = nullptr;
  const auto refuses = [&](vlmp_status found, vlmp_status status, const std::string& message) {
    expect(found, status, message);
    require(answer == nullptr && std::string(vlmp_last_error()).find(message) != std::string::npos, message);
  };
  refuses(vlmp_reply(open, kSecond, nullptr, &answer), VLMP_ERROR_CONVERSATION, "no image yet: ask about one first");
  const Tokens first = tokens_of(ask(open, given)), second = tokens_of(reply(open));
  const std::string image = given.image;
  ask(open, given);
  const auto asking = [&](const char* file, const char* prompt, vlmp_status status, const std::string& message) {
    answer = reinterpret_cast<vlmp_answer*>(1);
    refuses(vlmp_ask(open, file, prompt, nullptr, &answer), status, message);
  };
  asking(nullptr, kPrompt, VLMP_ERROR_ARGUMENT, "image is NULL");
  asking("", kPrompt, VLMP_ERROR_ARGUMENT, "image is empty");
  asking(image.c_str(), nullptr, VLMP_ERROR_ARGUMENT, "prompt is NULL");
  asking(image.c_str(), "a\xff", VLMP_ERROR_ARGUMENT, "prompt is not valid UTF-8");
  asking(image.c_str(), " \n", VLMP_ERROR_PROMPT, "the prompt is empty");
  asking(image.c_str(), std::string(5000, 'x').c_str(), VLMP_ERROR_PROMPT, "the prompt has");
  asking("/nowhere.png", kPrompt, VLMP_ERROR_IMAGE, "image /nowhere.png does not exist");
  asking(given.bundle.c_str(), kPrompt, VLMP_ERROR_IMAGE, "is not a file");
  asking((given.bundle + "/manifest.json").c_str(), kPrompt, VLMP_ERROR_IMAGE, "is neither PNG nor JPEG");
  asking(given.other.c_str(), kPrompt, VLMP_ERROR_IMAGE, "cannot be read: the file is cut off");
  Turn turn;
  const auto turning = [&](vlmp_status status, const std::string& message) {
    refuses(vlmp_reply(open, kSecond, turn.get(), &answer), status, message);
    turn->size = sizeof(vlmp_turn);
    turn->max_new_tokens = 0;
  };
  turn->size = 3;
  turning(VLMP_ERROR_ARGUMENT, "turn.size is 3, this libvlmp knows 32: begin with vlmp_default_turn()");
  turn->max_new_tokens = -1;
  turning(VLMP_ERROR_ARGUMENT, "max_new_tokens -1");
  turn->max_new_tokens = 33;
  turning(VLMP_ERROR_PROMPT, "max_new_tokens 33: this bundle allows 1 to 32");
  const std::vector<std::uint8_t> row(3 * 500);
  const auto seeing = [&](const std::uint8_t* rgb, int width, int height, std::size_t stride, vlmp_status status,
                          const std::string& message) {
    refuses(vlmp_ask_pixels(open, rgb, width, height, stride, kPrompt, nullptr, &answer), status, message);
  };
  const int most = std::numeric_limits<int>::max();
  seeing(nullptr, 1, 1, 0, VLMP_ERROR_ARGUMENT, "rgb is NULL");
  seeing(row.data(), 0, 1, 0, VLMP_ERROR_ARGUMENT, "0 x 1: width and height must be from 1");
  seeing(row.data(), 1, -1, 0, VLMP_ERROR_ARGUMENT, "1 x -1");
  seeing(row.data(), 100, 1, 299, VLMP_ERROR_ARGUMENT, "a stride of 299 bytes: a row of 100 pixels has 300");
  seeing(row.data(), most, most, 0, VLMP_ERROR_IMAGE, "at most 100 megapixels are read");
  seeing(row.data(), 500, 1, 0, VLMP_ERROR_IMAGE, "one side may be at most 200 times as long");
  require(tokens_of(reply(open)) == second, "what was refused changed the conversation");
  for (vlmp_status status = VLMP_OK; status != VLMP_ERROR_CONVERSATION;) {
    status = vlmp_reply(open, kSecond, nullptr, nullptr);  // nobody wants the answer
    require(status == VLMP_OK || status == VLMP_ERROR_CONVERSATION, "a conversation that becomes full");
  }
  require(std::string(vlmp_last_error()).find("the conversation is full") != std::string::npos, "another message");
  require(tokens_of(ask(open, given)) == first, "what was refused changed an answer");
}

// In an address space that holds no more than is there. Without the sanitizers, which need a large one.
void memory_that_runs_out(const Given& given) {
  const Handle handle(given.bundle);
  const Tokens wanted = tokens_of(ask(handle, given));
  rlimit before{};
  getrlimit(RLIMIT_AS, &before);
  std::ifstream file("/proc/self/statm");
  rlim_t pages = 0;
  file >> pages;
  const rlimit tight{pages * 4096 + (rlim_t{2} << 20), before.rlim_max};
  setrlimit(RLIMIT_AS, &tight);
  vlmp_answer* answer = nullptr;
  const std::uint8_t pixel[3] = {};
  // They are never read: there is no room for a copy of 243 million bytes.
  const vlmp_status status = vlmp_ask_pixels(handle, pixel, 9000, 9000, 27000, kPrompt, nullptr, &answer);
  const std::string said = vlmp_last_error();
  setrlimit(RLIMIT_AS, &before);
  require(answer == nullptr && said == "memory ran out", said);
  expect(status, VLMP_ERROR_MEMORY, "memory that runs out");
  require(tokens_of(ask(handle, given)) == wanted, "memory that ran out left something behind");
}

// --- The process -----------------------------------------------------------------------------------------------------

void the_process_is_left_alone(const Given& given) {
  const auto handlers = [] {
    std::vector<void (*)(int)> all;
    for (int number = 1; number < 32; ++number) {
      struct sigaction action {};
      sigaction(number, nullptr, &action);
      all.push_back(action.sa_handler);
    }
    return all;
  };
  const auto signals = handlers();
  const std::terminate_handler terminate = std::get_terminate();
  const std::string locale = std::setlocale(LC_ALL, nullptr);
  std::vector<std::string> heard;
  vlmp_set_log(
      [](void* user, char level, const char* message) {
        static_cast<std::vector<std::string>*>(user)->push_back(std::string(1, level) + " " + message);
      },
      &heard);
  {
    const Handle handle(given.bundle);
    ask(handle, given);
    reply(handle);
  }
  require(std::string(vlmp_last_error()).empty(), "an error without one");
  // A program of zeros is an error of ExecuTorch, which the log tells and we do.
  vlmp_handle broken = 0;
  vlmp_options options = vlmp_default_options();
  options.check_hashes = 0;
  expect(vlmp_open(given.other.c_str(), &options, &broken), VLMP_ERROR_BUNDLE, "a broken program");
  const auto error = std::find_if(heard.begin(), heard.end(), [](const std::string& line) { return line[0] == 'E'; });
  require(error != heard.end(), "nobody heard the log");
  vlmp_set_log(nullptr, nullptr);
  const std::size_t lines = heard.size();
  expect(vlmp_open(given.other.c_str(), &options, &broken), VLMP_ERROR_BUNDLE, "a broken program");
  require(heard.size() == lines, "a log that nobody hears was heard");
  options.check_hashes = 1;
  expect(vlmp_open(given.other.c_str(), &options, &broken), VLMP_ERROR_BUNDLE, "a broken program");
  require(std::string(vlmp_last_error()).find("is damaged (sha256 differs)") != std::string::npos, "another message");
  require(handlers() == signals, "a signal's handler is another");
  require(std::get_terminate() == terminate, "the handler of std::terminate is another");
  require(locale == std::setlocale(LC_ALL, nullptr), "the locale is another");
}

const std::map<std::string, std::function<void(const Given&)>> checks = {
    {"stop_from_the_callback", stop_from_the_callback},
    {"stop_from_another_thread", stop_from_another_thread},
    {"stop_before_the_first_token", stop_before_the_first_token},
    {"stop_when_nothing_runs", stop_when_nothing_runs},
    {"two_threads_with_one_handle", two_threads_with_one_handle},
    {"two_handles_in_two_threads", two_handles_in_two_threads},
    {"numbers_of_threads", numbers_of_threads},
    {"callbacks_that_call", callbacks_that_call},
    {"callbacks_that_throw", callbacks_that_throw},
    {"handles_that_are_closed", handles_that_are_closed},
    {"close_while_answering", close_while_answering},
    {"handles_that_stay_open", handles_that_stay_open},
    {"resetting", resetting},
    {"wrong_arguments", wrong_arguments},
    {"memory_that_runs_out", memory_that_runs_out},
    {"the_process_is_left_alone", the_process_is_left_alone},
};

}  // namespace

int main(int count, char** values) {
  try {
    const std::vector<std::string> given(values + 2, values + count);
    const std::string task = values[1];
    if (task == "tell") {
      tell(given);
    } else if (task == "pixels") {
      pixels(given);
    } else if (task == "facts") {
      facts(given);
    } else {
      checks.at(task)({given.at(0), given.at(1), given.size() > 2 ? given[2] : ""});
      std::cout << "good" << std::endl;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "calls: " << error.what() << std::endl;
    return 1;
  }
}
