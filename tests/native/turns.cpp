// One session of the runner in several hands, for test_native_turns.py. Prints `good`, or says what went wrong.
//
//   turns threads BUNDLE IMAGE ROUNDS   two threads ask one session: each gets the answers that one alone gets
//   turns calls BUNDLE IMAGE            callbacks that call their session, or fail, in every place of a turn; the
//                                       tokenizer must know a token <far>, which the model does not
#include <functional>
#include <iostream>
#include <map>
#include <stdexcept>
#include <thread>

#include "error.h"
#include "turn.h"

namespace {

using vlmp::Answer;
using vlmp::Session;
using vlmp::Turn;

const std::string kQuestions[] = {"What is in this picture?", "How many circles are there?"};

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

Turn short_turn() {
  Turn turn;
  turn.max_new_tokens = 4;
  turn.ignore_end = true;
  return turn;
}

Answer ask(Session& session, const std::string& image, const std::string& question, const Turn& turn = short_turn()) {
  vlmp::Sampler greedy(0, 1, 0);
  return vlmp::first_turn(session, [&] { return vlmp::open_picture(image); }, question, greedy, turn);
}

Answer reply(Session& session, const Turn& turn = short_turn(), const std::string& question = "And now?") {
  vlmp::Sampler greedy(0, 1, 0);
  return vlmp::next_turn(session, question, greedy, turn);
}

void threads(Session& session, const std::string& image, int rounds) {
  std::vector<std::int32_t> wanted[2];
  for (int place : {0, 1}) wanted[place] = ask(session, image, kQuestions[place]).tokens;
  require(wanted[0] != wanted[1], "both questions have one answer");
  int wrong[2] = {0, 0};
  std::vector<std::thread> running;
  for (int place : {0, 1}) {
    running.emplace_back([&, place] {
      for (int round = 0; round < rounds; ++round) {
        try {
          if (ask(session, image, kQuestions[place]).tokens != wanted[place]) ++wrong[place];
        } catch (const std::exception&) {
          ++wrong[place];
        }
      }
    });
  }
  for (std::thread& one : running) one.join();
  require(wrong[0] + wrong[1] == 0,
          std::to_string(wrong[0] + wrong[1]) + " of " + std::to_string(2 * rounds) + " answers are wrong");
}

// A turn of which every callback does `work`.
Turn with_callbacks(const std::function<void()>& work) {
  Turn turn = short_turn();
  turn.on_phase = [=](const vlmp::Phase&) { work(); };
  turn.on_text = [=](std::string_view) { work(); };
  turn.on_logits = [=](const std::vector<float>&) { work(); };
  return turn;
}

void calls(Session& session, const std::string& image) {
  const std::vector<std::int32_t> first = ask(session, image, kQuestions[0]).tokens;
  const std::vector<std::int32_t> second = reply(session).tokens;
  const std::size_t pixels = session.manifest().method(vlmp::MethodName::vision).input("image").elements();
  const std::size_t visual = session.manifest().method(vlmp::MethodName::vision).output("visual").elements();
  int refused = 0;
  const std::function<void()> ways[] = {
      [&] { ask(session, image, kQuestions[1]); },
      [&] { reply(session); },
      [&] { session.vision(std::vector<float>(pixels)); },
      [&] { session.prefill({5}, vlmp::Seen{std::vector<float>(visual), {}, {}}); },
      [&] { session.decode(5); },
      [&] { session.extend({5}); },
  };
  const Turn calling = with_callbacks([&] {
    for (const auto& way : ways) {
      try {
        way();
      } catch (const vlmp::Error& error) {
        require(std::string(error.what()).rfind("a callback called the session", 0) == 0, error.what());
        ++refused;
      }
    }
  });
  require(ask(session, image, kQuestions[0], calling).tokens == first, "refused calls changed the answer");
  require(reply(session, calling).tokens == second, "refused calls changed the reply");
  require(refused >= 6 * 12, "a call from within a callback was let through");

  // A callback that fails: in every place of the second turn, after which it is tried again.
  for (int place = 0;; ++place) {
    ask(session, image, kQuestions[0]);
    const vlmp::Progress before = session.progress;
    int left = place;
    bool failed = false;
    try {
      reply(session, with_callbacks([&] {
              if (left-- == 0) throw std::runtime_error("stop");
            }));
    } catch (const std::runtime_error&) {
      failed = true;
    }
    if (!failed) {
      require(place > 4, "the callbacks were hardly called");
      break;
    }
    require(session.progress.past > before.past, "a turn that was fed is not in the conversation");
    reply(session);
    require(ask(session, image, kQuestions[0]).tokens == first, "a failed callback left something behind");
    require(reply(session).tokens == second, "a failed callback left something behind");
  }

  // A turn that fails while it is fed, when the answer's last token is in the caches already, leaves all as it was.
  Turn cut = short_turn();
  cut.max_new_tokens = 1;
  ask(session, image, kQuestions[0], cut);
  const std::vector<std::int32_t> third = reply(session).tokens;
  ask(session, image, kQuestions[0], cut);
  const vlmp::Progress before = session.progress;
  require(before.unfed.has_value(), "the answer has ended");
  bool failed = false;
  try {
    reply(session, short_turn(), "<far>");
  } catch (const vlmp::Error& error) {
    failed = std::string(error.what()).find("is not in the model's vocabulary") != std::string::npos;
  }
  require(failed, "a token that the model does not know was taken");
  require(session.progress.past == before.past && session.progress.unfed == before.unfed, "a failed turn left traces");
  require(reply(session).tokens == third, "a failed turn changed the next one");
}

}  // namespace

int main(int count, char** values) {
  try {
    const std::vector<std::string> given(values + 1, values + count);
    const vlmp::Manifest manifest = vlmp::read_manifest(given.at(1));
    Session session(given.at(1), manifest, 1, false);
    if (given.at(0) == "threads") {
      threads(session, given.at(2), std::stoi(given.at(3)));
    } else {
      calls(session, given.at(2));
    }
    std::cout << "good" << std::endl;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "turns: " << error.what() << std::endl;
    return 1;
  }
}
