// vlmp_runner: answers a question about an image with an ExecuTorch bundle, or measures it. It goes by the C++ inside
// of libvlmp, not by vlmp.h, since that tells neither phases as they end nor logits nor ExecuTorch's events.
#include <array>
#include <cstdio>
#include <iostream>

#include "crashes.h"
#include "error.h"
#include "machine.h"
#include "options.h"
#include "output.h"
#include "profile.h"
#include "turn.h"
#include "vlmp.h"

namespace vlmp {
namespace {

const std::string kProgram = "vlmp_runner";

// A line on stderr, in one call to the system, so that lines of several processes do not mix.
void say(const std::string& line) { std::fputs((line + "\n").c_str(), stderr); }

std::string listed(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) text += " " + std::to_string(id);
  return text;
}

void say_phase(const Phase& phase) {
  std::array<char, 96> line{};
  if (phase.tokens == 0) {
    std::snprintf(line.data(), line.size(), "%s %.1f ms", phase.name, phase.ms);
  } else {
    std::snprintf(line.data(), line.size(), "%s %.1f ms, %d tokens, %.1f a second", phase.name, phase.ms, phase.tokens,
                  phase.tokens / phase.ms * 1e3);
  }
  say(line.data());
}

void answer(const Options& options) {
  const Manifest manifest = read_manifest(options.bundle);
  const int most = manifest.prompt.max_new_tokens;
  if (options.max_new_tokens > most) {
    fail("--max-new-tokens ", *options.max_new_tokens, ": this bundle allows 1 to ", most);
  }
  Stopwatch watch;
  Session session(options.bundle, manifest, options.threads, options.etdump.has_value());
  say_phase({"load", watch.lap_ms()});

  Sampler sampler(options.temperature, options.top_p, options.seed);
  std::string logits;
  Turn turn;
  turn.max_new_tokens = options.max_new_tokens;
  turn.ignore_end = options.ignore_end;
  turn.control_tokens = options.control_tokens;
  turn.on_phase = [](const Phase& phase) {
    if (phase.name == std::string_view("decode")) std::cout << std::endl;  // ends the answer's line
    say_phase(phase);
  };
  turn.on_text = [](std::string_view text) { std::cout << text << std::flush; };
  if (options.logits) {
    turn.on_logits = [&](const std::vector<float>& row) {
      logits.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float));
    };
  }
  const auto picture = [&] { return open_picture(options.image); };
  const Answer first = first_turn(session, picture, options.prompt, sampler, turn);
  say("tokens:" + listed(first.tokens));
  const auto kept = [&](const std::vector<std::int32_t>& tokens) {
    return "kept " + std::to_string(tokens.size()) + " of " + std::to_string(manifest.image.visual_tokens) + ":" +
           listed(tokens);
  };
  for (std::size_t stage = 0; stage < first.earlier.size(); ++stage) {
    say("stage " + std::to_string(stage + 1) + " " + kept(first.earlier[stage]));
  }
  say(kept(first.kept));
  say("order:" + listed(first.order));
  for (const std::string& reply : options.replies) {
    const Answer next = next_turn(session, reply, sampler, turn);
    say("tokens:" + listed(next.tokens));
  }
  std::array<char, 64> peak{};
  std::snprintf(peak.data(), peak.size(), "peak memory %.1f MiB", peak_mib());
  say(peak.data());
  if (options.logits) write_file(*options.logits, logits);
  if (options.etdump) write_file(*options.etdump, session.program().events());
  if (!std::cout) fail("the answer cannot be written to stdout");
}

int run(const std::vector<std::string>& arguments) {
  try {
    const Options options = parse_options(arguments);
    if (options.help) {
      std::cout << kUsage;
      return 0;
    }
    if (options.version) {
      std::cout << kProgram << " " << vlmp_version() << std::endl;
      return 0;
    }
    for (const auto& path : {options.logits, options.etdump, options.json}) {
      if (path) check_can_write(*path);
    }
    tell_crashes(one_line(kProgram + ": " + options.bundle.string()));
    if (options.runs) {
      profile(options, arguments);
    } else {
      answer(options);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << kProgram << ": " << one_line(text_of(error)) << std::endl;
  }
  return 2;
}

}  // namespace
}  // namespace vlmp

int main(int count, char** values) { return vlmp::run({values + 1, values + count}); }
